"""The life of an order after it was reserved: what the broker answered or shows, and every transition it makes.

Invariants: whoever changes an order holds the account's risk row and the order; a transition, its journal entry and the
change of what is reserved are committed together or not at all; what the table forbids raises, is journalled as
refused, and is never repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import OperationalError

from backend.tradingbot.brokers.answers import BrokerOrder
from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.values import Side, plain
from backend.tradingbot.data.calendar import ROUND_THE_CLOCK, next_session, session_date, session_on
from backend.tradingbot.execution.order_state import (
    OPEN,
    UNRESOLVED,
    Event,
    IllegalTransitionError,
    Status,
    next_status,
)
from backend.tradingbot.execution.order_view import Standing, View, due_event
from backend.tradingbot.infra import failpoints
from backend.tradingbot.infra.metrics import TRANSITIONS
from backend.tradingbot.models import Execution, Order, RiskRow
from backend.tradingbot.services import breaks, exposures, journal
from backend.tradingbot.services.locks import locked_order

log = structlog.get_logger(__name__)

EXECUTED = frozenset(
    {Event.FILL, Event.PARTIAL_FILL, Event.OVER_FILL}
)  # whoever books an execution moves the exposure with it
ZERO = Decimal(0)
STEP = Decimal("1e-9")
SHORTEST_WATCH = timedelta(hours=1)


def record_answer(
    order: Order,
    event: Event,
    evidence: dict[str, Any],
    *,
    cause: str,
    clock: Clock,
    broker_order_id: str | None = None,
    found: BrokerOrder | None = None,
) -> Order:
    """Transaction 2: one transition, its journal entry, and the release of what is no longer reserved.

    ``found`` is the broker's order when the answer carried one; what it says beyond the event is taken in as well.
    Raises IllegalTransitionError, which is journalled first.
    """
    broker_order_id = broker_order_id or (None if found is None else found.broker_order_id)
    with noting_refusals(order, cause, clock), locked_order(order.pk) as (row, current):
        if broker_order_id and not current.broker_order_id:
            current.broker_order_id = broker_order_id
        if found is not None and found.broker_order_id == current.broker_order_id:
            merge_view(current, found)
        ahead = event in (Event.ACCEPT, Event.LOSE_SIGHT, Event.DENY) and current.status not in UNRESOLVED
        late = current.status == Status.NEVER_ARRIVED and event is Event.ACCEPT
        waits = event in (Event.LOSE_SIGHT, Event.DENY) and current.status == Status.IN_DOUBT
        if not waits and (late or not ahead):
            transition(row, current, event, evidence, cause=cause, clock=clock)
        elif not waits:
            current.save()  # a fill or recovery was faster than this answer; only the broker's id is news
        settle(row, current, cause=cause, clock=clock)
        failpoints.hit("record.before_commit", current.client_order_id, OperationalError)
    return current


@contextmanager
def noting_refusals(order: Order, cause: str, clock: Clock) -> Iterator[None]:
    """Journal an illegal transition, in a transaction of its own once its own was rolled back, and let it out."""
    try:
        yield
    except IllegalTransitionError as error:
        with locked_order(order.pk) as (row, current):
            note_refusal(row, current, error, cause=cause, clock=clock)
        raise


def note_refusal(row: RiskRow, order: Order, error: IllegalTransitionError, *, cause: str, clock: Clock) -> None:
    """The entry of a transition that was refused, and a critical break: somebody must say what is true."""
    data = {"before": str(order.status), "event": str(error.details["event"]), "message": error.message}
    journal.append(
        row, kind="transition_refused", actor=cause, subject=order.client_order_id, data=data, at=clock.now(),
        trace_id=order.trace_id,
    )  # fmt: skip
    breaks.open_break(
        row, kind="order_status", subject=order.client_order_id, severity="critical", cause=cause, clock=clock,
        symbol=order.symbol, ours={"status": str(order.status)},
        theirs={"event": data["event"], "broker_status": order.broker_status},
        explanation="the broker reports what this order's state does not allow",
    )  # fmt: skip


def counts(order: Order) -> bool:
    """Whether the rest of ``order`` may still be executed: it is open, or it was given up and is still watched."""
    return order.status in OPEN or order.watch_until is not None


def reservation(order: Order) -> Decimal:
    """The cash that ``order`` holds back as long as it counts."""
    if counts(order):
        return (order.reserved_price * max(order.qty - order.filled_qty, ZERO)).quantize(STEP)
    return ZERO


@contextmanager
def rereserving(row: RiskRow, order: Order) -> Iterator[None]:
    """Whatever the block changes on ``order``, the account's reserved cash follows. Blocks follow each other, they do
    not nest."""
    before = reservation(order)
    yield
    row.reserved_cash = max(row.reserved_cash + reservation(order) - before, ZERO)


def transition(row: RiskRow, order: Order, event: Event, evidence: dict[str, Any], *, cause: str, clock: Clock) -> None:
    """Move ``order`` by the table, under the locks that the caller holds; journal before, after, cause and evidence."""
    before, now, counted = Status(order.status), clock.now(), counts(order)
    with rereserving(row, order):
        order.status = next_status(before, event)
        order.updated_at = now
        order.evidence = {**order.evidence, str(event): evidence}
        order.watch_until = end_of_day(now) if event is Event.GIVE_UP else None
    data = {
        "before": str(before),
        "after": str(order.status),
        "event": str(event),
        "broker_order_id": order.broker_order_id,
        "filled_qty": plain(order.filled_qty),
        "evidence": {name: str(value) for name, value in evidence.items()},
    }
    journal.append_with_order(row, order, kind="order_transition", actor=cause, data=data, at=now)
    if counted != counts(order) and event not in EXECUTED:
        exposures.follow(order, now=now)
    TRANSITIONS.labels(str(event), str(order.status)).inc()
    log.info("order_transition", client_order_id=order.client_order_id, before=str(before), after=str(order.status))
    if before is Status.NEVER_ARRIVED and not (event is Event.REJECT and evidence.get("code") == "attested"):
        _open_late_arrival(row, order, event, cause, clock)


def _open_late_arrival(row: RiskRow, order: Order, event: Event, cause: str, clock: Clock) -> None:
    breaks.open_break(
        row, kind="order_status", subject=order.client_order_id, severity="critical", cause=cause, clock=clock,
        symbol=order.symbol, ours={"status": "never_arrived"},
        theirs={"event": str(event), "broker_order_id": order.broker_order_id},
        explanation="a late arrival: the order was given up, and the broker had it after all",
    )  # fmt: skip


def add_executed(order: Order, qty: Decimal, price: Decimal) -> None:
    """Add an execution row to the order's sums, exactly; the average follows. Inside ``rereserving``."""
    order.filled_qty += qty
    order.filled_value += qty * price
    order.avg_price = (order.filled_value / order.filled_qty).quantize(STEP) if order.filled_qty > 0 else None


