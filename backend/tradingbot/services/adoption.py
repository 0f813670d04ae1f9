"""Whose order is it that the broker shows? Ours by its id, ours by our id, one that replaced ours, or an external one.

Invariants: an order placed elsewhere is stored as external and counted. So is one that ours contradicts (refused here,
never meant to be sent, a second one under the same id): it stops the account and opens a critical break as well.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import BrokerFillActivity, BrokerOrder, BrokerQueryError
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.values import plain
from backend.tradingbot.execution.order_state import Event, Status, is_legal
from backend.tradingbot.infra import failpoints
from backend.tradingbot.models import Account, Order, RiskRow
from backend.tradingbot.services import breakers, breaks, exposures, externals
from backend.tradingbot.services.booking import book_execution, find_order
from backend.tradingbot.services.breakers import strategy_scope
from backend.tradingbot.services.locks import account_scope, locked_order
from backend.tradingbot.services.order_life import (
    evidence_of,
    noting_refusals,
    rereserving,
    take_view,
    transition,
)

LONGEST_CHAIN = 50
STEP = Decimal("1e-9")


def take_execution(
    account: Account,
    client: AlpacaClient,
    fill: BrokerFillActivity,
    *,
    clock: Clock,
    source: str = "activities",
    seen: BrokerOrder | None = None,
) -> bool:
    """Book ``fill``, after finding out whose it is when that is not known; True when it was new.

    ``seen`` is the order as it came along with the execution. A look-up that fails raises BrokerQueryError and nothing
    was booked: the execution is read again, it is never passed over.
    """
    if find_order(account, fill.broker_order_id) is None:
        if fill.occurred_at < account.created_at:
            return False  # what happened before these books began is in their opening balances
        found = seen or client.get_order(fill.broker_order_id) or externals.order_of(fill)
        adopt(account, client, found, clock=clock, executed=True)
    return book_execution(account, fill, clock=clock, source=source)


def adopt(
    account: Account,
    client: AlpacaClient,
    found: BrokerOrder,
    *,
    clock: Clock,
    executed: bool = False,
    cause: str = "broker",
) -> Order | None:
    """Tie the broker's order to a row here and take in what it says. None for an external one that came to nothing."""
    order = find_order(account, found.broker_order_id)
    if order is not None:
        return observe(order, found, cause=cause, clock=clock)
    ours = Order.objects.filter(account=account, client_order_id=found.client_order_id).first()
    if ours is not None and found.replaces is None:
        return _attach(ours, found, cause, clock, executed=executed)
    if found.replaces is not None:
        predecessor, between = _predecessor(account, client, found, clock)
        if predecessor is not None:
            return _succeed(predecessor, found, between, clock, executed=executed)
    return externals.create_external(account, found, clock=clock, executed=executed)


def observe(order: Order, found: BrokerOrder, *, cause: str, clock: Clock) -> Order:
    """Take in what the broker shows of an order that is known here. An id it had before it was replaced is past."""
    with noting_refusals(order, cause, clock), locked_order(order.pk) as (row, current):
        before = current.status
        if current.broker_order_id is None:
            current.broker_order_id = found.broker_order_id
        if current.broker_order_id == found.broker_order_id:
            take_view(row, current, found, cause=cause, clock=clock)
    if before != current.status == Status.REJECTED and current.strategy.code != externals.EXTERNAL:
        evidence = {"code": "broker_rejected", "client_order_id": current.client_order_id}
        breakers.mark_error(strategy_scope(current.strategy.code), clock=clock, evidence=evidence)
    return current


def _attach(ours: Order, found: BrokerOrder, cause: str, clock: Clock, *, executed: bool) -> Order | None:
    """The broker has an order under our id, and its own id for it was new here when it was looked for."""
    explanation = ""
    if found.broker_order_id in (ours.broker_order_id, *ours.past_broker_order_ids):
        return observe(ours, found, cause=cause, clock=clock)  # the answer to our own request was recorded meanwhile
    if ours.broker_order_id is not None:
        explanation = f"a second order of the broker under the client order id {ours.client_order_id}"
    elif not is_legal(ours.status, Event.ACCEPT) and found.status != "rejected":
        explanation = f"the broker has the order {ours.client_order_id}, which is {ours.status} here"
    if executed and not explanation:
        failpoints.hit("fills.before_ack", ours.client_order_id)
    if not explanation:
        return observe(ours, found, cause=cause, clock=clock)
    stop(ours, clock)
    return externals.create_external(
        ours.account, found, clock=clock, executed=executed, contradicts=(ours, explanation)
    )


