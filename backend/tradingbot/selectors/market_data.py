"""What is known of each symbol's market data: its last tick, its age, its open stops, its feeds, the last runs.

A bounded number of queries and one round trip to the store, however many symbols there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.values import plain
from backend.tradingbot.data.calendar import is_open
from backend.tradingbot.data.checks import CATALOGUE
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.models import BarConflict, CheckRun, DataStop, Feed, Quarantine
from backend.tradingbot.risk.gates import Quote

MOST = 5_000


@dataclass(frozen=True)
class SymbolQuality:
    """One symbol. ``quote`` is None when there never was a good tick; ``age`` is its age in seconds."""

    symbol: str
    feeds: tuple[str, ...]
    quote: Quote | None
    age: float | None
    stops: tuple[DataStop, ...]


@dataclass(frozen=True)
class Quality:
    """``problem`` says why the ticks are not known; the rest stands."""

    symbols: tuple[SymbolQuality, ...]
    feeds: tuple[Feed, ...]
    problem: str | None
    at: datetime


def data_quality(hot: HotState, now: datetime, only: Collection[str] | None = None) -> Quality:
    """Every symbol that a feed declares or that is stopped, or ``only`` these."""
    feeds = tuple(Feed.objects.filter(active=True))
    stops: dict[str, list[DataStop]] = {}
    rows = DataStop.objects.filter(released_at__isnull=True).order_by("id")
    for stop in rows if only is None else rows.filter(symbol__in=list(only)):
        stops.setdefault(stop.symbol, []).append(stop)
    declared = {symbol for feed in feeds for symbol in feed.symbols}
    names = sorted(set(only) if only is not None else declared | stops.keys())[:MOST]
    quotes, problem = _quotes(hot, names)
    found = tuple(
        SymbolQuality(
            name,
            tuple(feed.code for feed in feeds if name in feed.symbols),
            quotes.get(name),
            _age(quotes.get(name), now),
            tuple(stops.get(name, ())),
        )
        for name in names
    )
    return Quality(found, feeds, problem, now)


def _quotes(hot: HotState, names: Iterable[str]) -> tuple[dict[str, Quote | None], str | None]:
    try:
        return hot.quotes(names), None
    except UnavailableError as error:
        return {}, error.message


def _age(quote: Quote | None, now: datetime) -> float | None:
    return None if quote is None else round((now - quote.as_of).total_seconds(), 3)


def shown_stop(stop: DataStop) -> dict[str, Any]:
    described = CATALOGUE.get(stop.check_name)
    return {
        "symbol": stop.symbol,
        "check": stop.check_name,
        "source": stop.source,
        "meaning": described.meaning if described else "",
        "since": rfc3339(stop.since),
        "evidence": stop.evidence,
        "released_by": list(described.released_by) if described else [],
        "released_at": rfc3339(stop.released_at),
        "release": None if stop.released_at is None else {"by": stop.released_by, "reason": stop.reason},
    }


def shown_symbol(quality: SymbolQuality) -> dict[str, Any]:
    quote = quality.quote
    last = None
    if quote is not None:
        last = {"price": plain(quote.price), "bid": plain(quote.bid), "ask": plain(quote.ask)}
        last["as_of"] = rfc3339(quote.as_of)
    return {
        "symbol": quality.symbol,
        "feeds": list(quality.feeds),
        "last": last,
        "age_seconds": quality.age,
        "stopped": bool(quality.stops) or (quote is not None and quote.stopped_by is not None),
        "stops": [shown_stop(stop) for stop in quality.stops],
    }


def shown_feed(feed: Feed, now: datetime) -> dict[str, Any]:
    heard = feed.last_seen_at
    return {
        "feed": feed.code,
        "calendar": feed.session_calendar,
        "in_session": is_open(now, feed.session_calendar),
        "symbols": len(feed.symbols),
        "bar_intervals": feed.bar_intervals,
        "second_source": feed.second_source,
        "last_seen_at": rfc3339(heard),
        "silent_seconds": None if heard is None else round((now - heard).total_seconds(), 3),
        "max_silence_seconds": feed.max_silence_seconds,
    }


def shown_run(run: CheckRun) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "subject": run.subject,
        "session": None if run.session is None else run.session.isoformat(),
        "phase": run.phase or None,
        "started_at": rfc3339(run.started_at),
        "seconds": run.seconds,
        "symbols": run.symbols,
        "rows": run.rows,
        "hard": run.hard,
        "warned": run.warned,
        "problem": run.problem or None,
    }


def overview(hot: HotState, now: datetime, only: Collection[str] | None = None) -> dict[str, Any]:
    """The answer of ``GET data-quality``."""
    quality = data_quality(hot, now, only)
    return {
        "at": rfc3339(now),
        "problem": quality.problem,
        "symbols": [shown_symbol(symbol) for symbol in quality.symbols],
        "feeds": [shown_feed(feed, now) for feed in quality.feeds],
        "runs": [shown_run(run) for run in CheckRun.objects.all()[:20]],
        "open_conflicts": BarConflict.objects.filter(resolution="").count(),
        "quarantined": Quarantine.objects.count(),
    }
