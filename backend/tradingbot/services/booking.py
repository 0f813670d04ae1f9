"""The one idempotent door for executions: an execution id is booked once, whichever way and however often it comes.

Invariants: execution, order, position, cash and journal change in one transaction or not at all; the same id with other
content is flagged and never overwrites; what should stop the account trips its breaker before it is booked, so that a
process that dies in between trips again and loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.db import OperationalError, transaction

from backend.tradingbot.brokers.answers import BrokerFillActivity
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import NotFoundError
from backend.tradingbot.core.values import plain
from backend.tradingbot.execution.order_state import Event, IllegalTransitionError, is_legal
from backend.tradingbot.execution.order_view import fill_event
from backend.tradingbot.infra import failpoints
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import Account, Execution, HeldReport, Order, RiskRow
from backend.tradingbot.services import breakers, breaks, corrections, journal
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.order_life import (
    add_executed,
    follow_execution,
    note_refusal,
    rereserving,
    settle,
    standing_of,
    transition,
)
from backend.tradingbot.services.positions import book_trade
from backend.tradingbot.services.trading_day import mark_realized


class UnknownOrderError(NotFoundError):
    """An execution of an order that no order here is known to be; nothing was booked."""

    code = "unknown_order"


class StopFirst(Exception):
    """The account must be stopped before this can be booked; the message is the reason of the trip."""


def book_execution(account: Account, fill: BrokerFillActivity, *, clock: Clock, source: str = "activities") -> bool:
    """Book ``fill`` once; True when it was new. Raises UnknownOrderError when its order has to be found first.

    More than was ordered, an order that cannot be filled, another side or symbol: all of it is booked, because it
    happened; the account's breaker trips first, and a critical break is opened beside it.
    """
    try:
        booked = _book(account, fill, clock, source, stopped=False)
    except StopFirst as stop:
        breakers.trip(account_scope(account.code), actor="gateway", reason=str(stop)[:200], clock=clock)
        booked = _book(account, fill, clock, source, stopped=True)
    if booked:
        mark_realized(account, clock=clock)
    return booked


def without_booked(account: Account, fills: Sequence[BrokerFillActivity]) -> list[BrokerFillActivity]:
    """Those of ``fills`` that are not booked with the very same content: a long listing that is read again, as recovery
    and sweeps do, must not take the account's lock once for each execution that it holds already."""
    booked = Execution.objects.filter(account=account, execution_id__in=[fill.execution_id for fill in fills])
    known = {execution.execution_id: execution for execution in booked}
    return [
        fill
        for fill in fills
        if fill.execution_id not in known or _content(known[fill.execution_id], fill.kind) != _report(fill)
    ]


def find_order(account: Account, broker_order_id: str, *, lock: bool = False) -> Order | None:
    """Our order by any id that the broker has, or had, for it."""
    rows = Order.objects.select_related("account", "strategy").filter(account=account)
    rows = rows.select_for_update(of=("self",)) if lock else rows
    found = rows.filter(broker_order_id=broker_order_id).first()
    return found or rows.filter(past_broker_order_ids__contains=[broker_order_id]).first()


def _book(account: Account, fill: BrokerFillActivity, clock: Clock, source: str, *, stopped: bool) -> bool:
    with transaction.atomic(durable=True):
        row = lock_risk(account_scope(account.code))
        if _is_known(row, account, fill, clock):
            return False
        order = find_order(account, fill.broker_order_id, lock=True)
        if order is None:
            raise UnknownOrderError(f"no order here is the broker's {fill.broker_order_id}")
        if fill.kind == "fill":
            _book_fill(row, order, fill, clock, source, stopped)
            for held in HeldReport.objects.filter(account=account, corrects=fill.execution_id, booked_at=None):
                corrections.book_held(row, order, held, clock=clock)
        else:
            corrections.book_report(row, order, fill, source=source, clock=clock)
        _judge_quantity(row, order, clock, stopped)
        settle(row, order, cause="broker", clock=clock)
        row.save()
        failpoints.hit("fills.before_commit", order.client_order_id, OperationalError)
    return True


def _is_known(row: RiskRow, account: Account, fill: BrokerFillActivity, clock: Clock) -> bool:
    """Whether this id was booked, or waits, already. With other content than now, a critical break says so."""
    known = Execution.objects.filter(account=account, execution_id=fill.execution_id).first()
    if known is None:
        return HeldReport.objects.filter(account=account, execution_id=fill.execution_id).exists()
    ours, theirs = _content(known, fill.kind), _report(fill)
    if ours != theirs:
        breaks.open_break(
            row, kind="duplicate", subject=fill.execution_id, severity="critical", cause="broker", clock=clock,
            symbol=fill.symbol, ours=ours, theirs=theirs,
            explanation="the broker used one execution id for two contents; the first one stays booked",
        )  # fmt: skip
    return True


