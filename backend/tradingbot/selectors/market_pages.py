"""What the pages of one feed and of one symbol show: how fresh it is, what stops it, its bars and bad rows.

A bounded number of queries a page, and one round trip to the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from django.db.models import Count, F, Func, IntegerField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from backend.tradingbot.data import calendar
from backend.tradingbot.data.check_context import Context, Sessions
from backend.tradingbot.data.checks import CATALOGUE, check_bars
from backend.tradingbot.data.drawing import draw
from backend.tradingbot.data.file_check import FLAGS, Outline
from backend.tradingbot.data.frames import INTERVALS, datetime_of, micros
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.models import BarConflict, CheckRun, CorporateAction, DataStop, Feed, Quarantine
from backend.tradingbot.selectors.bars import intervals_stored, newest_bars, open_conflicts
from backend.tradingbot.selectors.corporate_actions import on_file
from backend.tradingbot.selectors.market_data import SymbolQuality, data_quality

BARS_SHOWN, FLAGS_SHOWN, SYMBOLS_SHOWN = 1_000, 50, 500
STALE_SECONDS = 20.0
WORST_FIRST = ("danger", "warning", "normal")


@dataclass(frozen=True)
class State:
    """A word, how bad it is, and its icon."""

    word: str
    level: str = "normal"
    icon: str = ""


@dataclass(frozen=True)
class Told:
    """One verdict with the run that told it."""

    run: CheckRun
    check: str
    hard: bool
    symbol: str
    rows: int
    at: str
    meaning: str


@dataclass
class Chart:
    """``svg`` is drawn; ``flags`` are (time, close or None, hard, check), the newest first."""

    svg: str
    bars: int
    first: datetime
    last: datetime
    flags: list[tuple[datetime, float | None, bool, str]] = field(default_factory=list)


def state_of(quality: SymbolQuality, in_session: bool) -> State:
    """What a person must know first of a symbol: stopped, never seen, old while the market is open, or fresh."""
    quote = quality.quote
    if quality.stops or (quote is not None and quote.stopped_by):
        return State("stopped", "danger", "block")
    if quote is None or quality.age is None:
        return State("never seen", "warning" if in_session else "normal", "visibility_off")
    if not in_session:
        return State("market closed", "normal", "bedtime")
    if quality.age > STALE_SECONDS:
        return State("old", "warning", "schedule")
    return State("fresh", "normal", "check_circle")


def with_stopped_symbols(feeds: QuerySet[Feed]) -> QuerySet[Feed]:
    """Each feed with ``stopped_symbols``: how many of its symbols a check keeps stopped now, in the same statement."""
    place: Func = Func(OuterRef("symbols"), F("symbol"), function="array_position", output_field=IntegerField())
    stopped = DataStop.objects.filter(released_at__isnull=True).alias(place=place).filter(place__isnull=False)
    counted = stopped.order_by().annotate(all=Value(1)).values("all").annotate(n=Count("symbol", distinct=True))
    return feeds.annotate(stopped_symbols=Coalesce(Subquery(counted.values("n"), output_field=IntegerField()), 0))


def feed_page(hot: HotState, feed: Feed, now: datetime) -> dict[str, Any]:
    """The feed's session and silence, its symbols (the worst first), verdicts, runs, bad rows."""
    in_session = calendar.is_open(now, feed.session_calendar)
    quality = data_quality(hot, now, feed.symbols[:SYMBOLS_SHOWN])
    conflicts = open_conflicts(feed.symbols)
    lines = [(state_of(q, in_session), q, conflicts.get(q.symbol, 0)) for q in quality.symbols]
    lines.sort(key=lambda line: (WORST_FIRST.index(line[0].level), line[1].symbol))
    silent = None if feed.last_seen_at is None else (now - max(feed.last_seen_at, feed.watched_since)).total_seconds()
    runs = CheckRun.objects.filter(subject=feed.code)
    return {
        "feed": feed,
        "state": _feed_state(feed, in_session, silent),
        "silent": silent,
        "problem": quality.problem,
        "lines": lines,
        "more": max(len(feed.symbols) - SYMBOLS_SHOWN, 0),
        "stopped": sum(1 for state, _, _ in lines if state.word == "stopped"),
        "verdicts": _told(runs.exclude(verdicts=[])[:10]),
        "runs": runs[:15],
        "quarantine": Quarantine.objects.filter(symbols__overlap=feed.symbols)[:20],
        "actions": CorporateAction.objects.filter(symbol__in=feed.symbols, withdrawn_at__isnull=True)[:10],
    }


