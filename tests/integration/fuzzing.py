"""Cases that Schemathesis makes from the schema, often led to things that exist, and what every answer is held to.

Invariants: every answer is counted by who asked; every answer of 500 or more is a fault, 503 too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests
from django.urls import NoReverseMatch, reverse
from hypothesis import strategies as st
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.access import ROWS, Row

# What a wild value is now and then replaced by, so that a case comes past "there is no such thing".
KNOWN: dict[str, list[Any]] = {
    "account": ["main", "other"],
    "code": ["main", "mean", "other", "theirs"],
    "strategy": ["mean", "theirs"],
    "scope": ["firm", "account:main", "account:other", "strategy:mean", "symbol:AAPL"],
    "symbol": ["AAPL", "MSFT"],
    "client_order_id": ["known-1", "known-2"],
    "kind": ["order_qty_max", "gross_exposure_max"],
    "session": ["2026-01-05", "2026-01-06"],
    "reason": ["the fuzzer asks"],
    "side": ["buy", "sell"],
    "type": ["market", "limit"],
    "time_in_force": ["day", "gtc", "ioc"],
    "qty": ["1", "0.5"],
    "limit_price": ["100.00", None],
    "profile": ["default"],
    "to_mode": ["canary", "live"],
    "build_id": ["b1"],
    "since": ["2026-01-05T15:00:00Z"],
    "run": ["1", "2"],
    "number": ["1", "2", "9" * 18],
    "version_id": ["1", "2", "99999999999999999999"],
    "action_id": ["1", "2", "99999999999999999999"],
    "pattern_id": ["1", "99999999999999999999"],
}
WILD = ["\x00", "\ud800", "\u0000a", "9" * 5_000, -(10**30), 1e308, [[[[]]]], {"": None}, "\U0001f4a9", "'; --", True]
EXTREMES = st.sampled_from(WILD)
# What fits into an address: gunicorn refuses a longer request line before the application sees it.
IN_PATH = st.sampled_from(["\x00", "9" * 200, "a b/../c", "\U0001f4a9", "'; --", "-1", "1e3"])
# Whose account and strategy a trader's order is for; everybody else names the first.
HOMES = {"stranger": ("other", "theirs")}
# Most can be filled; the rest is too much, too little, too far from the market or nothing that the account trades.
MEANT = {
    "symbol": ["AAPL"] * 6 + ["MSFT", "TSLA"],
    "side": ["buy", "sell"],
    "qty": ["1", "2", "1", "5", "0.5", "100000", "0.000000001"],
    "type": ["market", "limit"],
    "time_in_force": ["day", "gtc", "ioc"],
}
PRICES = ["100.00", "99.99", "100.00", "99.50", "1.00", "1000.00"]
SPOILED = ["account", "strategy", *MEANT, "limit_price", "greeks", "permit_id", "client_order_id"]


@dataclass
class Tally:
    """What was asked, by whom, and what was wrong with the answers."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    orders: Counter[int] = field(default_factory=Counter)  # what POST orders answered
    gates: Counter[str] = field(default_factory=Counter)  # which gates refused one
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        return self.answers.total()

    def by(self, part: int) -> dict[Any, int]:
        """The answers counted by caller (0) or by status (1)."""
        found: Counter[Any] = Counter()
        for key, count in self.answers.items():
            found[key[part]] += count
        return dict(sorted(found.items()))

    def let_in(self) -> set[str]:
        return {who for who, status in self.answers if status < 400}

    def __str__(self) -> str:
        lines = [f"{self.cases} cases, answers {self.by(1)}", f"asked by {self.by(0)}"]
        lines.append(f"orders posted: {dict(sorted(self.orders.items()))}, refused by {dict(self.gates.most_common())}")
        return "\n".join(lines)

    def fault(self, kind: str, case: Any, who: str, answer: Any, why: str = "") -> None:
        name = f"{kind}: {case.method} {case.operation.path}"
        asked = f"{case.method} {answer.request.url} {str(answer.request.body)[:300]}"
        self.faults.setdefault(name, f"as {who}: {asked} -> {answer.status_code} {answer.text[:300]} {why}")


