"""The one frozen snapshot that an order is judged by. Read under the account's lock when the order is to be placed."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Count, DecimalField, F, Q, Sum, Value
from django.db.models.functions import Coalesce

from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.execution.order_state import OPEN
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.models import Account, Breaker, Order, Position, RiskRow
from backend.tradingbot.risk.gates import OpenBreaker, Quote, RiskSnapshot


def read_quote(hot: HotState, symbol: str) -> tuple[Quote | None, str | None]:
    """The last tick and, when the store cannot say, why. One round trip."""
    try:
        return hot.quote(symbol), None
    except UnavailableError as error:
        return None, error.message


def risk_snapshot(
    order: OrderIntent,
    account: Account,
    row: RiskRow,
    market: tuple[Quote | None, str | None],
    now: datetime,
    used: bool,
) -> RiskSnapshot:
    """Three queries: the breakers that apply, the position, and the sums of what is open in the symbol."""
    required = ("firm", f"account:{order.account}", f"strategy:{order.strategy}")
    rows = {b.scope: b for b in Breaker.objects.filter(scope__in=[*required, f"symbol:{order.symbol}"])}
    zero = Value(Decimal(0), output_field=DecimalField(max_digits=28, decimal_places=9))
    rest = F("qty") - F("filled_qty")
    sums = (
        Order.objects.filter(account=account, symbol=order.symbol, status__in=[s.value for s in OPEN])
        .exclude(client_order_id=order.client_order_id)
        .aggregate(
            buys=Coalesce(Sum(rest, filter=Q(side="buy")), zero),
            sells=Coalesce(Sum(rest, filter=Q(side="sell")), zero),
            doubtful=Count("id", filter=Q(status="in_doubt") | Q(status="pending_submit", send_by__lt=now)),
        )
    )
    position = Position.objects.filter(account=account, symbol=order.symbol).values_list("qty", flat=True).first()
    quote, error = market
    guard = rows.get(f"account:{order.account}")
    evaluated = None if guard is None else guard.evaluated_at
    return RiskSnapshot(
        now=now,
        id_used=used,
        missing_breakers=tuple(scope for scope in required if scope not in rows),
        open_breakers=tuple(OpenBreaker(b.scope, b.reason) for b in rows.values() if b.tripped_at is not None),
        quote=quote,
        market_data_error=error,
        max_tick_age=Decimal(account.max_tick_age_seconds),
        symbols=frozenset(account.symbols),
        cash=row.cash,
        reserved_cash=row.reserved_cash,
        position=position or Decimal(0),
        working_buys=sums["buys"],
        working_sells=sums["sells"],
        doubtful_orders=sums["doubtful"],
        market_collar_bps=account.market_collar_bps,
        equity_known=row.equity is not None,
        evaluated_age=None if evaluated is None else Decimal(str(round((now - evaluated).total_seconds(), 6))),
        max_evaluated_age=3 * Decimal(str(settings.TRADINGBOT.mark_seconds)),
    )


def unresolved_orders(now: datetime, grace_seconds: float) -> list[tuple[str, str]]:
    """``(account code, client order id)`` of every order in doubt, and of those whose sender is past its time."""
    overdue = Q(status="pending_submit", send_by__lt=now - timedelta(seconds=grace_seconds))
    found = Order.objects.filter(Q(status="in_doubt") | overdue).order_by("id")
    return list(found.values_list("account__code", "client_order_id")[:500])
