"""Trade updates of the stream come in by the same door as what polling reads."""

from __future__ import annotations

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.updates import CANCEL_REFUSED, TradeUpdate
from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.models import Account
from backend.tradingbot.services import adoption, cancels
from backend.tradingbot.services.booking import find_order


def take_update(account: Account, client: AlpacaClient, update: TradeUpdate, *, clock: Clock) -> bool:
    """Book the execution and take the order in; True when an execution was new.

    Raises BrokerQueryError when a look-up that it needed failed: then the poll has to bring what this did not.
    """
    booked = False
    if update.execution is not None:
        booked = adoption.take_execution(
            account, client, update.execution, clock=clock, source="stream", seen=update.order
        )
    if _is_since(account, update):
        adoption.adopt(account, client, update.order, clock=clock)
    if update.event == CANCEL_REFUSED:
        order = find_order(account, update.order.broker_order_id)
        if order is not None:
            evidence = {"event": update.event, "at": rfc3339(update.at)}
            cancels.refuse_cancel(order, evidence, clock=clock)
    return booked


def _is_since(account: Account, update: TradeUpdate) -> bool:
    """An order that ended before these books began is none of theirs; one that works is."""
    known = find_order(account, update.order.broker_order_id) is not None
    return known or update.at is None or update.at >= account.created_at
