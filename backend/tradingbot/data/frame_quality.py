"""The checks of bars as exceptions, for callers that hold one symbol's frame: DATA_EMPTY, DATA_INCOMPLETE and so on.

Times with a zone are judged against the session calendar. Times without one cannot be placed in a session: they are
judged for order, for repeats, and for gaps against the frame's own step; daily ones also for missing sessions, unless
the frame has bars on weekends, as instruments that trade round the clock do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.tradingbot.core.errors import InvalidInputError, TradingBlockedError
from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data import calendar
from backend.tradingbot.data.check_context import CheckLimits, Context, Sessions, run, where_of
from backend.tradingbot.data.frames import DAY, EPOCH, VALUES, Bars, SymbolBars, Times, as_bars, micros, moment
from backend.tradingbot.data.return_checks import return_outlier
from backend.tradingbot.data.row_checks import (
    bad_price,
    bar_shape,
    conflicting_rows,
    future_time,
    negative_volume,
    repeated_row,
    time_reversed,
)
from backend.tradingbot.data.session_checks import calendar_of, missing_bars, trading_days

EMPTY, INCOMPLETE, CORRUPTED = "DATA_EMPTY", "DATA_INCOMPLETE", "DATA_CORRUPTED"
INTEGRITY = (bad_price, bar_shape, negative_volume, time_reversed, future_time, conflicting_rows, repeated_row)
SATURDAY = 5


class DataBlockedError(TradingBlockedError):
    """Market data that trading must not act on; ``code`` begins the message, ``details`` is the evidence."""


def blocked(code: str, message: str, **details: Any) -> DataBlockedError:
    return DataBlockedError(f"{code}: {message}", code=code, remedy="fetch the bars again from their source", **details)


def assert_complete(frame: Any, symbol: str) -> None:
    """DATA_EMPTY, or DATA_INCOMPLETE for a column that is missing, a NaN, or a bar that is not there."""
    bars, part = _read(frame, symbol)
    for name in VALUES:
        absent = int(np.isnan(getattr(part, name)).sum())
        if absent:
            raise blocked(
                INCOMPLETE, f"{symbol} lacks {name} in {absent} of {len(part)} bars", column=name, rows=absent
            )
    if part.time is None or bars.interval is None:
        return
    verdicts = _gaps(part, bars.interval, symbol)
    if verdicts:
        seen = verdicts[0]
        raise blocked(
            INCOMPLETE, f"{symbol} lacks {seen.rows} bar(s), the first at {seen.evidence['at'][0]}", **seen.evidence
        )


def assert_intact(frame: Any, symbol: str, *, now: datetime, session: date | None) -> None:
    """DATA_CORRUPTED for values that cannot be, and for times that are repeated, reversed or of a wrong day."""
    bars, part = _read(frame, symbol)
    as_of = micros(now) if part.zoned else None
    verdicts = run(INTEGRITY, bars, Context(as_of=as_of))
    if verdicts:
        seen = verdicts[0]
        first = seen.evidence["at" if part.time is not None else "rows"][0]
        message = f"{symbol} fails {seen.check} in {seen.rows} bar(s), the first at {first}"
        raise blocked(CORRUPTED, message, **seen.evidence)
    if part.time is not None:
        _assert_right_day(part, part.time, symbol, session)


def outliers(frame: Any, symbol: str, z_limit: float) -> list[Verdict]:
    """The moves over the limit that nothing confirms. ``frame`` may be a column of closes. DATA_CORRUPTED for a close
    that is no price: there is no return from it nor to it, so that nobody could say that it is sane."""
    if not hasattr(frame, "columns") and not isinstance(frame, Mapping | Bars):
        closes = list(frame)
        frame = {name: closes if name != "volume" else [1.0] * len(closes) for name in VALUES}
    bars, part = _read(frame, symbol)
    bad = ~((part.close > 0) & (part.close < np.inf))
    if bad.any():
        first = where_of(part, np.flatnonzero(bad)[:1])["at" if part.time is not None else "rows"][0]
        raise blocked(CORRUPTED, f"{symbol} has {int(bad.sum())} close(s) that are no price, the first at {first}")
    found = run([return_outlier], bars, Context(CheckLimits(z_limit=z_limit)))
    return [verdict for verdict in found if verdict.severity is Severity.HARD]


def _read(frame: Any, symbol: str) -> tuple[Bars, SymbolBars]:
    try:
        bars = as_bars(frame, symbol=symbol)
    except InvalidInputError as error:
        raise blocked(INCOMPLETE, f"{symbol} cannot be read: {error.message}", errors=error.errors) from error
    if not bars.rows:
        raise blocked(EMPTY, f"{symbol} has no bars")
    if len(bars.symbols) > 1:
        others = [part.symbol for part in bars][:5]
        raise blocked(CORRUPTED, f"{symbol}: the frame holds other symbols too", symbols=others)
    return bars, replace(bars.symbols[0], symbol=symbol)


def _gaps(part: SymbolBars, interval: int, symbol: str) -> list[Verdict]:
    times = part.time
    assert times is not None
    if not part.zoned and interval == DAY and bool((times % DAY == 0).all()):
        if _trades_every_day(times // DAY):
            return _step_gaps(times, interval, symbol)
        part = replace(part, zoned=True)
    if not part.zoned:
        return _step_gaps(times, interval, symbol)
    if interval > DAY:
        return []
    sessions = Sessions.between(int(times.min()), int(times.max()), calendar_of(symbol))
    return list(missing_bars.judge(part, Context(sessions=sessions, interval=interval)))


def _step_gaps(times: Times, interval: int, symbol: str) -> list[Verdict]:
    """Bars of one date that follow each other by more than the usual step."""
    ordered = np.sort(times)
    step = np.diff(ordered)
    one_day = (ordered[1:] // DAY == ordered[:-1] // DAY) | (interval == DAY)
    wide = np.flatnonzero(one_day & (step > interval))
    if not len(wide):
        return []
    at = [moment(int(time) + interval) for time in ordered[wide[:20]]]
    missing = int(np.maximum(step[wide] // interval - 1, 1).sum())
    return [Verdict("missing_bars", Severity.HARD, symbol, {"at": at}, missing)]


def _assert_right_day(part: SymbolBars, times: Times, symbol: str, session: date | None) -> None:
    days = trading_days(times) if part.zoned else times // DAY
    if session is not None:
        wrong = days != session.toordinal() - EPOCH.date().toordinal()
        if wrong.any():
            first = moment(int(times[int(wrong.argmax())]))
            raise blocked(CORRUPTED, f"{symbol} has {int(wrong.sum())} bar(s) not of {session}, the first at {first}")
    if calendar_of(symbol) == calendar.ROUND_THE_CLOCK:
        return
    if part.zoned:
        known = Sessions.between(int(times.min()), int(times.max()))
        wrong = ~np.isin(days, known.days)
    else:
        wrong = _weekend(days) & (not _trades_every_day(days))
    if wrong.any():
        first = moment(int(times[int(wrong.argmax())]))
        raise blocked(
            CORRUPTED, f"{symbol} has {int(wrong.sum())} bar(s) on days without a session, the first at {first}"
        )


def _weekend(days: Times) -> NDArray[np.bool_]:
    """Which days are a Saturday or a Sunday; 1970-01-01 was a Thursday."""
    saturday_or_sunday: NDArray[np.bool_] = (days + 3) % 7 >= SATURDAY
    return saturday_or_sunday


def _trades_every_day(days: Times) -> bool:
    """There are bars on every weekend day between the first bar and the last, and there is such a day."""
    every = np.arange(days.min(), days.max() + 1)
    weekend_days = every[_weekend(every)]
    return bool(len(weekend_days)) and bool(np.isin(weekend_days, days).all())
