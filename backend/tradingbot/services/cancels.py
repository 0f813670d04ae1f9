"""Cancels. They pass no gate and never read the market data store.

Invariants: the wish is committed before the broker is asked, so that no crash loses it; a cancel that may not have
reached the broker is asked again, which is harmless; a cancel that the broker refuses leads back to what the order was.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings

from backend.tradingbot.brokers.answers import (
    BrokerInDoubtError,
    BrokerQueryError,
    BrokerRejectedError,
    BrokerUnreachableError,
)
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, TradingbotError
from backend.tradingbot.execution.order_state import UNRESOLVED, Event, Status, is_terminal
from backend.tradingbot.execution.order_view import ENDED, refusal_event
from backend.tradingbot.infra import failpoints
from backend.tradingbot.models import Order
from backend.tradingbot.selectors.lookups import cancels_to_send
from backend.tradingbot.services import adoption, breakers, journal, shadow
from backend.tradingbot.services.locks import locked_order
from backend.tradingbot.services.order_life import transition
from backend.tradingbot.services.turns import Turns

log = structlog.get_logger(__name__)

ASK_AGAIN_AFTER = timedelta(seconds=10)


def cancel_order(order: Order, *, actor: str, clock: Clock) -> Order:
    """Ask the broker to cancel. An order not found there yet keeps the wish, which is sent once it is found.

    Raises ConflictError ``order_terminal``. The order comes back as it stands after the broker's answer: usually
    ``pending_cancel``, since the answer is a promise and not yet the end.
    """
    current = request_cancel(order, actor=actor, clock=clock)
    if current.status != Status.PENDING_CANCEL or not current.broker_order_id:
        return current
    failpoints.hit("cancel.before_send", current.client_order_id)
    return send_cancel(current, clock=clock)


def request_cancel(order: Order, *, actor: str, clock: Clock) -> Order:
    """Commit the wish alone; who wishes and when is journalled once. A simulated part ends at once: nobody is asked."""
    if order.mode != "live":
        shadow.cancel(order, actor=actor, clock=clock)
        if order.qty == 0:
            return Order.objects.select_related("account", "strategy").get(pk=order.pk)
    with locked_order(order.pk) as (row, current):
        if is_terminal(current.status):
            raise ConflictError(
                f"{current.client_order_id} is {current.status}",
                code="order_terminal",
                remedy="nothing is left to cancel",
            )
        if current.status == Status.PENDING_CANCEL or (
            current.status in UNRESOLVED and current.cancel_requested_at is not None
        ):
            return current
        now = clock.now()
        current.cancel_requested_at = current.cancel_requested_at or now
        current.cancel_sent_at = None
        if current.status in UNRESOLVED:
            data = {"status": str(current.status)}
            journal.append_with_order(row, current, kind="cancel_wished", actor=actor, data=data, at=now)
        else:
            transition(row, current, Event.REQUEST_CANCEL, {"actor": actor}, cause=actor, clock=clock)
    return current


def send_cancel(order: Order, *, clock: Clock) -> Order:
    """Ask the broker once. Whatever is not known to have reached it is asked again later by ``send_wished_cancels``."""
    client = execution_client(settings.TRADINGBOT)
    assert order.broker_order_id is not None
    try:
        client.cancel_order(order.broker_order_id)
    except BrokerRejectedError as error:
        if error.code == "order_not_cancelable":
            return _find_out_why(order, {"code": error.code, "message": error.message, **error.evidence}, clock)
        log.warning("cancel_refused", client_order_id=order.client_order_id, code=error.code, problem=error.message)
        _count(error, order, clock)
        return order
    except (BrokerUnreachableError, BrokerInDoubtError) as error:
        log.warning("cancel_not_sure", client_order_id=order.client_order_id, problem=error.message)
        _count(error, order, clock)
        return order
    order.cancel_sent_at = clock.now()
    Order.objects.filter(pk=order.pk).update(cancel_sent_at=order.cancel_sent_at)
    return order


def _count(error: TradingbotError, order: Order, clock: Clock) -> None:
    breakers.count_broker_error(error, account=order.account.code, strategy=order.strategy.code, clock=clock)


def _find_out_why(order: Order, evidence: dict[str, Any], clock: Clock) -> Order:
    """The broker will not cancel it: it has ended, or it is being cancelled already, or it really refuses."""
    assert order.broker_order_id is not None
    try:
        found = execution_client(settings.TRADINGBOT).get_order(order.broker_order_id)
    except BrokerQueryError as error:
        log.warning("cancel_not_sure", client_order_id=order.client_order_id, problem=error.message)
        return order
    if found is None:
        return order
    current = adoption.observe(order, found, cause="broker", clock=clock)
    if found.status in (*ENDED, "pending_cancel", "replaced") or current.status != Status.PENDING_CANCEL:
        return current
    return refuse_cancel(current, evidence, clock=clock)


def refuse_cancel(order: Order, evidence: dict[str, Any], *, clock: Clock) -> Order:
    """The broker keeps the order: back to what it was, and the wish is answered."""
    with locked_order(order.pk) as (row, current):
        if current.status == Status.PENDING_CANCEL:
            current.cancel_requested_at = current.cancel_sent_at = None
            event = refusal_event(current.reported_qty)
            transition(row, current, event, evidence, cause="broker", clock=clock)
    return current


def send_wished_cancels(*, clock: Clock) -> int:
    """Send the cancels wished while their order was in doubt, and those that may not have reached the broker.

    One that fails keeps no other waiting; the first error is raised at the end.
    """
    sent = 0
    with Turns() as turns:
        for order in cancels_to_send(clock.now() - ASK_AGAIN_AFTER):
            with turns.each("cancel_failed", client_order_id=order.client_order_id), suppress(ConflictError):
                if order.status == Status.PENDING_CANCEL:
                    send_cancel(order, clock=clock)
                else:
                    cancel_order(order, actor="recovery", clock=clock)  # or a conflict: it ended meanwhile
                sent += 1
    return sent
