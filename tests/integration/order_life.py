"""Steps that the tests of an order's life have in common: poll, cancel, give up, read the books."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.clock import FixedClock, SystemClock
from backend.tradingbot.models import Account, Break, RiskRow
from backend.tradingbot.services import fills, recovery

RESTING = {"type": "limit", "limit_price": "90.00"}
CLOCK = SystemClock()


def poll() -> int:
    return fills.poll_account(Account.objects.get(code="main"), clock=CLOCK)


def poll_until(gateway: Any, name: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + 15
    while True:
        poll()
        order = gateway.read(name)
        if order["status"] == status:
            return order
        assert time.monotonic() < deadline, order
        time.sleep(0.02)


def reserved() -> Decimal:
    return RiskRow.objects.get(pk="account:main").reserved_cash


def breaks() -> list[tuple[str, str]]:
    return [(found.kind, found.severity) for found in Break.objects.order_by("id")]


def later(seconds: float) -> FixedClock:
    return FixedClock(datetime.now(UTC) + timedelta(seconds=seconds))


def cancel(gateway: Any, name: str) -> dict[str, Any]:
    answer = gateway.call("DELETE", f"orders/{gateway.prefix}-{name}?account=main")
    assert answer.status_code == 202, answer.text
    return answer.json()


def place_at_broker(broker: Any, client_order_id: str, **changes: Any) -> dict[str, Any]:
    body = {"symbol": "AAPL", "qty": "5", "side": "buy", "type": "limit", "limit_price": "90", "time_in_force": "day"}
    answer = broker.call("POST", "/v2/orders", {**body, "client_order_id": client_order_id, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()


def give_up(gateway: Any, broker: Any, name: str = "gone", **terms: Any) -> FixedClock:
    """An order that was dropped on its way, looked for until the quiet window was over."""
    gateway.tick()
    broker.fault("drop_before")
    assert gateway.order(name, **RESTING | terms).status_code == 202
    clock = later(1)
    for _ in range(3):
        recovery.recover(clock=clock)
        clock.advance(60)
    assert gateway.read(name)["status"] == "never_arrived"
    return clock
