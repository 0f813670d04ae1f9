"""Finding out what became of orders in doubt. A failed query is "unknown", never "not there"; nothing is sent again."""

from __future__ import annotations

import structlog
from django.conf import settings

from backend.tradingbot.brokers.answers import BrokerOrder, BrokerQueryError
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.execution.order_state import UNRESOLVED, Event, Status
from backend.tradingbot.infra import failpoints
from backend.tradingbot.models import Order
from backend.tradingbot.selectors.risk import unresolved_orders
from backend.tradingbot.services.locks import account_scope, locked_risk
from backend.tradingbot.services.order_life import record_answer, transition

log = structlog.get_logger(__name__)


def recover(*, clock: Clock) -> dict[str, str]:
    """Look every unresolved order up at the broker; returns the state of each afterwards, by client order id."""
    config = settings.TRADINGBOT
    outcomes = {}
    for account, client_order_id in unresolved_orders(clock.now(), config.broker_read_timeout):
        order = Order.objects.select_related("account").get(account__code=account, client_order_id=client_order_id)
        try:
            outcomes[client_order_id] = _resolve(order, clock)
        except BrokerQueryError as error:
            log.warning("recovery_unknown", client_order_id=client_order_id, problem=error.message)
            outcomes[client_order_id] = order.status
    return outcomes


def _resolve(order: Order, clock: Clock) -> str:
    if order.status == Status.PENDING_SUBMIT:
        evidence = {"code": "sender_gone", "message": "no answer was recorded in time"}
        order = record_answer(order, Event.LOSE_SIGHT, evidence, cause="recovery", clock=clock)
    client = execution_client(settings.TRADINGBOT)
    found = client.get_order_by_client_id(order.client_order_id)
    if found is None:
        listed = client.list_orders(after=order.created_at)
        found = next((o for o in listed if o.client_order_id == order.client_order_id), None)
    failpoints.hit("recovery.before_record", order.client_order_id)
    if found is not None:
        return _adopt(order, found, clock)
    return _miss(order, clock)


def _adopt(order: Order, found: BrokerOrder, clock: Clock) -> str:
    evidence = {"broker_status": found.status, "found_by": "client_order_id"}
    event = Event.REJECT if found.status == "rejected" else Event.ACCEPT
    return record_answer(
        order, event, evidence, cause="recovery", clock=clock, broker_order_id=found.broker_order_id
    ).status


def _miss(order: Order, clock: Clock) -> str:
    """Count one miss; enough of them over the quiet window end the order as ``never_arrived``."""
    config = settings.TRADINGBOT
    now = clock.now()
    with locked_risk(account_scope(order.account.code)) as row:
        current = Order.objects.select_for_update().get(pk=order.pk)
        if current.status not in UNRESOLVED:
            return current.status
        current.lookup_misses += 1
        current.first_miss_at = current.first_miss_at or now
        quiet = (now - current.first_miss_at).total_seconds()
        enough = current.lookup_misses >= config.recovery_min_misses and quiet >= config.quiet_window_seconds
        if current.status == Status.IN_DOUBT and enough:
            evidence = {"misses": current.lookup_misses, "quiet_seconds": int(quiet)}
            transition(row, current, Event.GIVE_UP, evidence, cause="recovery", clock=clock)
        else:
            current.save()
        return current.status
