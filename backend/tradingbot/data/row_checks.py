"""Checks that need one bar alone, and checks of the order in which bars stand.

Sources: the definition of a bar (the low is the lowest price traded, the high the highest); RTS 6 art. 13 and FIA
"Best Practices for Automated Trading Risk Controls" (2024), 3.2, on market data reasonability.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data.check_context import Context, bar_check, found
from backend.tradingbot.data.frames import SECOND, VALUES, SymbolBars, Times, moment


@bar_check
def bad_price(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: a price that is NaN, infinite, zero or negative, or a volume that is NaN or infinite."""
    lowest = np.minimum(np.minimum(bars.open, bars.close), np.minimum(bars.high, bars.low))
    highest = np.maximum(np.maximum(bars.open, bars.close), np.maximum(bars.high, bars.low))
    good = (lowest > 0) & (highest < np.inf) & (np.abs(bars.volume) < np.inf)  # NaN passes no comparison
    if not good.all():
        yield from found("bad_price", Severity.HARD, bars, ~good)


@bar_check
def bar_shape(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: low above the open or the close, or high below one of them."""
    with np.errstate(invalid="ignore"):
        wrong = bars.low > np.minimum(bars.open, bars.close)
        wrong |= bars.high < np.maximum(bars.open, bars.close)
    if wrong.any():
        yield from found("bar_shape", Severity.HARD, bars, wrong)


@bar_check
def negative_volume(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: volume below zero."""
    wrong = bars.volume < 0
    if wrong.any():
        yield from found("negative_volume", Severity.HARD, bars, wrong)


@bar_check
def time_reversed(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: a bar that stands behind a later one."""
    if bars.time is None or is_ascending(bars.time):
        return
    latest = np.maximum.accumulate(bars.time)
    wrong = np.zeros(len(bars), dtype=bool)
    wrong[1:] = bars.time[1:] < latest[:-1]
    yield from found("time_reversed", Severity.HARD, bars, wrong)


@bar_check
def future_time(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: a bar that begins later than the clock, beyond the skew that is allowed."""
    if bars.time is None or context.as_of is None or not len(bars):
        return
    latest = context.as_of + int(context.limits.clock_skew * SECOND)
    wrong = bars.time > latest
    if wrong.any():
        yield from found("future_time", Severity.HARD, bars, wrong, as_of=moment(context.as_of))


@bar_check
def conflicting_rows(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: two bars of one symbol and one time with different values."""
    repeated, same = _repeated(bars)
    if repeated is not None:
        yield from found("conflicting_rows", Severity.HARD, bars, repeated[~same])


@bar_check
def repeated_row(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """W: the same bar twice, with the same values."""
    repeated, same = _repeated(bars)
    if repeated is not None:
        yield from found("repeated_row", Severity.WARN, bars, repeated[same])


def is_ascending(times: Times) -> bool:
    """No time stands behind a later one; equal times may follow each other."""
    return len(times) < 2 or bool((times[1:] >= times[:-1]).all())


def _repeated(bars: SymbolBars) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_]]:
    """The rows whose time an earlier row has, and which of them carry the values of the row before them."""
    nothing = None, np.zeros(0, dtype=bool)
    if bars.time is None or len(bars) < 2 or (bars.time[1:] > bars.time[:-1]).all():
        return nothing
    order = np.argsort(bars.time, kind="stable")
    times = bars.time[order]
    later = np.flatnonzero(times[1:] == times[:-1]) + 1
    if not len(later):
        return nothing
    same = np.ones(len(later), dtype=bool)
    for name in VALUES:
        column = getattr(bars, name)
        one, other = column[order[later]], column[order[later - 1]]
        same &= (one == other) | (np.isnan(one) & np.isnan(other))
    return order[later], same
