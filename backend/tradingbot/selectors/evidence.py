"""What is known of a strategy's build in its present mode: the evidence of a promotion, and the divergence report.

Invariants: only orders since the mode began count; what cannot be told is None, which no condition accepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.occ import multiplier_of
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.models import (
    Account,
    Break,
    Breaker,
    Execution,
    ModeChange,
    Order,
    ShadowExecution,
    ShadowOrder,
    StrategyBuild,
)
from backend.tradingbot.ops.divergence import Divergence, OrderOutcome, summarise
from backend.tradingbot.risk.promotion import Evidence
from backend.tradingbot.selectors.verdicts import hard_verdicts

MOST_ORDERS = 100_000
HEAVY = ("decision", "snapshot", "evidence", "greeks")  # many thousands of bytes an order, and not asked for here


def evidence_of(build: StrategyBuild, *, clock: Clock) -> Evidence:
    """The figures that the conditions of the next step are judged by."""
    rows = _orders(build, build.mode_since, None)
    dated = rows.exclude(status="denied").values_list("created_at", "account__session_calendar")[:MOST_ORDERS]
    days = {session_date(at, calendar) for at, calendar in dated}
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


def divergence(build: StrategyBuild, since: datetime, until: datetime | None, *, most: int = MOST_ORDERS) -> Divergence:
    """Shadow against real trading of a build over a span of time, by its ``most`` newest orders."""
    return _compared(_outcomes(build, since, until, most))


def divergence_to_watch(build: StrategyBuild, *, most: int) -> Divergence:
    """What a build that places new risk is watched by: both sides since its mode began. A live build simulates nothing
    any more, so its real orders are held against what it simulated as a canary, right before it went live."""
    if build.mode != "live":
        return divergence(build, build.mode_since, None, most=most)
    live = _compared(_outcomes(build, build.mode_since, None, most)).live
    begun = canary_began(build)
    before = [] if begun is None else _outcomes(build, begun, build.mode_since, most)
    return Divergence(_compared(before).shadow, live)


def canary_began(build: StrategyBuild) -> datetime | None:
    """When the canary time began that a live build was promoted from; None when it was made live without one."""
    changes = ModeChange.objects.filter(build=build, after="canary", at__lt=build.mode_since)
    return changes.order_by("-at").values_list("at", flat=True).first()


def report_begins(build: StrategyBuild) -> datetime:
    """Since when a report compares by itself: since the mode began, of a live build with the canary time before it."""
    return (canary_began(build) if build.mode == "live" else None) or build.mode_since


def divergence_by_day(
    build: StrategyBuild, since: datetime, until: datetime | None
) -> tuple[Divergence, dict[date, Divergence]]:
    """The whole span, and each session of it in which the build asked for an order, the newest first."""
    found = _outcomes(build, since, until)
    days = sorted({one.day for one in found}, reverse=True)
    return _compared(found), {day: _compared([one for one in found if one.day == day]) for day in days}


@dataclass(frozen=True)
class _Sides:
    """What one order came to on each side; None where it had no part."""

    day: date
    shadow: OrderOutcome | None
    live: OrderOutcome | None


def _compared(found: list[_Sides]) -> Divergence:
    return Divergence(
        summarise([one.shadow for one in found if one.shadow is not None]),
        summarise([one.live for one in found if one.live is not None]),
    )


def _outcomes(build: StrategyBuild, since: datetime, until: datetime | None, most: int = MOST_ORDERS) -> list[_Sides]:
    """A refused order counts on every side on which its mode would have let it trade."""
    rows = _orders(build, since, until).select_related("shadow", "account").order_by("-id")
    orders = rows.defer(*HEAVY).annotate(quote=KeyTransform("quote", "snapshot"))[:most]
    dated = [(session_date(order.created_at, order.account.session_calendar), order) for order in orders]
    executions = _Executions([order for _, order in dated])
    marks = _marks(dated, executions)
    found = []
    for day, order in dated:
        mark, denied = marks.get((day, order.symbol)), order.status == "denied"
        shadow = _shadow(order, mark) if hasattr(order, "shadow") else None
        if denied and order.mode != "live":
            shadow = _refused(order)
        live = _live(order, executions.first.get(order.pk), mark) if order.qty > 0 and not denied else None
        if denied and order.mode != "shadow":
            live = _refused(order)
        found.append(_Sides(day, shadow, live))
    return found


def _orders(build: StrategyBuild, since: datetime, until: datetime | None) -> QuerySet[Order]:
    span = Q(created_at__gte=since) if until is None else Q(created_at__gte=since, created_at__lt=until)
    return Order.objects.filter(span, strategy=build.strategy, strategy_build=build.build_id)


class _Executions:
    """Of each order, when it was first executed for real; and every price at which one was, real or simulated."""

    def __init__(self, orders: list[Order]) -> None:
        keys = [order.pk for order in orders]
        self.first: dict[int, datetime] = {}
        self.prices: dict[int, list[tuple[datetime, Decimal]]] = {}
        for model in (Execution, ShadowExecution):
            rows = model._default_manager.filter(order__in=keys).values_list("order", "occurred_at", "price")
            for order, at, price in rows:
                self.prices.setdefault(order, []).append((at, price))
                if model is Execution:
                    self.first[order] = min(at, self.first.get(order, at))


def _marks(dated: list[tuple[date, Order]], executions: _Executions) -> dict[tuple[date, str], Decimal]:
    """The last price that each session saw of a symbol: of the quotes that orders were judged by, and of executions."""
    latest: dict[tuple[date, str], tuple[datetime, Decimal]] = {}
    for day, order in dated:
        price = _quoted(order, "price")
        seen = [*executions.prices.get(order.pk, []), *([] if price is None else [(order.created_at, price)])]
        for moment in seen:
            known = latest.get((day, order.symbol))
            latest[day, order.symbol] = moment if known is None else max(known, moment)
    return {key: price for key, (_, price) in latest.items()}


def _refused(order: Order) -> OrderOutcome:
    qty = order.qty if order.requested_qty is None else order.requested_qty
    return OrderOutcome(refused=True, buy=order.side == "buy", qty=qty, filled_qty=Decimal(0))


def _shadow(order: Order, mark: Decimal | None) -> OrderOutcome:
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
        pnl=_gain(order, part.filled_qty, part.avg_price, mark),
    )


def _live(order: Order, first: datetime | None, mark: Decimal | None) -> OrderOutcome:
    return OrderOutcome(
        refused=order.status == "rejected",
        buy=order.side == "buy",
        qty=order.qty,
        filled_qty=order.filled_qty,
        avg_price=order.avg_price,
        arrival=_arrival(order),
        latency=None if first is None else (first - order.created_at).total_seconds(),
        pnl=_gain(order, order.filled_qty, order.avg_price, mark),
    )


def _arrival(order: Order) -> Decimal | None:
    """The touch that the order was judged by, from its own snapshot."""
    touch = _quoted(order, "ask" if order.side == "buy" else "bid")
    return _quoted(order, "price") if touch is None else touch


def _quoted(order: Order, name: str) -> Decimal | None:
    quote = order.quote  # type: ignore[attr-defined]
    text = quote.get(name) if isinstance(quote, dict) else None
    return None if text is None else Decimal(text)


def _gain(order: Order, qty: Decimal, price: Decimal | None, mark: Decimal | None) -> Decimal | None:
    """What the execution is worth at the session's last price beyond what it cost, in account currency."""
    multiplier = multiplier_of(order.symbol)
    if price is None or mark is None or multiplier is None:
        return None
    return (mark - price) * qty * multiplier * (1 if order.side == "buy" else -1)
