"""One pass of the kill switch over what is open in its scope: in the books, and at the broker.

Invariant: an order counts as open until the broker has said what became of it; one that the broker shows and that
nobody here knows is cancelled as well where it can only belong to the scope. One that was given up is wished away, so
that it is cancelled should it arrive after all.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog
from django.conf import settings

from backend.tradingbot.brokers.answers import BrokerOrder
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.execution.order_state import IllegalTransitionError
from backend.tradingbot.models import Account, KillSwitchOrder, KillSwitchRun, Order, RiskRow
from backend.tradingbot.selectors.scopes import given_up, open_orders, simulated_orders, unknown_here
from backend.tradingbot.services import flatten, mass_cancel, shadow
from backend.tradingbot.services.mass_cancel import Outcome
from backend.tradingbot.services.order_life import take_view
from backend.tradingbot.services.polling import SKEW, poll_account

log = structlog.get_logger(__name__)

ASK_AGAIN = timedelta(seconds=3)


def still_open(run: KillSwitchRun) -> list[Order]:
    """The open orders of the scope, but those that flatten it."""
    return list(open_orders(run.scope).exclude(client_order_id__startswith=flatten.prefix(run)))


def cancel_open(run: KillSwitchRun, over: Callable[[], bool], *, clock: Clock) -> int:
    """Wish, ask and note; how many orders that nobody here knows the broker still showed.

    Raises BrokerQueryError when the broker cannot say what is open.
    """
    actor = flatten.actor_of(run)
    _end_simulated(run, actor, clock)
    book = still_open(run)
    KillSwitchOrder.objects.bulk_create(
        [KillSwitchOrder(run=run, order=order, purpose="cancel") for order in book], ignore_conflicts=True
    )
    mass_cancel.store_wishes([*book, *given_up(run.scope)], actor=actor, clock=clock)
    listed = execution_client(settings.TRADINGBOT).list_open_orders()
    strangers = _strangers(run, listed)
    broker_ids = {order.broker_order_id for order in book}
    unanswered = {order.client_order_id for order in book if order.broker_order_id is None}
    targets = [
        found
        for found in listed
        if found.broker_order_id in broker_ids | strangers.keys() or found.client_order_id in unanswered
    ]
    outcomes = _ask(run, listed, targets, over, clock)
    _note(run, book, outcomes, actor, clock)
    for broker_id in outcomes.keys() & strangers.keys():
        known = {"symbol": strangers[broker_id].symbol, "outcome": outcomes[broker_id].word}
        run.external_orders[broker_id] = known
    return len(strangers)


def _end_simulated(run: KillSwitchRun, actor: str, clock: Clock) -> None:
    """The shadow book is cancelled here, at once: nobody is asked."""
    simulated = list(simulated_orders(run.scope))
    shadow.cancel_parts(simulated, actor=actor, clock=clock)
    whole = [order for order in simulated if order.qty == 0]
    KillSwitchOrder.objects.bulk_create(
        [KillSwitchOrder(run=run, order=order, purpose="cancel", outcome="simulated") for order in whole],
        ignore_conflicts=True,
    )


def settle(run: KillSwitchRun, *, clock: Clock) -> None:
    """Read from the broker what became of the orders of this run: many by one listing, what that leaves one by one."""
    working = [order for order in open_orders(run.scope) if order.broker_order_id is not None]
    if not working:
        return
    since = min(order.created_at for order in working) - SKEW
    closed = execution_client(settings.TRADINGBOT).list_orders("closed", after=since)
    found = {order.broker_order_id: order for order in closed}

    def take_in(row: RiskRow, order: Order) -> None:
        seen = found.get(order.broker_order_id or "")
        if seen is not None and seen.replaced_by is None:
            take_view(row, order, seen, cause="broker", clock=clock)

    try:
        mass_cancel.for_each_locked(
            [order for order in working if order.broker_order_id in found], take_in, clock=clock
        )
    except IllegalTransitionError as error:  # the poll journals it, order by order
        log.warning("kill_switch_settles_singly", run=run.token, problem=error.message)
    for account in Account.objects.filter(pk__in=open_orders(run.scope).order_by().values("account")):
        poll_account(account, clock=clock)


def _strangers(run: KillSwitchRun, listed: list[BrokerOrder]) -> dict[str, BrokerOrder]:
    """Open orders that nobody here knows, by the broker's id. Whose they are is known for the firm, for a symbol, and
    for an account that is the only one; a strategy has none."""
    kind, _, key = run.scope.partition(":")
    if kind == "strategy" or (kind == "account" and Account.objects.count() > 1):
        return {}
    unknown = unknown_here({found.broker_order_id: found.client_order_id for found in listed})
    return {
        found.broker_order_id: found
        for found in listed
        if found.broker_order_id in unknown and (kind != "symbol" or found.symbol == key)
    }


def _ask(
    run: KillSwitchRun,
    listed: list[BrokerOrder],
    targets: list[BrokerOrder],
    over: Callable[[], bool],
    clock: Clock,
) -> dict[str, Outcome]:
    """Those that were not asked for just now: by one request when they are all that is open, else one by one.

    What the broker is asked to cancel at once is what it has open then, not what it listed: only where the whole
    account is halted can nothing of another's have come in between.
    """
    asked = KillSwitchOrder.objects.filter(run=run, asked_at__gt=clock.now() - ASK_AGAIN)
    waiting = set(asked.values_list("order__broker_order_id", flat=True))
    due = [found.broker_order_id for found in targets if found.broker_order_id not in waiting]
    if not due:
        return {}
    client = execution_client(settings.TRADINGBOT)
    if len(targets) == len(listed) and not run.scope.startswith(("strategy:", "symbol:")):
        answered = mass_cancel.ask_for_all(client)
        if answered is not None:
            return answered
    return mass_cancel.ask_for_each(client, due, over)


def _note(run: KillSwitchRun, book: list[Order], outcomes: dict[str, Outcome], actor: str, clock: Clock) -> None:
    by_outcome: dict[Outcome, list[int]] = {}
    for order in book:
        if order.broker_order_id in outcomes:
            by_outcome.setdefault(outcomes[order.broker_order_id], []).append(order.pk)
    for outcome, ids in by_outcome.items():
        rows = KillSwitchOrder.objects.filter(run=run, order__in=ids)
        rows.update(outcome=outcome.word, detail=outcome.detail[:200], asked_at=clock.now())
    mass_cancel.note(book, outcomes, actor=actor, clock=clock)
