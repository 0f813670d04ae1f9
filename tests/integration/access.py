"""Who may do what: one row for every call of the API and every page that is not the admin's.

The matrix test asks each row as each caller, and the fuzzer holds its answers to the same rows. A view without a row
fails the matrix, so that a new address cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.keys import create_key

CALLERS = ("nobody", "viewer", "trader", "stranger", "risk", "admin", "feeder")
EVERYONE = frozenset(CALLERS)
KEYS = EVERYONE - {"nobody"}
OWN = KEYS - {"stranger"}
OFFICE = frozenset({"risk", "admin"})
RISK = frozenset({"risk"})
READERS = frozenset({"viewer", "feeder", "risk", "admin"})
CANCELLERS = frozenset({"trader", "risk", "admin"})
FEEDER = frozenset({"feeder"})
METHODS = ("get", "post", "put", "patch", "delete")

ORDER = {
    "client_order_id": "matrix-1",
    "account": "main",
    "strategy": "mean",
    "symbol": "AAPL",
    "side": "buy",
    "qty": "1",
    "type": "market",
}
WHY = {"reason": "the matrix asks"}
BUILD = {"build_id": "matrix-build"}
AT = "2026-01-05T15:00:00Z"


@dataclass(frozen=True)
class Row:
    """One call. ``may`` is who is let in; everybody else must be answered 401 (no key) or 403."""

    name: str
    method: str
    may: frozenset[str]
    path: dict[str, Any] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.method


MAIN = {"account": "main"}
SCOPE, RUN, CODE = {"scope": "account:main"}, {"run": "no-such-run"}, {"code": "mean"}
ONE, STEP = {"client_order_id": "matrix-1"}, {"number": "1"}

ROWS = [
    Row("", "get", EVERYONE),
    Row("healthz", "get", EVERYONE),
    Row("readyz", "get", EVERYONE),
    Row("schema", "get", EVERYONE),
    Row("docs", "get", EVERYONE),
    Row("metrics", "get", READERS),
    Row("build", "get", KEYS),
    Row("orders", "get", OWN, query=MAIN),
    Row("orders", "post", frozenset({"trader"}), body=ORDER),
    Row("order-check", "post", frozenset({"trader"}), body=ORDER),
    Row("order-cancel-all", "post", CANCELLERS, body=MAIN),
    Row("order", "get", OWN, ONE, MAIN),
    Row("order", "delete", CANCELLERS, ONE, MAIN),
    Row("order-attest", "post", RISK, ONE, body={**MAIN, "outcome": "rejected", **WHY}),
    Row("breakers", "get", KEYS),
    Row("breaker-trip", "post", OFFICE, SCOPE, body=WHY),
    Row("breaker-reset", "post", RISK, SCOPE, body=WHY),
    Row("kill-switch", "get", KEYS),
    Row("kill-switch", "post", RISK, body={"scope": "symbol:NONE", **WHY}),
    Row("kill-switch-run", "get", KEYS, RUN),
    Row("kill-switch-stop", "post", RISK, RUN, body=WHY),
    Row("trading-state", "get", KEYS),
    Row("trading-state", "put", RISK, body={"scope": "account:main", "state": "active", **WHY}),
    Row("ticks", "post", FEEDER, body={"ticks": [{"symbol": "AAPL", "price": "100.00", "time": AT}]}),
    Row("bars", "post", FEEDER, body={"bars": []}),
    Row("corporate-actions", "get", KEYS),
    Row(
        "corporate-actions", "post", RISK, body={"symbol": "AAPL", "ex_date": "2026-01-05", "ratio": "4", "source": "x"}
    ),
    Row("corporate-action-withdraw", "post", RISK, {"action_id": 1}, body=WHY),
    Row("data-quality", "get", KEYS),
    Row("data-release", "post", RISK, {"symbol": "AAPL"}, body=WHY),
    Row("strategies", "get", KEYS),
    Row("strategy-builds", "post", frozenset({"trader", "risk", "admin"}), CODE, body=BUILD),
    Row("strategy-heartbeat", "post", frozenset({"trader"}), CODE, body={"interval": 3600}),
    Row("strategy-heartbeat", "get", OWN, CODE),
    Row("strategy-heartbeat", "delete", frozenset({"trader", "risk"}), CODE, body=WHY),
    Row("strategy-withdraw", "post", OFFICE, CODE, body=BUILD | WHY),
    Row("strategy-promote", "post", RISK, CODE, body=BUILD | WHY),
    Row("strategy-decide", "post", RISK, CODE, body=BUILD | {"approve": False}),
    Row("strategy-demote", "post", OFFICE, CODE, body=BUILD | WHY | {"to": "shadow"}),
    Row("promotion-profiles", "get", KEYS),
    Row("promotion-profiles", "post", RISK, body={"profile": "default", "to_mode": "canary", **WHY}),
    Row("profile-approve", "post", RISK, {"number": 1}, body=WHY),
    Row("profile-refuse", "post", RISK, {"number": 1}, body=WHY),
    Row("divergence", "get", OWN, CODE, BUILD),
    Row("promotion-profiles", "get", KEYS),
    Row("promotion-profiles", "post", RISK, body={"profile": "default", "to_mode": "live", **WHY}),
    Row("profile-approve", "post", RISK, {"number": 1}, body=WHY),
    Row("profile-refuse", "post", RISK, {"number": 1}, body=WHY),
    Row("limits", "get", KEYS),
    Row("limits", "post", RISK, body={"scope": "account:main", "kind": "order_qty_max", "value": "5", **WHY}),
    Row("limit-history", "get", OWN, query={"scope": "account:main", "kind": "order_qty_max"}),
    Row("limit-differences", "get", KEYS, query={"since": AT}),
    Row("limit-replay", "post", READERS, body={"since": AT, "limits": []}),
    Row("limit-approve", "post", RISK, {"version_id": 1}, body=WHY),
    Row("limit-refuse", "post", RISK, {"version_id": 1}, body=WHY),
    Row("permits", "get", READERS),
    Row("permits", "post", RISK, body={**MAIN, "strategy": "mean", "symbol": "AAPL", "side": "buy", "qty": "1", **WHY}),
    Row("disabled-patterns", "get", READERS),
    Row("pattern-enable", "post", RISK, {"pattern_id": 1}, body=WHY),
    Row("account-greeks", "put", FEEDER, {"code": "main"}, body={"greeks": []}),
    Row("account-exposure", "get", OWN, {"code": "main"}),
    Row("recon-runs", "get", OWN, query=MAIN),
    Row("recon-runs", "post", OFFICE, body={**MAIN, "session": "2026-01-05"}),
    Row("recon-run", "get", KEYS, {"run": 1}),
    Row("recon-report", "get", KEYS, {"run": 1}),
    Row("recon-breaks", "get", OWN, query=MAIN),
    Row("recon-break-step", "post", RISK, STEP | {"step": "note"}, body={"text": "seen"}),
    Row("recon-statements", "get", OWN, query=MAIN),
    Row("recon-original", "get", KEYS, {"number": 1}),
    Row("recon-statements", "post", OFFICE, body={**MAIN, "session": "2026-01-05"}),
    Row("recon-mappings", "get", KEYS),
    Row("recon-mappings", "post", OFFICE, body=WHY),
    Row("recon-policies", "get", OWN, query=MAIN),
    Row("recon-policies", "post", RISK, body={**MAIN, **WHY}),
    Row("recon-blocks", "get", OWN, query=MAIN),
    Row("recon-blocks", "post", RISK, body={**MAIN, "session": "2026-01-05", **WHY}),
    Row("recon-block-step", "post", RISK, STEP | {"step": "lift"}, body=WHY),
    Row("recon-affirmations", "get", OWN, query=MAIN),
    Row("recon-sign", "post", OFFICE, {"number": 1}, body={"sha256": "0" * 64}),
]
BY_KEY = {row.key: row for row in ROWS}


def routes(patterns: list[Any] | None = None, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Every address of the site with its view, the admin's included; the first of two that share an address."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        address = prefix + str(pattern.pattern).removeprefix("^")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, address)
        else:
            yield address, pattern


def methods_of(pattern: URLPattern) -> list[str]:
    """What a view answers: a class says so by its methods, a function is a page that is read."""
    found = getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
    return ["get"] if found is None or found.__name__ == "RedirectView" else [m for m in METHODS if hasattr(found, m)]


def calls() -> Iterator[tuple[str, str]]:
    """(name, method) of everything that is not the admin's; a view without a name goes by its address."""
    for address, pattern in routes():
        if not address.startswith("admin/"):
            for method in methods_of(pattern):
                yield pattern.name or address, method


def make_callers() -> dict[str, str]:
    """A key for each caller but nobody; ``main`` and ``mean`` exist, ``other`` and ``theirs`` are the stranger's."""
    from backend.tradingbot.models import Account, Strategy

    main, mean = Account.objects.get(code="main"), Strategy.objects.get(code="mean")
    other = create_account(code="other", cash=Decimal(5_000), broker_account="another", symbols=["AAPL"])
    theirs = create_strategy(code="theirs", mode="live")
    made = {
        "viewer": create_key(name="m-viewer", role="viewer"),
        "trader": create_key(name="m-trader", role="trader", account=main, strategy=mean),
        "stranger": create_key(name="m-stranger", role="trader", account=other, strategy=theirs),
        "risk": create_key(name="m-risk", role="risk"),
        "admin": create_key(name="m-admin", role="admin"),
        "feeder": create_key(name="m-feeder", role="viewer", capabilities=["feed"], feed_symbols=["AAPL", "MSFT"]),
    }
    return {name: token for name, (_, token) in made.items()}
