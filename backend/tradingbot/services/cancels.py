"""Cancels. They pass no gate and never read the market data store."""

from __future__ import annotations

from django.conf import settings

from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError
from backend.tradingbot.execution.order_state import UNRESOLVED, Event, Status, is_terminal
from backend.tradingbot.infra import failpoints
from backend.tradingbot.models import Order
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import account_scope, locked_risk
from backend.tradingbot.services.order_life import transition


def cancel_order(order: Order, *, actor: str, clock: Clock) -> Order:
    """Ask the broker to cancel. An order not found there yet keeps the wish, which is sent once it is found."""
    with locked_risk(account_scope(order.account.code)) as row:
        current = Order.objects.select_related("account", "strategy").select_for_update(of=("self",)).get(pk=order.pk)
        if is_terminal(current.status):
            raise ConflictError(
                f"{current.client_order_id} is {current.status}",
                code="order_terminal",
                remedy="nothing is left to cancel",
            )
        current.cancel_requested_at = current.cancel_requested_at or clock.now()
        if current.status in UNRESOLVED:
            current.save()
            data = {"status": current.status}
            journal.append(
                row, kind="cancel_wished", actor=actor, subject=current.client_order_id, data=data, at=clock.now()
            )
            return current
        if current.status != Status.PENDING_CANCEL:
            transition(row, current, Event.REQUEST_CANCEL, {"actor": actor}, cause=actor, clock=clock)
    failpoints.hit("cancel.before_send", current.client_order_id)
    if current.broker_order_id:
        execution_client(settings.TRADINGBOT).cancel_order(current.broker_order_id)
    return current


def send_wished_cancels(*, clock: Clock) -> int:
    """Send the cancels that were wished while their order was in doubt and that can be sent now."""
    wished = Order.objects.select_related("account").filter(
        cancel_requested_at__isnull=False, status__in=[Status.ACCEPTED, Status.PARTIALLY_FILLED]
    )
    for order in wished:
        cancel_order(order, actor="recovery", clock=clock)
    return len(wished)
