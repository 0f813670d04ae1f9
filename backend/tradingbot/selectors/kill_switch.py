"""What the kill switch would stop and cancel, and how far a run of it is: bounded lists with their full counts."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Case, Count, Value, When

from backend.tradingbot.execution.order_state import OPEN
from backend.tradingbot.models import Account, Breaker, KillSwitchOrder, KillSwitchRun, Order, Strategy, TradingState
from backend.tradingbot.selectors.scopes import HeldPosition, open_orders, positions_of, simulated_orders

SHOWN, MOST_CHOICES = 50, 1_000
SHOWN_RESULTS = 200
OPEN_WORDS = [status.value for status in OPEN]


@dataclass(frozen=True)
class Preview:
    """``known`` is False for a scope that does not exist: nothing can be pulled there."""

    scope: str
    known: bool
    state: TradingState | None
    run: KillSwitchRun | None
    orders: list[Order]
    order_count: int
    simulated: int
    positions: list[HeldPosition]
    position_count: int


@dataclass(frozen=True)
class Progress:
    """``settled`` of ``total`` orders to be cancelled are at an end; ``by_status`` says where all of them stand."""

    run: KillSwitchRun
    total: int
    settled: int
    by_status: tuple[tuple[str, int], ...]
    by_outcome: tuple[tuple[str, int], ...]
    rows: list[KillSwitchOrder]
    more: int


def preview(scope: str) -> Preview:
    orders, positions = open_orders(scope), positions_of(scope)
    return Preview(
        scope=scope,
        known=scope.startswith("symbol:") or Breaker.objects.filter(scope=scope).exists(),
        state=TradingState.objects.filter(scope=scope).first(),
        run=KillSwitchRun.objects.filter(scope=scope, finished_at=None).first(),
        orders=list(orders[:SHOWN]),
        order_count=orders.count(),
        simulated=simulated_orders(scope).count(),
        positions=positions[:SHOWN],
        position_count=len(positions),
    )


def choices() -> list[tuple[str, list[str]]]:
    """Scopes to pick from, by kind: the firm, accounts, strategies, and the symbols with something open."""
    working = Order.objects.filter(status__in=OPEN_WORDS).order_by("symbol").values_list("symbol", flat=True).distinct()
    codes = {
        "account": Account.objects.filter(active=True).values_list("code", flat=True)[:MOST_CHOICES],
        "strategy": Strategy.objects.filter(active=True).values_list("code", flat=True)[:MOST_CHOICES],
        "symbol": working[:MOST_CHOICES],
    }
    return [("firm", ["firm"]), *((kind, [f"{kind}:{code}" for code in found]) for kind, found in codes.items())]


def progress(run: KillSwitchRun) -> Progress:
    rows = KillSwitchOrder.objects.filter(run=run)
    cancels = rows.filter(purpose="cancel")
    statuses = _counted(cancels, "order__status")
    total = sum(count for _, count in statuses)
    still_open = Case(When(order__status__in=OPEN_WORDS, then=Value(0)), default=Value(1))
    shown = rows.select_related("order__account").order_by(still_open, "id")[: SHOWN_RESULTS + 1]
    found = list(shown)
    return Progress(
        run=run,
        total=total,
        settled=sum(count for status, count in statuses if status not in OPEN_WORDS),
        by_status=statuses,
        by_outcome=_counted(cancels, "outcome"),
        rows=found[:SHOWN_RESULTS],
        more=max(rows.count() - SHOWN_RESULTS, 0) if len(found) > SHOWN_RESULTS else 0,
    )


def _counted(rows, name: str) -> tuple[tuple[str, int], ...]:  # type: ignore[no-untyped-def]
    return tuple(rows.order_by(name).values_list(name).annotate(Count("id")))
