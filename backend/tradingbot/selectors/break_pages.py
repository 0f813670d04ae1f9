"""Breaks as people look for them: by age in business days, and what a resolution would do to our books."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.db.models import Case, Q, QuerySet, When
from django.db.models.functions import Coalesce, TruncDate

from backend.tradingbot.data.calendar import CALENDARS, previous_session, session_on
from backend.tradingbot.models import Break
from backend.tradingbot.ops.recon_kinds import BreakKind
from backend.tradingbot.selectors.recon_report import AGE_BANDS, AGES

UNRESOLVED = ("open", "assigned")
MOST_PARTNERS = 200
# What a person compares first; the store keeps no order of its own.
FIRST_READ = ("execution_id", "symbol", "side", "qty", "price", "cash", "fee", "status", "occurred_at", "trade_date")
PAIRS = {
    BreakKind.MISSING_AT_BROKER: BreakKind.MISSING_INTERNAL,
    BreakKind.MISSING_INTERNAL: BreakKind.MISSING_AT_BROKER,
}


def of_age(rows: QuerySet[Break], band: str, today: date) -> QuerySet[Break]:
    """Those of an age band, each by the calendar of its account; an unknown band is every age."""
    if band not in AGE_BANDS:
        return rows
    place = AGE_BANDS.index(band)
    rows = rows.annotate(since=Coalesce("session", TruncDate("opened_at")))
    wanted = Q(pk__in=[])
    for calendar in CALENDARS:
        each = Q(account__session_calendar=calendar)
        if place < len(AGES):
            each &= Q(since__gte=_youngest_older(today, AGES[place][1], calendar))
        if place:
            each &= Q(since__lt=_youngest_older(today, AGES[place - 1][1], calendar))
        wanted |= each
    return rows.filter(wanted)


def _youngest_older(today: date, days: int, calendar: str) -> date:
    """The first day whose age on ``today`` is at most ``days`` sessions."""
    day = today if session_on(today, calendar) else previous_session(today, calendar).date
    for _ in range(days):
        day = previous_session(day, calendar).date
    return day


def partners_of(row: Break) -> QuerySet[Break]:
    """The breaks of the other side that a forced match could pair ``row`` with, at most 200; its symbol's first."""
    other = PAIRS.get(BreakKind(row.kind))
    if other is None:
        return Break.objects.none()
    rows = Break.objects.filter(account=row.account, kind=str(other), status__in=UNRESOLVED)
    first = list(rows.filter(symbol=row.symbol).order_by("-id").values_list("pk", flat=True)[:MOST_PARTNERS])
    rest = list(rows.exclude(symbol=row.symbol).order_by("-id").values_list("pk", flat=True)[:MOST_PARTNERS])
    chosen = [*first, *rest][:MOST_PARTNERS]
    return Break.objects.filter(pk__in=chosen).order_by(Case(When(symbol=row.symbol, then=0), default=1), "-id")


def side_by_side(row: Break) -> list[tuple[str, Any, Any, Any]]:
    """``(what, ours, the broker's, difference)``, a line a figure that any of the three tells."""
    told = dict.fromkeys([*row.ours, *row.theirs, *row.difference])
    names = [name for name in FIRST_READ if name in told] + [name for name in told if name not in FIRST_READ]
    return [
        (name.replace("_", " "), row.ours.get(name), row.theirs.get(name), row.difference.get(name)) for name in names
    ]


def would_book(row: Break) -> list[str]:
    """What closing a forced match or a write-off enters in our books, in words; empty: nothing."""
    activities = row.effects.get("activities", ())
    if activities:
        return [
            _entry(each["kind"].replace("_", " "), each.get("symbol"), each.get("qty"), each.get("amount"))
            for each in activities
        ]
    moves = [
        _entry("correction", move.get("symbol"), move.get("qty"), move.get("cash"))
        for move in row.effects.get("moves", ())
    ]
    cost = row.effects.get("cost")
    return [*moves, f"average cost of {cost['symbol']}: {cost['price']}"] if cost and cost.get("price") else moves


def _entry(kind: str, symbol: Any, qty: Any, amount: Any) -> str:
    parts = [f"{qty} {symbol}" if symbol and qty not in (None, "0") else "", f"{amount} dollars" if amount else ""]
    return f"{kind}: " + " and ".join(part for part in parts if part)