def follow_execution(order: Order, execution: Execution, clock: Clock) -> None:
    """Let the exposure follow a booked row; order, execution and position are saved already."""
    about = order
    if execution.symbol != order.symbol:
        about = copy(order)
        about.symbol = execution.symbol
    signed = execution.qty * Side(execution.side).sign
    exposures.follow(about, now=clock.now(), executed=signed, price=execution.price)


def end_of_day(now: datetime) -> datetime:
    """17:00 in New York, when the trading day rolls; the next day's when that is less than an hour away."""
    today = session_on(session_date(now, ROUND_THE_CLOCK), ROUND_THE_CLOCK)
    assert today is not None  # round the clock every day is one
    if today.closes_at - now >= SHORTEST_WATCH:
        return today.closes_at
    return next_session(today.date, ROUND_THE_CLOCK).closes_at


def view_of(order: Order) -> View | None:
    """What the broker last said of ``order``, None when it has said nothing yet."""
    if not order.broker_status:
        return None
    return View(order.broker_status, order.broker_filled_qty or ZERO, order.broker_updated_at)


def standing_of(order: Order) -> Standing:
    """``order`` as the pure rules see it. One query more for an order that the broker has replaced."""
    booked = max(order.reported_qty, order.filled_qty)
    if order.past_broker_order_ids:
        booked = booked_on(order, order.broker_order_id or "")
    return Standing(Status(order.status), order.qty, order.reported_qty, booked)


def booked_on(order: Order, broker_order_id: str) -> Decimal:
    """What is booked under one of the broker's ids of ``order``: as first reported, busted or not, or as busts and
    corrections left it, whichever is more; a correction may be larger than what it corrects, and the broker counts it.
    """
    rows = list(Execution.objects.filter(order=order, broker_order_id=broker_order_id).values_list("kind", "qty"))
    reported = sum((qty for kind, qty in rows if kind == "fill"), ZERO)
    return max(reported, sum((qty for _, qty in rows), ZERO))


def is_news(order: Order, found: BrokerOrder) -> bool:
    """Whether taking ``found`` in would change anything. Asked without the lock: whoever changes the order meanwhile
    lets that have its effects himself."""
    known = view_of(order)
    merged = _seen(found).merged(known)
    return merged != known or due_event(standing_of(order), merged) is not None


def _seen(found: BrokerOrder) -> View:
    return View(found.status[:32], found.filled_qty, found.updated_at)


def merge_view(order: Order, found: BrokerOrder) -> bool:
    """Put the newer of what the broker said before and of ``found`` on ``order``; True when that changed it."""
    known = view_of(order)
    merged = _seen(found).merged(known)
    order.broker_status, order.broker_filled_qty = merged.status, merged.filled_qty
    order.broker_updated_at = merged.updated_at
    return merged != known


def take_view(row: RiskRow, order: Order, found: BrokerOrder, *, cause: str, clock: Clock) -> None:
    """Take in what the broker shows of ``order`` under its present id, and let it have its effects."""
    changed = merge_view(order, found)
    moved = settle(row, order, cause=cause, clock=clock, evidence=evidence_of(found))
    if changed and not moved:
        order.save(update_fields=["broker_order_id", "broker_status", "broker_filled_qty", "broker_updated_at"])


def settle(row: RiskRow, order: Order, *, cause: str, clock: Clock, evidence: dict[str, Any] | None = None) -> bool:
    """Make every transition that the broker's last word calls for, as soon as its executions are booked here."""
    view, moved = view_of(order), False
    if view is None:
        return False
    standing = standing_of(order)
    while (event := due_event(standing, view)) is not None:
        said = {"broker_status": view.status, "broker_filled_qty": plain(view.filled_qty)}
        transition(row, order, event, {**said, **(evidence or {})}, cause=cause, clock=clock)
        standing, moved = replace(standing, status=Status(order.status)), True
    return moved


def evidence_of(found: BrokerOrder) -> dict[str, Any]:
    """What is worth keeping of the broker's answer."""
    shown = {"broker_updated_at": rfc3339(found.updated_at)}
    return shown | ({"request_id": found.request_id} if found.request_id else {})