def led(draw: Any, values: Any, extremes: Any = EXTREMES) -> Any:
    """The object with some fields replaced by known or by extreme ones."""
    if not isinstance(values, dict):
        return values
    found = dict(values)
    for name in values:
        choice = draw(st.integers(0, 9))
        if choice < 5 and name in KNOWN:
            found[name] = draw(st.sampled_from(KNOWN[name]))
        elif choice == 9:
            found[name] = draw(extremes)
    return found


def an_order(draw: Any, who: str, name: str) -> dict[str, Any]:
    """What a strategy would send, under an id of its own; one in six with one field wild, known or left out."""
    account, strategy = HOMES.get(who, ("main", "mean"))
    order = {"client_order_id": name, "account": account, "strategy": strategy}
    order |= {field_name: draw(st.sampled_from(values)) for field_name, values in MEANT.items()}
    if order["type"] == "limit":
        order["limit_price"] = draw(st.sampled_from(PRICES))
    if draw(st.integers(0, 5)) == 0:
        spoiled = draw(st.sampled_from(SPOILED))
        order[spoiled] = draw(st.sampled_from([*KNOWN.get(spoiled, []), *WILD]))
        if draw(st.booleans()):
            del order[spoiled]
    return order


def rows_by_call(operations: list[Any]) -> dict[tuple[str, str], Row]:
    """The row of each (path, method) of the schema: the call with the fewest blanks that a row's address fits."""
    found: dict[tuple[str, str], Row] = {}
    for row in ROWS:
        try:
            address = reverse(row.name, kwargs=row.path)
        except NoReverseMatch:
            continue
        fits = [
            call
            for call in operations
            if call.method == row.method and re.fullmatch(re.sub(r"\{\w+\}", ".+", call.path), address)
        ]
        if fits:
            call = min(fits, key=lambda each: (each.path.count("{"), -len(each.path)))
            found[call.path, call.method] = row
    return found


def send(url: str, case: Any, token: str | None) -> Any:
    """Ask; None where the case cannot be written down as a request at all."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return case.call(base_url=url, headers=headers, timeout=60)
    except (UnicodeError, ValueError, requests.exceptions.InvalidURL):
        return None


POST_ORDER, *_ = ORDER_CALLS = [("/api/v1/orders", "post"), ("/api/v1/orders/check", "post")]
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
# Whose data an answer must not hold: what the two traders' keys are bound to.
NOT_FOR = {"stranger": ('"account": "main"', "account:main"), "trader": ('"account": "other"', "account:other")}


def judge(case: Any, who: str, answer: Any, row: Row, tally: Tally) -> None:
    """Count the answer and hold it to everything that must be true of any."""
    status = answer.status_code
    tally.answers[who, status] += 1
    if (case.operation.path, case.operation.method) == POST_ORDER:
        tally.orders[status] += 1
        tally.gates.update(refusing(answer))
    if status >= 500:
        tally.fault("server error", case, who, answer)
    if status < 400:
        if who not in let_in_by(row):
            tally.fault("privilege crossed", case, who, answer)
        if any(mark in answer.text for mark in NOT_FOR.get(who, ())):
            tally.fault("another account's data", case, who, answer)
    try:
        case.validate_response(answer, checks=CHECKS)
    except FailureGroup as failures:
        first = failures.exceptions[0]
        tally.fault(f"schema, {type(first).__name__}", case, who, answer, str(first)[:400])


def let_in_by(row: Row) -> set[str]:
    """A trader of another account may do there what a trader may do here; a revoked key is as good as none."""
    also = {"stranger": "trader", "revoked": "nobody"}
    return set(row.may) | {who for who, as_good_as in also.items() if as_good_as in row.may}


def refusing(answer: Any) -> list[str]:
    """The gates that refused the order of this answer."""
    if answer.status_code != 422 or answer.json()["code"] != "order_denied":
        return []
    return [check["gate"] for check in answer.json()["order"]["decision"]["checks"] if not check["passed"]]