def _content(known: Execution, kind: str) -> dict[str, Any]:
    shown = {"kind": known.kind, "symbol": known.symbol, "side": known.side, "corrects": known.corrects}
    if kind == "bust":
        return shown
    return shown | {"qty": plain(known.qty), "price": plain(known.price)}


def _report(fill: BrokerFillActivity) -> dict[str, Any]:
    """A bust is its reference alone: brokers repeat, or leave out, the figures of what is taken back."""
    shown = {"kind": fill.kind, "symbol": fill.symbol, "side": fill.side, "corrects": fill.corrects}
    if fill.kind == "bust":
        return shown
    return shown | {"qty": plain(fill.qty), "price": plain(fill.price)}


def _book_fill(row: RiskRow, order: Order, fill: BrokerFillActivity, clock: Clock, source: str, stopped: bool) -> None:
    event = _event_of(order, fill)
    odd = _oddities(order, fill, event)
    if odd and not stopped:
        raise StopFirst(f"{odd[0]} {order.client_order_id}")
    execution = Execution.objects.create(
        account=order.account, order=order, execution_id=fill.execution_id, broker_order_id=fill.broker_order_id,
        symbol=fill.symbol, side=fill.side, qty=fill.qty, price=fill.price, occurred_at=fill.occurred_at,
        recorded_at=clock.now(), source=source, evidence={"activity_id": fill.activity_id}, build_id=build_id(),
    )  # fmt: skip
    with rereserving(row, order):
        if fill.broker_order_id in order.past_broker_order_ids:
            order.qty += fill.qty  # executed before it was replaced: what replaced it has a quantity of its own
        order.reported_qty += fill.qty
        add_executed(order, fill.qty, fill.price)
    book_trade(row, order.account, execution)
    _open_oddities(row, order, fill, clock)
    evidence = {"execution_id": fill.execution_id, "qty": plain(fill.qty), "price": plain(fill.price)}
    if is_legal(order.status, event):
        transition(row, order, event, evidence, cause="broker", clock=clock)
        follow_execution(order, execution, clock)
        return
    refused = IllegalTransitionError(
        f"an order that is {order.status} cannot {event}", status=str(order.status), event=str(event)
    )
    journal.append_with_order(
        row, order, kind="execution_booked", actor="broker", data=_figures(order, evidence), at=clock.now()
    )
    note_refusal(row, order, refused, cause="broker", clock=clock)
    follow_execution(order, execution, clock)


def _event_of(order: Order, fill: BrokerFillActivity) -> Event:
    standing = standing_of(order)
    if fill.broker_order_id in order.past_broker_order_ids:
        standing = replace(standing, qty=standing.qty + fill.qty)
    return fill_event(standing, fill.qty)


def _figures(order: Order, evidence: dict[str, Any]) -> dict[str, Any]:
    return {"status": str(order.status), "filled_qty": plain(order.filled_qty), **evidence}


def _oddities(order: Order, fill: BrokerFillActivity, event: Event) -> list[str]:
    """Why the account has to stop for this execution; empty when it is what was asked for."""
    odd = []
    if event is Event.OVER_FILL:
        odd.append("over-fill")
    elif not is_legal(order.status, event):
        odd.append(f"fill-of-{order.status}")
    if fill.side != order.side:
        odd.append("wrong-side")
    if fill.symbol != order.symbol:
        odd.append("wrong-symbol")
    return odd


def _open_oddities(row: RiskRow, order: Order, fill: BrokerFillActivity, clock: Clock) -> None:
    for name in ("side", "symbol"):
        asked, done = getattr(order, name), getattr(fill, name)
        if asked != done:
            breaks.open_break(
                row, kind=name, subject=fill.execution_id, severity="critical", cause="broker", clock=clock,
                symbol=fill.symbol, ours={name: asked}, theirs={name: done},
                explanation="the execution is booked as the broker reports it",
            )  # fmt: skip


def _judge_quantity(row: RiskRow, order: Order, clock: Clock, stopped: bool) -> None:
    """More executed than asked for is a break; corrections can make it so as well as fills."""
    over = order.filled_qty - order.qty
    if over <= 0:
        return
    if not stopped:
        raise StopFirst(f"over-fill {order.client_order_id}")
    breaks.open_break(
        row, kind="qty", subject=order.client_order_id, severity="critical", cause="broker", clock=clock,
        symbol=order.symbol, ours={"qty": plain(order.qty)}, theirs={"filled_qty": plain(order.filled_qty)},
        difference={"qty": plain(over)}, explanation="an over-fill: the broker executed more than was ordered",
    )  # fmt: skip
