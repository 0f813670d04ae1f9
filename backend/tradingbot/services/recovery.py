"""Finding out what became of orders in doubt, and watching for those that were given up.

Invariants: nothing is ever sent again; a failed query is "unknown", never "not there"; an order is given up only after
enough misses by look-up, listing and executions over the quiet window, which no jump of the clock can shorten alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog
from django.conf import settings

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import BrokerOrder
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.execution.order_state import UNRESOLVED, Event, Status
from backend.tradingbot.infra import failpoints, tracing
from backend.tradingbot.models import Account, Order
from backend.tradingbot.selectors.lookups import unresolved_orders, watched_orders
from backend.tradingbot.services import adoption, breakers, exposures, journal
from backend.tradingbot.services.locks import account_scope, locked_order
from backend.tradingbot.services.order_life import record_answer, rereserving, transition
from backend.tradingbot.services.polling import SKEW, take_all
from backend.tradingbot.services.turns import Turns

log = structlog.get_logger(__name__)

T = TypeVar("T")
LONGEST_PAUSE = timedelta(seconds=15)
WATCH_PAUSE = timedelta(seconds=60)
PASS_SECONDS = 30.0


def recover(*, clock: Clock) -> dict[str, str]:
    """Look up every unresolved order whose turn it is; the state of each afterwards, by client order id."""
    client, config = execution_client(settings.TRADINGBOT), settings.TRADINGBOT
    outcomes: dict[str, str] = {}
    missed: list[Order] = []
    until = clock.monotonic() + PASS_SECONDS
    with Turns() as turns:
        for order in unresolved_orders(clock.now(), config.broker_read_timeout):
            if clock.monotonic() >= until:
                break  # the broker is slow: what waits behind this pass is cancels; the next begins with who is left
            with tracing.continued(None, order.trace_id or None):  # its fate belongs to the request that sent it
                outcome = _each(order, partial(_look_up, order, client, clock), turns, clock)
            if outcome is None:
                missed.append(order)
            else:
                outcomes[order.client_order_id] = outcome
        return outcomes | _search(missed, client, turns, clock)


def _each(order: Order, step: Callable[[], T], turns: Turns, clock: Clock) -> T | str:
    """What ``step`` says of ``order``. One order that cannot be resolved, whatever the reason, must not keep the others
    waiting: it is asked about again later."""
    with turns.each("recovery_failed", client_order_id=order.client_order_id):
        try:
            return step()
        except TradingbotError as error:
            return _unknown(order, error, clock)
    return _later(order, clock)


def _look_up(order: Order, client: AlpacaClient, clock: Clock) -> str | None:
    """What became of ``order``; None when the broker says that it is not there, and nothing else has resolved it."""
    current = _lose_sight(order, clock)
    found = client.get_order_by_client_id(order.client_order_id)
    if found is None and current.status in UNRESOLVED:
        return None
    return _found(current, found, client, clock)


def _lose_sight(order: Order, clock: Clock) -> Order:
    """The sender is past its time and has recorded nothing: it died, or waits, and the order may be anywhere."""
    if order.status != Status.PENDING_SUBMIT:
        return order
    evidence = {"code": "sender_gone", "message": "no answer was recorded in time"}
    current = record_answer(order, Event.LOSE_SIGHT, evidence, cause="recovery", clock=clock)
    if current.status == Status.IN_DOUBT:
        breakers.mark_error(account_scope(order.account.code), clock=clock, evidence=evidence)
    return current


def _found(order: Order, found: BrokerOrder | None, client: AlpacaClient, clock: Clock) -> str:
    if found is None:
        return str(order.status)  # something else resolved it meanwhile
    failpoints.hit("recovery.before_record", order.client_order_id)
    adopted = adoption.adopt(order.account, client, client.latest_of(found), clock=clock, cause="recovery")
    return str(order.status if adopted is None else adopted.status)


def _unknown(order: Order, error: TradingbotError, clock: Clock) -> str:
    log.warning("recovery_unknown", client_order_id=order.client_order_id, code=error.code, problem=error.message)
    return _later(order, clock)


def _later(order: Order, clock: Clock) -> str:
    Order.objects.filter(pk=order.pk).update(next_lookup_at=clock.now() + _pause(order.lookup_misses))
    return str(order.status)


def _search(missed: Sequence[Order], client: AlpacaClient, turns: Turns, clock: Clock) -> dict[str, str]:
    """What the look-up did not find: the listing since, then the executions since; then it counts as a miss."""
    if not missed:
        return {}
    since = min(order.created_at for order in missed) - SKEW
    try:
        listed = {order.client_order_id: order for order in client.list_orders(after=since)}
        read = _read_executions({order.account for order in missed}, client, since, clock)
    except TradingbotError as error:
        return {order.client_order_id: _unknown(order, error, clock) for order in missed}
    evidence = {"listed": len(listed), "executions": read, "since": rfc3339(since)}
    outcomes = {}
    for order in missed:
        found = listed.get(order.client_order_id)
        missing = partial(_miss, order, evidence, clock)
        step = missing if found is None else partial(_found, order, found, client, clock)
        outcomes[order.client_order_id] = _each(order, step, turns, clock)
    return outcomes


def _read_executions(accounts: Iterable[Account], client: AlpacaClient, since: datetime, clock: Clock) -> int:
    """Executions of orders that are not known lead to the orders; booking them ties them to ours."""
    fills = client.fills(since=since)
    for account in accounts:
        take_all(account, client, fills, clock)
    return len(fills)


def _pause(misses: int) -> timedelta:
    """Twice as long after each miss, within the quiet window: a broker allows so many questions a minute."""
    config = settings.TRADINGBOT
    window = timedelta(seconds=config.quiet_window_seconds / (config.recovery_min_misses + 1))
    return min(timedelta(seconds=2 ** min(misses, 6)), LONGEST_PAUSE, window)


def _miss(order: Order, evidence: dict[str, Any], clock: Clock) -> str:
    """Count one miss; enough of them over the quiet window end the order as ``never_arrived``."""
    config, now = settings.TRADINGBOT, clock.now()
    with locked_order(order.pk) as (row, current):
        if current.status not in UNRESOLVED:
            return str(current.status)
        current.quiet_seconds += _quiet_since(current.last_miss_at, now)
        current.lookup_misses += 1
        current.first_miss_at, current.last_miss_at = current.first_miss_at or now, now
        current.next_lookup_at = now + _pause(current.lookup_misses)
        enough = current.lookup_misses >= config.recovery_min_misses
        if enough and current.status == Status.IN_DOUBT and current.quiet_seconds >= config.quiet_window_seconds:
            quiet = {"misses": current.lookup_misses, "quiet_seconds": int(current.quiet_seconds)}
            transition(row, current, Event.GIVE_UP, quiet | evidence, cause="recovery", clock=clock)
        else:
            current.save()
        return str(current.status)


def _quiet_since(last_miss_at: datetime | None, now: datetime) -> float:
    """The seconds of silence that this miss adds. One step of the clock can never make up the whole window."""
    if last_miss_at is None:
        return 0.0
    config = settings.TRADINGBOT
    most = config.quiet_window_seconds / max(config.recovery_min_misses - 1, 1)
    return min(max((now - last_miss_at).total_seconds(), 0.0), most)


def watch(*, clock: Clock) -> dict[str, str]:
    """Look for orders that were given up until their day ends; the state of each afterwards, by client order id.

    At the end of the watch the reservation is given back, after a last look that says "not there".
    """
    client = execution_client(settings.TRADINGBOT)
    outcomes: dict[str, str] = {}
    until = clock.monotonic() + PASS_SECONDS
    with Turns() as turns:
        for order in watched_orders(clock.now()):
            if clock.monotonic() >= until:
                break
            outcomes[order.client_order_id] = _each(order, partial(_look_again, order, client, clock), turns, clock)
    return outcomes


def _look_again(order: Order, client: AlpacaClient, clock: Clock) -> str:
    found = client.get_order_by_client_id(order.client_order_id)
    if found is not None:
        return _found(order, found, client, clock)
    now = clock.now()
    with locked_order(order.pk) as (row, current):
        if current.watch_until is None:
            return str(current.status)
        if now < current.watch_until:
            current.next_lookup_at = now + WATCH_PAUSE
            current.save(update_fields=["next_lookup_at"])
            return str(current.status)
        data = {"status": str(current.status), "watched_until": rfc3339(current.watch_until)}
        with rereserving(row, current):
            current.watch_until = None
        journal.append_with_order(row, current, kind="watch_ended", actor="recovery", data=data, at=now)
        exposures.follow(current, now=now)
        return str(current.status)
