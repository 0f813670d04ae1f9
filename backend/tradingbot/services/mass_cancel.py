"""Cancelling many orders at once: the wish is stored first, then the broker is asked, then its answers are noted.

Invariants: whatever dies in between, the wish stands and recovery sends it; no transaction is open while the broker is
asked; each order has an outcome of its own, and what is not known is called unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

import structlog
from django.conf import settings

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import BrokerInDoubtError, BrokerRejectedError, BrokerUnreachableError
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.execution.order_state import Event, Status
from backend.tradingbot.models import Order, RiskRow
from backend.tradingbot.selectors.scopes import open_orders, simulated_orders
from backend.tradingbot.services import exposures, journal, shadow
from backend.tradingbot.services.locks import account_scope, locked_risk
from backend.tradingbot.services.order_life import transition

log = structlog.get_logger(__name__)

BATCH = 50
LEFT = ("cancel_requested", "unknown")  # the request left this house
CANCELABLE = (Status.ACCEPTED, Status.PARTIALLY_FILLED)


@dataclass(frozen=True)
class Outcome:
    """``cancel_requested``, ``refused``, ``unknown`` or ``wish_stored``, and why: none of them is a cancelled order.
    What is only ``simulated`` ends here at once."""

    word: str
    detail: str = ""


REQUESTED, WISHED, SIMULATED = Outcome("cancel_requested"), Outcome("wish_stored"), Outcome("simulated")


def deadline(seconds: float) -> Callable[[], bool]:
    """Whether ``seconds`` are over."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def store_wishes(orders: Iterable[Order], *, actor: str, clock: Clock) -> None:
    """One transaction and one entry an account. An order that is wished away already is left out."""
    fresh = sorted((order for order in orders if order.cancel_requested_at is None), key=lambda o: o.account.code)
    for code, group in groupby(fresh, key=lambda order: order.account.code):
        ids = [order.pk for order in group]
        with locked_risk(account_scope(code)) as row:
            now = clock.now()
            wished = Order.objects.filter(pk__in=ids, cancel_requested_at__isnull=True)
            names = sorted(wished.values_list("client_order_id", flat=True))
            if names:
                wished.update(cancel_requested_at=now, updated_at=now)
                journal.append(
                    row, kind="cancels_wished", actor=actor, subject=row.scope, data={"orders": names}, at=now
                )


def ask_for_each(client: AlpacaClient, broker_ids: Iterable[str], over: Callable[[], bool]) -> dict[str, Outcome]:
    """One request an order, as long as it is not ``over``; what was not asked is not in the answer."""
    outcomes: dict[str, Outcome] = {}
    for broker_id in broker_ids:
        if over():
            break
        outcomes[broker_id] = _ask(client, broker_id)
    return outcomes


def ask_for_all(client: AlpacaClient) -> dict[str, Outcome] | None:
    """One request for everything that is open at the broker; None when it gave no answer that can be used."""
    try:
        results = client.cancel_all()
    except (BrokerRejectedError, BrokerUnreachableError, BrokerInDoubtError) as error:
        log.warning("cancel_all_failed", problem=error.message)
        return None
    return {
        result.broker_order_id: REQUESTED if result.requested else Outcome("refused", f"http_{result.status}")
        for result in results
    }


def _ask(client: AlpacaClient, broker_id: str) -> Outcome:
    try:
        client.cancel_order(broker_id)
    except BrokerRejectedError as error:
        return Outcome("refused", error.code)
    except BrokerUnreachableError as error:
        return Outcome("wish_stored", error.code)
    except BrokerInDoubtError as error:
        return Outcome("unknown", error.reason)
    return REQUESTED


def note(orders: Iterable[Order], outcomes: Mapping[str, Outcome], *, actor: str, clock: Clock) -> None:
    """The transitions that the requests make, by the broker's order id. A refusal makes none: what became of its order
    is read from the broker."""

    def request(row: RiskRow, order: Order) -> None:
        outcome = outcomes.get(order.broker_order_id or "")
        if outcome is not None and order.status in CANCELABLE:  # None: replaced meanwhile, the wish goes to the new id
            order.cancel_sent_at = clock.now() if outcome == REQUESTED else None  # None: it is asked again
            evidence = {"actor": actor, "outcome": outcome.word, "detail": outcome.detail}
            transition(row, order, Event.REQUEST_CANCEL, evidence, cause=actor, clock=clock)

    asked = [order for order in orders if outcomes.get(order.broker_order_id or "", WISHED).word in LEFT]
    for_each_locked(asked, request, clock=clock)


def for_each_locked(orders: Iterable[Order], act: Callable[[RiskRow, Order], None], *, clock: Clock) -> None:
    """``act`` on every order with its account's risk row, both locked and as they are now.

    A transaction holds at most ``BATCH`` of them: many orders do not cost a commit each, and nobody waits for long.
    """
    by_account = sorted(orders, key=lambda order: (order.account.code, order.pk))
    for code, group in groupby(by_account, key=lambda order: order.account.code):
        ids = [order.pk for order in group]
        for start in range(0, len(ids), BATCH):
            with locked_risk(account_scope(code)) as row, exposures.once_a_name(now=clock.now()):
                rows = Order.objects.select_related("account", "strategy").select_for_update(of=("self",))
                for order in rows.filter(pk__in=ids[start : start + BATCH]).order_by("pk"):
                    act(row, order)


def cancel_all(
    account: str, *, strategy: str | None, symbol: str | None, actor: str, clock: Clock, seconds: float = 20.0
) -> list[tuple[Order, Outcome]]:
    """Cancel the open orders of ``account``, or those of one strategy or symbol; what became of each request.

    What could not be asked within ``seconds`` keeps its wish, and recovery sends it.
    """
    wanted = {"strategy__code": strategy, "symbol": symbol}
    narrower = {name: value for name, value in wanted.items() if value is not None}
    simulated = list(simulated_orders(account_scope(account)).filter(**narrower))
    shadow.cancel_parts(simulated, actor=actor, clock=clock)
    orders = list(open_orders(account_scope(account)).filter(**narrower))
    store_wishes(orders, actor=actor, clock=clock)
    client = execution_client(settings.TRADINGBOT)
    asked = ask_for_each(client, [o.broker_order_id for o in orders if o.broker_order_id], deadline(seconds))
    note(orders, asked, actor=actor, clock=clock)
    touched = {order.pk for order in (*simulated, *orders)}
    now = Order.objects.select_related("account", "strategy").filter(pk__in=touched)
    return [(order, _outcome(order, asked)) for order in now.order_by("pk")]


def _outcome(order: Order, asked: Mapping[str, Outcome]) -> Outcome:
    return SIMULATED if order.qty == 0 else asked.get(order.broker_order_id or "", WISHED)
