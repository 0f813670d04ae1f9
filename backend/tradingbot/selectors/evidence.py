"""What is known of a strategy's build in its present mode: the evidence of a promotion, and the divergence report.

Invariants: only orders since the mode began count; what cannot be told is None, which no condition accepts.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.db.models import Q, QuerySet

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.models import Account, Break, Breaker, Execution, Order, ShadowOrder, StrategyBuild
from backend.tradingbot.ops.divergence import Divergence, OrderOutcome, summarise
from backend.tradingbot.risk.promotion import Evidence
from backend.tradingbot.selectors.verdicts import hard_verdicts

MOST_ORDERS = 100_000


def evidence_of(build: StrategyBuild, *, clock: Clock) -> Evidence:
    """The figures that the conditions of the next step are judged by."""
    rows = _orders(build, build.mode_since, None)
    days = {session_date(at) for at in rows.exclude(status="denied").values_list("created_at", flat=True)[:MOST_ORDERS]}
    accounts = list(Account.objects.filter(orders__in=rows).distinct().values_list("pk", "code"))
    scopes = ["firm", f"strategy:{build.strategy.code}", *(f"account:{code}" for _, code in accounts)]
    found = divergence(build, build.mode_since, None)
    return Evidence(
        days=len(days),
        orders=rows.exclude(status="denied").count(),
        slippage_bps_difference=found.worst("slippage_bps"),
        fill_rate_difference=found.worst("fill_rate"),
        hard_verdicts=hard_verdicts(set(rows.values_list("symbol", flat=True).distinct()), build.mode_since),
        open_breaks=Break.objects.filter(account__in=[pk for pk, _ in accounts]).exclude(status="closed").count(),
        open_breakers=Breaker.objects.filter(scope__in=scopes, tripped_at__isnull=False).count(),
    )


def divergence(build: StrategyBuild, since: datetime, until: datetime | None) -> Divergence:
    """Shadow against real trading of a build over a span of time."""
    rows = list(_orders(build, since, until).select_related("shadow").order_by("-id")[:MOST_ORDERS])
    first = _first_executions(rows)
    shadow = [_shadow(order) for order in rows if hasattr(order, "shadow")]
    live = [_live(order, first.get(order.pk)) for order in rows if order.qty > 0 or order.status == "denied"]
    return Divergence(summarise(shadow), summarise(live))


def _orders(build: StrategyBuild, since: datetime, until: datetime | None) -> QuerySet[Order]:
    span = Q(created_at__gte=since) if until is None else Q(created_at__gte=since, created_at__lt=until)
    return Order.objects.filter(span, strategy=build.strategy, strategy_build=build.build_id)


def _first_executions(orders: list[Order]) -> dict[int, datetime]:
    keys = [order.pk for order in orders]
    found: dict[int, datetime] = {}
    for order, at in Execution.objects.filter(order__in=keys).order_by("-id").values_list("order", "occurred_at"):
        found[order] = min(at, found.get(order, at))
    return found


def _shadow(order: Order) -> OrderOutcome:
    part: ShadowOrder = order.shadow  # type: ignore[attr-defined]
    took = None if part.first_fill_at is None else (part.first_fill_at - order.created_at).total_seconds()
    return OrderOutcome(
        refused=False,
        buy=order.side == "buy",
        qty=part.qty,
        filled_qty=part.filled_qty,
        avg_price=part.avg_price,
        arrival=part.arrival_price,
        latency=took,
        pnl=_gain(order.side, part.filled_qty, part.avg_price, part.arrival_price),
    )


def _live(order: Order, first: datetime | None) -> OrderOutcome:
    arrival = _arrival(order)
    return OrderOutcome(
        refused=order.status in ("denied", "rejected"),
        buy=order.side == "buy",
        qty=order.qty,
        filled_qty=order.filled_qty,
        avg_price=order.avg_price,
        arrival=arrival,
        latency=None if first is None else (first - order.created_at).total_seconds(),
        pnl=_gain(order.side, order.filled_qty, order.avg_price, arrival),
    )


def _arrival(order: Order) -> Decimal | None:
    """The touch that the order was judged by, from its own snapshot."""
    quote = order.snapshot.get("quote") if isinstance(order.snapshot, dict) else None
    if not quote:
        return None
    text = quote.get("ask" if order.side == "buy" else "bid") or quote.get("price")
    return None if text is None else Decimal(text)


def _gain(side: str, qty: Decimal, price: Decimal | None, arrival: Decimal | None) -> Decimal | None:
    """What the execution gained against the arrival price, in account currency; None when a price is missing."""
    if price is None or arrival is None:
        return None
    return (arrival - price) * qty * (1 if side == "buy" else -1)
