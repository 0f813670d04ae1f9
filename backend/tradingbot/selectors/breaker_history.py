"""What a breaker's page shows of its past: the equity or the errors around the last trip, and what waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backend.tradingbot.models import Breaker, BreakerEvent, EquityMark, ResetRequest

AROUND, QUIET_SPAN = timedelta(hours=2), timedelta(hours=6)
MOST_POINTS = 400
ERROR_WINDOW = 60.0


@dataclass(frozen=True)
class Timeline:
    """``points`` are (moment, value); ``limit`` is the value that trips; ``happened`` are (moment, what) in between."""

    of: str
    points: tuple[tuple[datetime, float], ...]
    limit: float | None
    start: float | None
    since: datetime
    until: datetime
    happened: tuple[tuple[datetime, str], ...]


def last_trip(row: Breaker) -> BreakerEvent | None:
    return BreakerEvent.objects.filter(breaker=row, kind="breaker_trip").order_by("-id").first()


def waiting_reset(row: Breaker, now: datetime) -> ResetRequest | None:
    return ResetRequest.objects.filter(breaker=row, state="waiting", expires_at__gt=now).first()


def timeline(row: Breaker, trip: BreakerEvent | None, now: datetime) -> Timeline | None:
    """Errors when they tripped it, else the equity where the scope has one; None when nothing was kept."""
    if trip is not None and trip.reason.startswith("error-rate"):
        return _errors(row, trip)
    if row.scope == "firm" or row.scope.startswith("account:"):
        return _equity(row, trip, now)
    return None


def _errors(row: Breaker, trip: BreakerEvent) -> Timeline | None:
    """How many errors the sliding minute held, as each came in, up to the trip."""
    before = sorted((float(seconds) for seconds in trip.values.get("errors_before", [])), reverse=True)
    if not before:
        return None
    points = [
        (
            trip.at - timedelta(seconds=seconds),
            float(sum(seconds <= other < seconds + ERROR_WINDOW for other in before)),
        )
        for seconds in before
    ]
    since = trip.at - timedelta(seconds=ERROR_WINDOW)
    limit = float(row.max_error_rate_per_min)
    return Timeline("errors in a minute", tuple(points), limit, None, since, trip.at, ((trip.at, "trip"),))


def _equity(row: Breaker, trip: BreakerEvent | None, now: datetime) -> Timeline | None:
    recent = trip is not None and (row.tripped_at is not None or now - trip.at < QUIET_SPAN)
    if recent and trip is not None:
        since, until = trip.at - AROUND, min(now, trip.at + AROUND)
    else:
        since, until = now - QUIET_SPAN, now
    marks = EquityMark.objects.filter(scope=row.scope, at__gte=since, at__lte=until).order_by("at")
    kept = list(marks.values_list("at", "equity", "start_equity")[:5_000])
    events = list(BreakerEvent.objects.filter(breaker=row, at__gte=since, at__lte=until).order_by("id")[:50])
    seen = [(at, float(equity)) for at, equity, _ in kept] + [
        (event.at, float(event.values["last_equity"]))
        for event in events
        if event.values.get("last_equity") not in (None, "None")
    ]
    if not seen:
        return None
    points = sorted(seen)
    step = max(1, len(points) // MOST_POINTS)
    start = float(kept[-1][2]) if kept else None
    if trip is not None and recent and trip.values.get("start_equity"):
        start = float(trip.values["start_equity"])
    limit = None if start is None else start * (1 - row.max_daily_drawdown)
    happened = tuple((event.at, event.kind.removeprefix("breaker_")) for event in events)
    return Timeline("equity", tuple(points[::step]), limit, start, since, until, happened)
