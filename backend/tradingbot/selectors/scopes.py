"""Which orders and positions a scope covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Case, DecimalField, F, Q, QuerySet, Sum, When

from backend.tradingbot.execution.order_state import OPEN
from backend.tradingbot.models import Account, Execution, Order, Position

FIELD_OF = {"account": "account__code", "strategy": "strategy__code", "symbol": "symbol"}


@dataclass(frozen=True)
class HeldPosition:
    """``qty`` is signed, and what of the account's position the scope answers for."""

    account: Account
    symbol: str
    qty: Decimal


def covered_by(scope: str) -> Q:
    """The orders of ``firm``, ``account:<code>``, ``strategy:<code>`` or ``symbol:<sym>``."""
    if scope == "firm":
        return Q()
    kind, _, key = scope.partition(":")
    return Q(**{FIELD_OF[kind]: key})


def open_orders(scope: str) -> QuerySet[Order]:
    """Every order of ``scope`` that may still be executed: working, in doubt, or on its way."""
    rows = Order.objects.select_related("account", "strategy")
    return rows.filter(covered_by(scope), status__in=[status.value for status in OPEN]).order_by("id")


def simulated_orders(scope: str) -> QuerySet[Order]:
    """Every order of ``scope`` with a part in the shadow book that is still open there."""
    rows = Order.objects.select_related("account", "strategy")
    return rows.filter(covered_by(scope), shadow__status="open").order_by("id")


def given_up(scope: str) -> QuerySet[Order]:
    """Every order of ``scope`` that never arrived and is still watched: it may yet arrive, and work."""
    rows = Order.objects.select_related("account", "strategy")
    return rows.filter(covered_by(scope), watch_until__isnull=False).order_by("id")


def in_flight(scope: str, now: datetime, read_timeout: float) -> QuerySet[Order]:
    """Orders that were decided and whose sender may be sending them, or waiting for the answer, right now."""
    alive = now - timedelta(seconds=read_timeout)
    return Order.objects.filter(covered_by(scope), status="pending_submit", send_by__gt=alive)


def accounts_of(scope: str) -> QuerySet[Account]:
    """The accounts whose books a scope touches: its own, or all of them."""
    kind, _, key = scope.partition(":")
    return Account.objects.filter(code=key) if kind == "account" else Account.objects.all()


def positions_of(scope: str) -> list[HeldPosition]:
    """What is to be closed to make ``scope`` flat. A strategy answers for what it traded, within what is still held."""
    kind, _, key = scope.partition(":")
    held = Position.objects.select_related("account").exclude(qty=0).order_by("account_id", "symbol")
    if kind == "account":
        held = held.filter(account__code=key)
    elif kind == "symbol":
        held = held.filter(symbol=key)
    if kind != "strategy":
        return [HeldPosition(row.account, row.symbol, row.qty) for row in held]
    traded = _traded_by(key)
    shares = [(row, _within(traded.get((row.account.pk, row.symbol), Decimal(0)), row.qty)) for row in held]
    return [HeldPosition(row.account, row.symbol, qty) for row, qty in shares if qty]


def _traded_by(strategy: str) -> dict[tuple[int, str], Decimal]:
    """The signed sum of a strategy's executions, by account and symbol."""
    signed = Case(When(side="buy", then=F("qty")), default=-F("qty"), output_field=DecimalField())
    rows = Execution.objects.filter(order__strategy__code=strategy).order_by()
    return {
        (account, symbol): qty
        for account, symbol, qty in rows.values_list("account_id", "symbol").annotate(traded=Sum(signed))
    }


def _within(share: Decimal, held: Decimal) -> Decimal:
    """``share`` as far as ``held`` is on the same side and as large."""
    if share * held <= 0:
        return Decimal(0)
    return share if abs(share) <= abs(held) else held


def unknown_here(found: Mapping[str, str]) -> set[str]:
    """Of ``{the broker's id: client order id}``, the broker's ids of orders that have no row here by either."""
    known = Order.objects.filter(Q(broker_order_id__in=list(found)) | Q(client_order_id__in=list(found.values())))
    ours = {name for pair in known.values_list("broker_order_id", "client_order_id") for name in pair}
    return {broker_id for broker_id, name in found.items() if broker_id not in ours and name not in ours}
