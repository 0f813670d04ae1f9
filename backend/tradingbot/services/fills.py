"""Executions come in through one idempotent door, and orders that ended at the broker end here."""

from __future__ import annotations

from decimal import Decimal

import structlog
from django.conf import settings
from django.db import OperationalError, transaction

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import BrokerFillActivity, BrokerOrder
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.values import Side, plain
from backend.tradingbot.execution.order_state import OPEN, UNRESOLVED, WORKING, Event, Status
from backend.tradingbot.infra import failpoints
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import Account, Execution, Order, Position, RiskRow
from backend.tradingbot.services import breakers, exposures, journal
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.order_life import record_answer, release_cash, transition

log = structlog.get_logger(__name__)

ENDED = {"canceled": Event.CANCEL, "expired": Event.EXPIRE, "rejected": Event.REJECT}


def poll_account(account: Account, *, clock: Clock) -> int:
    """Book every execution that is new at the broker, then end the orders that ended there; how many were booked."""
    client = execution_client(settings.TRADINGBOT)
    cursor = RiskRow.objects.values_list("fills_cursor", flat=True).get(pk=account_scope(account.code))
    booked = 0
    for fill in client.fills(after_id=cursor or None):
        _adopt_unanswered(account, client, fill, clock)
        booked += book_execution(account, fill, clock=clock)
    for order in Order.objects.filter(account=account, status__in=[s.value for s in WORKING]).order_by("id"):
        if order.broker_order_id:
            found = client.get_order(order.broker_order_id)
            if found is not None:
                end_order(account, order.client_order_id, found, clock=clock)
    return booked


def _adopt_unanswered(account: Account, client: AlpacaClient, fill: BrokerFillActivity, clock: Clock) -> None:
    """An execution can be here before the answer to its order: find the order by our id, so that it is not external.

    A failed look-up raises, and the execution is read again with the next poll: it is never passed over.
    """
    if Order.objects.filter(account=account, broker_order_id=fill.broker_order_id).exists():
        return
    found = client.get_order(fill.broker_order_id)
    if found is None:
        return
    ours = Order.objects.select_related("account").filter(account=account, client_order_id=found.client_order_id)
    order = ours.filter(status__in=[s.value for s in (*UNRESOLVED, Status.NEVER_ARRIVED)]).first()
    if order is not None:
        failpoints.hit("fills.before_ack", order.client_order_id)
        evidence = {"broker_status": found.status, "found_by": "execution"}
        record_answer(order, Event.ACCEPT, evidence, cause="broker", clock=clock, broker_order_id=found.broker_order_id)


def book_execution(account: Account, fill: BrokerFillActivity, *, clock: Clock) -> bool:
    """Book one execution once; the same id again changes nothing, and with other content it is a conflict.

    An over-fill is booked and trips the account's breaker. An execution of an order that is not ours is journalled once
    as external; its exposure is left to reconciliation.
    """
    overfilled = False
    with transaction.atomic(durable=True):
        row = lock_risk(account_scope(account.code))
        row.fills_cursor = max(row.fills_cursor, fill.activity_id)
        known = Execution.objects.filter(account=account, execution_id=fill.execution_id).first()
        order = Order.objects.filter(account=account, broker_order_id=fill.broker_order_id).first()
        if known is not None or order is None:
            _note_odd(row, known, fill, clock)
            return False
        Execution.objects.create(
            account=account, order=order, execution_id=fill.execution_id, symbol=order.symbol, side=order.side,
            qty=fill.qty, price=fill.price, occurred_at=fill.occurred_at, recorded_at=clock.now(), build_id=build_id(),
        )  # fmt: skip
        rest = max(order.qty - order.filled_qty, Decimal(0))
        if order.status in OPEN:
            release_cash(row, order.reserved_price * min(fill.qty, rest))
        sign = Side(order.side).sign
        if row.cash is not None:
            row.cash -= sign * fill.qty * fill.price
        total = order.filled_qty + fill.qty
        paid = (order.avg_price or Decimal(0)) * order.filled_qty + fill.price * fill.qty
        order.avg_price, order.filled_qty = (paid / total).quantize(Decimal("1e-9")), total
        _move_position(account, order.symbol, sign * fill.qty, fill.price)
        overfilled = total > order.qty
        event = Event.FILL if total >= order.qty else Event.PARTIAL_FILL
        evidence = {"execution_id": fill.execution_id, "qty": plain(fill.qty), "price": plain(fill.price)}
        if order.status == "filled":
            order.save()
            journal.append(
                row, kind="over_fill", actor="broker", subject=order.client_order_id, data=evidence, at=clock.now()
            )
        else:
            transition(row, order, event, evidence, cause="broker", clock=clock)
        exposures.follow(order, now=clock.now(), executed=sign * fill.qty, price=fill.price)
        failpoints.hit("fills.before_commit", order.client_order_id, OperationalError)
    if overfilled:
        breakers.trip(
            account_scope(account.code), actor="gateway", reason=f"over-fill {order.client_order_id}", clock=clock
        )
    return True


def _note_odd(row: RiskRow, known: Execution | None, fill: BrokerFillActivity, clock: Clock) -> None:
    data = {"execution_id": fill.execution_id, "broker_order_id": fill.broker_order_id, "symbol": fill.symbol}
    data |= {"side": fill.side, "qty": plain(fill.qty) or "", "price": plain(fill.price) or ""}
    if known is None:
        kind = "external_execution"
    elif (known.qty, known.price) != (fill.qty, fill.price):
        kind = "execution_conflict"
    else:
        row.save()
        return
    log.warning(kind, **data)
    journal.append(row, kind=kind, actor="broker", subject=fill.execution_id, data=data, at=clock.now())


def _move_position(account: Account, symbol: str, qty: Decimal, price: Decimal) -> None:
    """Average cost: adding moves the average, reducing realises against it, crossing zero starts anew at ``price``."""
    position, _ = Position.objects.get_or_create(account=account, symbol=symbol)
    after = position.qty + qty
    if position.qty * qty >= 0:
        cost = position.avg_price * abs(position.qty) + price * abs(qty)
        position.avg_price = (cost / abs(after)).quantize(Decimal("1e-9"))
    else:
        closed = min(abs(qty), abs(position.qty))
        direction = 1 if position.qty > 0 else -1
        position.realized_pnl += ((price - position.avg_price) * closed * direction).quantize(Decimal("1e-9"))
        if abs(qty) > abs(position.qty):
            position.avg_price = price
        elif after == 0:
            position.avg_price = Decimal(0)
    position.qty = after
    position.save()


def end_order(account: Account, client_order_id: str, found: BrokerOrder, *, clock: Clock) -> None:
    """End our order as the broker's did, but only when every execution that the broker counts is booked here."""
    event = ENDED.get(found.status)
    if event is None:
        return
    with transaction.atomic(durable=True):
        row = lock_risk(account_scope(account.code))
        order = Order.objects.select_for_update().get(account=account, client_order_id=client_order_id)
        if order.status in WORKING and order.filled_qty == found.filled_qty:
            transition(row, order, event, {"broker_status": found.status}, cause="broker", clock=clock)
