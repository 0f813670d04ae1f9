"""Checks against the session calendar: bars that should be there and are not, and bars where no session is.

An intraday bar bears the time at which it begins; a daily bar bears its trading date, as midnight UTC or as any time of
that date in New York. Sessions and early closes are the exchange's own (see ``calendar``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data import calendar
from backend.tradingbot.data.check_context import SHOWN, Context, Sessions, bar_check, found
from backend.tradingbot.data.frames import DAY, SymbolBars, Times, moment
from backend.tradingbot.data.row_checks import is_ascending

NEW_YORK = ZoneInfo("America/New_York")


@bar_check
def missing_bars(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: a bar that the calendar expects and that is not there.

    Expected is every interval of every session from ``context.start`` (else the first bar) that has ended by
    ``context.complete_to`` (else to the last bar). ``rows`` is the number of missing bars.
    """
    sessions, interval = context.sessions, context.interval
    if bars.time is None or sessions is None or not interval or interval > DAY or not bars.zoned:
        return
    times = bars.time if is_ascending(bars.time) else np.sort(bars.time)
    known = int(times[max(bars.fresh - 1, 0)]) if len(times) else None
    start = known if context.start is None or bars.fresh else context.start
    last = int(times[bars.end - 1]) if len(times) and bars.end else None
    if context.complete_to is not None and bars.end == len(bars):
        last = context.complete_to - interval
    if start is None or last is None:
        return
    if interval == DAY:
        absent = _absent_days(times, sessions, start, last)
    else:
        absent = _absent_intervals(times, sessions, interval, start, last)
    if len(absent):
        evidence = {"at": [moment(int(each)) for each in absent[:SHOWN]], "interval_seconds": interval // 1_000_000}
        yield Verdict("missing_bars", Severity.HARD, bars.symbol, evidence, len(absent))


@bar_check
def outside_session(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """W: a bar that begins outside every session (before the open, after the close, on a holiday)."""
    sessions, interval = context.sessions, context.interval
    if bars.time is None or sessions is None or not interval or interval > DAY or not bars.zoned or not len(bars):
        return
    if interval == DAY:
        outside = ~np.isin(trading_days(bars.time), sessions.days)
    elif is_ascending(bars.time):
        first, last = (np.searchsorted(bars.time, edge, side="left") for edge in (sessions.opens, sessions.closes))
        if (last - first).sum() == len(bars):
            return
        outside = ~sessions.contains(bars.time)
    else:
        outside = ~sessions.contains(bars.time)
    if outside.any():
        yield from found("outside_session", Severity.WARN, bars, outside)


def trading_days(times: Times) -> NDArray[np.int64]:
    """The trading date of daily bars, in days since 1970: midnight UTC as it stands, else the date in New York."""
    days: NDArray[Any] = times // DAY
    local = pl.Series(times).cast(pl.Datetime("us")).dt.replace_time_zone("UTC").dt.convert_time_zone(NEW_YORK.key)
    dates = local.dt.date().to_physical().cast(pl.Int64).to_numpy()
    return np.where(times % DAY == 0, days, dates)


def daily_bar_over(symbol: str, day: date) -> datetime:
    """When the bar of ``day`` says its last word: at the close of its session, early ones included; a day without a
    session ends at midnight UTC."""
    known = calendar.FIRST <= day <= calendar.LAST
    session = calendar.session_on(day, calendar_of(symbol)) if known else None
    if session is not None:
        return session.closes_at
    return datetime.combine(day + timedelta(days=1), time(0), UTC)


def calendar_of(symbol: str) -> str:
    """Pairs such as BTC/USD trade round the clock, everything else on XNYS."""
    return calendar.ROUND_THE_CLOCK if "/" in symbol else calendar.XNYS


def _absent_days(times: Times, sessions: Sessions, start: int, last: int) -> Times:
    """The sessions from ``start`` to ``last`` without a bar, as midnight UTC."""
    first_day, last_day = (int(trading_days(np.array([each], dtype=np.int64))[0]) for each in (start, last))
    expected = sessions.days[(sessions.days >= first_day) & (sessions.days <= last_day)]
    return np.setdiff1d(expected, trading_days(times)) * DAY


def _absent_intervals(times: Times, sessions: Sessions, interval: int, start: int, last: int) -> Times:
    """The intervals of the sessions, beginning from ``start`` to ``last``, at which no bar begins."""
    first = np.searchsorted(times, sessions.opens, side="left")
    count = np.searchsorted(times, sessions.closes, side="left") - first
    begin = np.maximum(sessions.opens, sessions.opens + -(-(start - sessions.opens) // interval) * interval)
    end = np.minimum(sessions.closes, last + 1)
    expected = np.maximum(-(-(end - begin) // interval), 0)
    exact = _on_grid(times, sessions, first, count, interval)
    absent = []
    for number in np.flatnonzero((expected > 0) & ((count != expected) | ~exact)):
        grid = np.arange(begin[number], end[number], interval, dtype=np.int64)
        inside = times[first[number] : first[number] + count[number]]
        absent.append(np.setdiff1d(grid, inside))
    return np.concatenate(absent) if absent else np.zeros(0, dtype=np.int64)


def _on_grid(times: Times, sessions: Sessions, first: Any, count: Any, interval: int) -> NDArray[np.bool_]:
    """Which sessions hold bars that all begin on an interval, each once."""
    if not len(times):
        return np.ones(len(sessions), dtype=bool)
    odd = np.zeros(len(times) + 1, dtype=np.int64)
    step = np.diff(times)
    # inside a session a bar is in order when it follows the one before by whole intervals, at least one
    odd[2:] = np.cumsum((step % interval != 0) | (step == 0))
    inner = odd[np.maximum(first + count, 1)] - odd[np.minimum(first + 1, len(times))]
    opening = times[np.minimum(first, len(times) - 1)]
    aligned: NDArray[np.bool_] = (opening - sessions.opens) % interval == 0
    good: NDArray[np.bool_] = (count == 0) | (aligned & (inner == 0))
    return good
