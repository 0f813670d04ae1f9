"""Cases that Schemathesis makes from the schema, often led to things that exist, and what every answer is held to."""

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


@dataclass
class Tally:
    """What was asked and what was wrong with the answers."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

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


CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
# Whose data an answer must not hold: what the two traders' keys are bound to.
NOT_FOR = {"stranger": ('"account": "main"', "account:main"), "trader": ('"account": "other"', "account:other")}


def judge(case: Any, who: str, answer: Any, row: Row, tally: Tally) -> None:
    """Count the answer and hold it to everything that must be true of any."""
    tally.cases += 1
    tally.statuses[answer.status_code] += 1
    if answer.status_code >= 500 and answer.status_code != 503:
        tally.fault("server error", case, who, answer)
    if answer.status_code < 400:
        # A trader of another account may do there what a trader may do here.
        may = row.may | ({"stranger"} if "trader" in row.may else set())
        if who not in may:
            tally.fault("privilege crossed", case, who, answer)
        if any(mark in answer.text for mark in NOT_FOR.get(who, ())):
            tally.fault("another account's data", case, who, answer)
    try:
        case.validate_response(answer, checks=CHECKS)
    except FailureGroup as failures:
        first = failures.exceptions[0]
        tally.fault(f"schema, {type(first).__name__}", case, who, answer, str(first)[:400])
