"""The life of an order after it was reserved: what the broker answered, and every transition with its journal entry.

Invariants: the caller of ``transition`` holds the account's risk row and the order; a transition, its journal entry
and the release of what is no longer reserved are committed together or not at all.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import structlog
from django.db import OperationalError

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.values import plain
from backend.tradingbot.execution.order_state import OPEN, UNRESOLVED, Event, Status, is_terminal, next_status
from backend.tradingbot.infra import failpoints
from backend.tradingbot.infra.metrics import TRANSITIONS
from backend.tradingbot.models import Order, RiskRow
from backend.tradingbot.services import exposures, journal
from backend.tradingbot.services.locks import locked_order

log = structlog.get_logger(__name__)

EXECUTED = frozenset({Event.FILL, Event.PARTIAL_FILL})  # whoever books an execution moves the exposure with it


def record_answer(
    order: Order,
    event: Event,
    evidence: dict[str, Any],
    *,
    cause: str,
    clock: Clock,
    broker_order_id: str | None = None,
) -> Order:
    """Transaction 2: one transition, its journal entry, and the release of what is no longer reserved."""
    with locked_order(order.pk) as (row, current):
        if broker_order_id and not current.broker_order_id:
            current.broker_order_id = broker_order_id
        ahead = event in (Event.ACCEPT, Event.LOSE_SIGHT, Event.DENY) and current.status not in UNRESOLVED
        late = current.status == Status.NEVER_ARRIVED and event is Event.ACCEPT
        if ahead and not late:
            current.save()  # a fill or recovery was faster than this answer; only the broker's id is news
            return current
        if event in (Event.LOSE_SIGHT, Event.DENY) and current.status == Status.IN_DOUBT:
            return current
        transition(row, current, event, evidence, cause=cause, clock=clock)
        failpoints.hit("record.before_commit", current.client_order_id, OperationalError)
    return current


def release_cash(row: RiskRow, amount: Decimal) -> None:
    """Give back a reservation. The column keeps nine decimals, so a fraction's rounding may not take it below zero."""
    row.reserved_cash = max(row.reserved_cash - amount, Decimal(0))


def transition(row: RiskRow, order: Order, event: Event, evidence: dict[str, Any], *, cause: str, clock: Clock) -> None:
    """Move ``order`` by the table, under the locks that the caller holds; journal before, after, cause and evidence."""
    before, now = order.status, clock.now()
    order.status = next_status(before, event)
    order.updated_at = now
    order.evidence = {**order.evidence, str(event): evidence}
    if before in OPEN and is_terminal(order.status):
        release_cash(row, order.reserved_price * max(order.qty - order.filled_qty, Decimal(0)))
    data = {
        "before": str(before),
        "after": str(order.status),
        "event": str(event),
        "broker_order_id": order.broker_order_id,
        "filled_qty": plain(order.filled_qty),
        "evidence": {name: str(value) for name, value in evidence.items()},
    }
    journal.append_with_order(row, order, kind="order_transition", actor=cause, data=data, at=now)
    if before in OPEN and is_terminal(order.status) and event not in EXECUTED:
        exposures.follow(order, now=now)
    TRANSITIONS.labels(str(event), str(order.status)).inc()
    log.info("order_transition", client_order_id=order.client_order_id, before=before, after=str(order.status))
