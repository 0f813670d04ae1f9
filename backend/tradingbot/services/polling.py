"""The polling leg: new executions, and what became of the orders that work, asked of the broker by REST.

Invariants: executions are read before orders, so that an order is seen to have ended only after its executions had
their chance; the cursor moves only past a listing that began at it and is booked whole; what could not be asked stays
as it is and is asked again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.conf import settings

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import BrokerFillActivity, BrokerOrder
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.values import plain
from backend.tradingbot.execution.order_state import WORKING, Event, IllegalTransitionError, is_terminal
from backend.tradingbot.execution.order_view import ENDED
from backend.tradingbot.models import Account, Order, RiskRow
from backend.tradingbot.services import adoption, breaks
from backend.tradingbot.services.booking import find_order, without_booked
from backend.tradingbot.services.locks import account_scope, locked_order, locked_risk
from backend.tradingbot.services.order_life import is_news, note_refusal, standing_of
from backend.tradingbot.services.turns import Turns

log = structlog.get_logger(__name__)

ZERO = Decimal(0)
SKEW = timedelta(minutes=5)  # between our clock and the broker's
SWEEP_PAUSE = timedelta(seconds=30)
MANY = 20


def poll_account(account: Account, *, clock: Clock) -> int:
    """Book every execution that is new at the broker, then take in what became of the orders; how many were booked.

    Raises BrokerQueryError when the broker cannot be asked; what was booked until then stays booked. An account whose
    keys these are not is left alone: the broker's orders and executions are another's.
    """
    client = execution_client(settings.TRADINGBOT)
    if client.account_number() != account.broker_account:
        log.warning("not_our_broker_account", account=account.code, broker_account=account.broker_account)
        return 0
    booked = _read_executions(account, client, clock)
    return booked + _read_orders(account, client, clock)


def _read_executions(account: Account, client: AlpacaClient, clock: Clock) -> int:
    cursor = RiskRow.objects.values_list("fills_cursor", flat=True).get(pk=account_scope(account.code))
    fills = client.fills(after_id=cursor or None, since=None if cursor else account.created_at - SKEW)
    booked = take_all(account, client, fills, clock)
    newest = max((fill.activity_id for fill in fills), default="")
    if newest > cursor:
        with locked_risk(account_scope(account.code)) as row:
            row.fills_cursor = max(row.fills_cursor, newest)
            row.save(update_fields=["fills_cursor"])
    return booked


def take_all(account: Account, client: AlpacaClient, fills: list[BrokerFillActivity], clock: Clock) -> int:
    """Book what is new, or other than it was, in a listing; how many were booked.

    An execution that cannot be booked keeps none of the others waiting: what can be booked is, and then the first error
    is raised, so that the listing is read again.
    """
    booked = 0
    with Turns() as turns:
        for fill in without_booked(account, fills):
            if turns.failed is not None and find_order(account, fill.broker_order_id) is None:
                continue  # one question that failed is enough: each may cost a timeout
            with turns.each("execution_not_booked", execution_id=fill.execution_id):
                booked += adoption.take_execution(account, client, fill, clock=clock)
    return booked


def _read_orders(account: Account, client: AlpacaClient, clock: Clock) -> int:
    """Compare the orders that work here with those that the broker has open."""
    ours = list(
        Order.objects.select_related("account", "strategy")
        .filter(account=account, status__in=[s.value for s in WORKING], broker_order_id__isnull=False)
        .defer("decision", "snapshot")
        .order_by("id")
    )
    open_there = {order.broker_order_id: order for order in client.list_open_orders()}
    closed = _closed(client, [order for order in ours if order.broker_order_id not in open_there])
    booked = 0
    for order in ours:
        listed = open_there.pop(order.broker_order_id, None) or closed.get(order.broker_order_id)
        found = listed or client.get_order(order.broker_order_id)
        try:
            booked += _read_order(order, found, client, clock)
        except IllegalTransitionError as error:  # journalled, with a break of its own; the next order is read
            log.warning("order_not_read", client_order_id=order.client_order_id, problem=error.message)
    for found in open_there.values():
        _read_unmatched(account, found, client, clock)
    return booked


def _closed(client: AlpacaClient, ended: list[Order]) -> dict[str, BrokerOrder]:
    """Many that ended at once (a cancel of all, the end of a session) are read by a listing, not one by one: a broker
    allows so many requests a minute."""
    if len(ended) < MANY:
        return {}
    since = _since(min(order.created_at for order in ended))
    return {order.broker_order_id: order for order in client.list_orders("closed", after=since)}


def _read_order(order: Order, found: BrokerOrder | None, client: AlpacaClient, clock: Clock) -> int:
    """One order that works here, with its figures as they were before the broker was asked."""
    if found is None:
        _open_missing(order, clock)
        return 0
    if found.replaced_by is not None:
        adoption.adopt(order.account, client, client.latest_of(found), clock=clock)
        return 0
    if found.filled_qty < order.filled_qty and not order.past_broker_order_ids:
        _check_surplus(order, client, clock)
    behind = _is_behind(order)
    news = is_news(order, found)  # thousands rest unchanged: they must not take the account's lock at each poll
    current = adoption.observe(order, found, cause="broker", clock=clock) if news else order
    if behind and current.status in WORKING:
        return _sweep(current, client, clock)
    return 0


def _is_behind(order: Order) -> bool:
    """Whether the broker said before this poll that the order ended, or that more of it is executed than is here."""
    said = order.broker_filled_qty or ZERO
    return order.broker_status in ENDED or (said > ZERO and standing_of(order).booked_qty < said)


def _read_unmatched(account: Account, found: BrokerOrder, client: AlpacaClient, clock: Clock) -> None:
    """An order that the broker has open and that does not work here."""
    order = find_order(account, found.broker_order_id)
    if order is None:
        adoption.adopt(account, client, found, clock=clock)
        return
    if not is_terminal(order.status):
        adoption.observe(order, found, cause="broker", clock=clock)
        return
    again = client.get_order(found.broker_order_id)  # it may have ended since the listing
    if again is None or again.replaced_by is not None or again.status in ENDED:
        return
    adoption.stop(order, clock)
    with locked_order(order.pk) as (row, current):
        message = f"the broker still works the order {current.client_order_id}, which is {current.status} here"
        refused = IllegalTransitionError(message, status=str(current.status), event=str(Event.ACCEPT))
        note_refusal(row, current, refused, cause="broker", clock=clock)


def _sweep(order: Order, client: AlpacaClient, clock: Clock) -> int:
    """Executions that the broker counted some time ago are not here: read all since the order's beginning again.

    An execution can be filed with a time before the cursor; the next page never shows it.
    """
    now = clock.now()
    if order.next_lookup_at is not None and order.next_lookup_at > now:
        return 0
    Order.objects.filter(pk=order.pk).update(next_lookup_at=now + SWEEP_PAUSE)
    log.warning("executions_missing", client_order_id=order.client_order_id, filled_qty=plain(order.filled_qty))
    return take_all(order.account, client, client.fills(since=_since(order.created_at)), clock)


def _since(moment: datetime) -> datetime:
    return moment - SKEW


def _open_missing(order: Order, clock: Clock) -> None:
    with locked_order(order.pk) as (row, current):
        breaks.open_break(
            row, kind="missing_at_broker", subject=current.client_order_id, severity="critical", cause="broker",
            clock=clock, symbol=current.symbol,
            ours={"status": str(current.status), "broker_order_id": current.broker_order_id},
            explanation="the broker says that it has no order by the id that it gave us",
        )  # fmt: skip


def _check_surplus(order: Order, client: AlpacaClient, clock: Clock) -> None:
    """More is booked than the broker counts. A bust may be on its way: its executions are read once more, then ours
    before theirs, so that the broker must count at least as much."""
    _read_executions(order.account, client, clock)
    before = Order.objects.values_list("filled_qty", flat=True).get(pk=order.pk)
    assert order.broker_order_id is not None
    found = client.get_order(order.broker_order_id)
    if found is None or found.filled_qty >= before:
        return
    with locked_order(order.pk) as (row, current):
        breaks.open_break(
            row, kind="qty", subject=current.client_order_id, severity="critical", cause="broker", clock=clock,
            symbol=current.symbol, ours={"filled_qty": plain(before)}, theirs={"filled_qty": plain(found.filled_qty)},
            difference={"qty": plain(before - found.filled_qty)},
            explanation="more is booked than the broker counts: an execution under two ids, or one taken back",
        )  # fmt: skip