def stop(order: Order, clock: Clock) -> None:
    """Trip the breaker of the order's account: books and broker contradict each other."""
    reason = f"contradiction {order.client_order_id}"
    breakers.trip(account_scope(order.account.code), actor="gateway", reason=reason, clock=clock)


def _predecessor(
    account: Account, client: AlpacaClient, found: BrokerOrder, clock: Clock
) -> tuple[Order | None, list[str]]:
    """Our order at the other end of a chain of replacements, and the broker's ids between. None: it is not ours."""
    between: list[str] = []
    while found.replaces is not None and len(between) < LONGEST_CHAIN:
        order = find_order(account, found.replaces)
        if order is not None:
            return order, between
        earlier = client.get_order(found.replaces)
        if earlier is None:
            return None, between
        ours = Order.objects.filter(account=account, client_order_id=earlier.client_order_id).first()
        if ours is not None:
            return _attach(ours, earlier, "broker", clock, executed=False), between
        between.append(earlier.broker_order_id)
        found = earlier
    if found.replaces is not None:
        raise BrokerQueryError("the chain of replacements does not end", {"broker_order_id": found.broker_order_id})
    return None, between


def _succeed(order: Order, found: BrokerOrder, between: list[str], clock: Clock, *, executed: bool) -> Order | None:
    if found.status == "rejected" and not executed:
        return order  # the broker refused the replacement: nothing changed
    if is_legal(order.status, Event.REPLACE):
        return replace(order, found, between, clock=clock)
    stop(order, clock)
    explanation = f"the broker goes on with the order {order.client_order_id}, which is {order.status} here"
    return externals.create_external(
        order.account, found, clock=clock, executed=executed, contradicts=(order, explanation)
    )


def replace(order: Order, found: BrokerOrder, between: list[str], *, clock: Clock) -> Order:
    """The broker goes on with ``order`` under the id of ``found``. Its terms are the new ones; its past stays its own.

    The new order counts its own executions, and its quantity is what it may still trade.
    """
    with noting_refusals(order, "broker", clock), locked_order(order.pk) as (row, current):
        if found.broker_order_id in (current.broker_order_id, *current.past_broker_order_ids):
            return current
        before = {"broker_order_id": current.broker_order_id, "qty": plain(current.qty),
                  "limit_price": plain(current.limit_price)}  # fmt: skip
        with rereserving(row, current):
            _take_terms(current, found, between)
        after = {"broker_order_id": found.broker_order_id, "qty": plain(current.qty),
                 "limit_price": plain(current.limit_price)}  # fmt: skip
        evidence = {f"{name}_before": value for name, value in before.items()} | after | evidence_of(found)
        transition(row, current, Event.REPLACE, evidence, cause="broker", clock=clock)
        exposures.follow(current, now=clock.now())
        _open_new_terms(row, current, before, after, clock)
        take_view(row, current, found, cause="broker", clock=clock)
    return current


def _take_terms(order: Order, found: BrokerOrder, between: list[str]) -> None:
    if order.broker_order_id is not None:
        between = [order.broker_order_id, *between]
    order.past_broker_order_ids = [*order.past_broker_order_ids, *between]
    order.broker_order_id = found.broker_order_id
    order.broker_status, order.broker_filled_qty, order.broker_updated_at = "", None, None
    order.cancel_sent_at = None  # a cancel that was asked of the old id has to be asked of the new one
    if found.qty is not None and found.qty > 0:
        order.qty = order.reported_qty + found.qty  # what is executed under an old id later is added by its booking
    if order.type == "limit" and found.limit_price is not None and found.limit_price > 0:
        if order.limit_price:
            order.reserved_price = (order.reserved_price * found.limit_price / order.limit_price).quantize(STEP)
        order.limit_price = found.limit_price


def _open_new_terms(row: RiskRow, order: Order, before: dict[str, Any], after: dict[str, Any], clock: Clock) -> None:
    """Nothing here replaces orders: other terms were asked for elsewhere, past the gates."""
    for name, kind in (("qty", "qty"), ("limit_price", "price")):
        if before[name] != after[name]:
            breaks.open_break(
                row, kind=kind, subject=f"{order.client_order_id}:{after['broker_order_id']}"[:120],
                severity="critical", cause="broker", clock=clock, symbol=order.symbol, ours={name: before[name]},
                theirs={name: after[name]}, explanation="the order was replaced at the broker with other terms",
            )  # fmt: skip