def _feed_state(feed: Feed, in_session: bool, silent: float | None) -> State:
    if not feed.active:
        return State("switched off", "warning", "power_off")
    if feed.second_source:
        return State("second source", "normal", "compare_arrows")
    if not in_session:
        return State("market closed", "normal", "bedtime")
    if silent is None:
        return State("never heard", "danger", "sensors_off")
    return (
        State("silent", "danger", "sensors_off")
        if silent > feed.max_silence_seconds
        else State("heard", icon="sensors")
    )


def symbol_page(hot: HotState, symbol: str, now: datetime, interval: str | None) -> dict[str, Any]:
    """The symbol's last tick and state, stops, bars with the flagged ones, verdicts, conflicts, what was put aside."""
    quality = data_quality(hot, now, [symbol])
    feeds = list(Feed.objects.filter(symbols__contains=[symbol]))
    stored = intervals_stored(symbol)
    chosen = interval if interval in stored else (stored[0] if stored else None)
    name = _calendar_of(symbol, feeds)
    open_ones = DataStop.objects.filter(symbol=symbol, released_at__isnull=True)
    released = DataStop.objects.filter(symbol=symbol, released_at__isnull=False)
    return {
        "quality": quality.symbols[0],
        "problem": quality.problem,
        "state": state_of(quality.symbols[0], calendar.is_open(now, name)),
        "feeds": feeds,
        "stops": [*open_ones[:20], *released[:10]],
        "described": CATALOGUE,
        "verdicts": _told(CheckRun.objects.exclude(verdicts=[])[:40], {symbol, "*"})[:20],
        "conflicts": BarConflict.objects.filter(symbol=symbol)[:20],
        "quarantine": Quarantine.objects.filter(symbols__contains=[symbol])[:20],
        "actions": CorporateAction.objects.filter(symbol=symbol)[:10],
        "intervals": stored,
        "interval": chosen,
        "chart": None if chosen is None else chart(symbol, chosen, now, name),
    }


def _calendar_of(symbol: str, feeds: list[Feed]) -> str:
    if feeds:
        return feeds[0].session_calendar
    return calendar.ROUND_THE_CLOCK if "/" in symbol else calendar.XNYS


def _told(runs: QuerySet[CheckRun] | Iterable[CheckRun], symbols: Collection[str] | None = None) -> list[Told]:
    """The verdicts of ``runs``, each once: the newest run that told of it."""
    seen: set[tuple[str, str, str]] = set()
    found = []
    for run in runs:
        for verdict in run.verdicts:
            at = next(iter(verdict["evidence"].get("at", ())), "")
            key = (verdict["check"], verdict["symbol"], at)
            if key in seen or (symbols is not None and verdict["symbol"] not in symbols):
                continue
            seen.add(key)
            described = CATALOGUE.get(verdict["check"])
            meaning = described.meaning if described else ""
            hard = verdict["severity"] == "H"
            found.append(Told(run, verdict["check"], hard, verdict["symbol"], verdict["rows"], at, meaning))
    return found[:50]


def chart(symbol: str, interval: str, now: datetime, name: str) -> Chart:
    """The newest bars as SVG, checked as they are drawn."""
    frame = newest_bars(symbol, interval, BARS_SHOWN)
    times = frame["time"].dt.epoch("us").to_numpy()
    outline = Outline()
    outline.add(times, frame["close"].to_numpy())
    sessions = Sessions.between(int(times.min()), int(times.max()), name)
    context = Context(sessions=sessions, as_of=micros(now), interval=INTERVALS[interval], actions=on_file([symbol]))
    closes = dict(zip(times.tolist(), frame["close"].to_list(), strict=True))
    for verdict in check_bars(frame, context):
        for at in verdict.evidence.get("at", ()):
            time = int(np.datetime64(at.removesuffix("Z"), "us").astype(np.int64))
            outline.flags.append((time, closes.get(time, float("nan")), verdict.severity.value, verdict.check))
    del outline.flags[FLAGS:]
    flags = [
        (datetime_of(time), None if price != price else price, severity == "H", check)
        for time, price, severity, check in sorted(outline.flags, reverse=True)[:FLAGS_SHOWN]
    ]
    return Chart(draw(outline), len(frame), datetime_of(int(times[0])), datetime_of(int(times[-1])), flags)
