"""Checks of ticks and quotes: prices, crossed and wide quotes, age, a feed that went silent, two sources that differ.

A frame of ticks has the columns symbol, time, price, and, where there are quotes, bid and ask. Windows look backwards.
Sources: Reg NMS rule 610(d) on locked and crossed quotations; RTS 6 art. 13-15; FIA (2024), market data reasonability.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import bottleneck
import numpy as np
from numpy.typing import NDArray

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data.check_context import SHOWN, CheckLimits, Context, plain_number
from backend.tradingbot.data.frames import DAY, SECOND, Floats, Times, as_bars, moment, read_ticks
from backend.tradingbot.data.robust import tick_of


@dataclass(frozen=True)
class SymbolTicks:
    """One symbol's ticks in the order in which they came; bid and ask are NaN where there was no quote."""

    symbol: str
    time: Times
    price: Floats
    bid: Floats
    ask: Floats


def as_ticks(frame: Any) -> list[SymbolTicks]:
    """A frame of ticks by symbol. Raises InvalidInputError, code ``invalid_frame``, naming the column."""
    if isinstance(frame, list) and all(isinstance(part, SymbolTicks) for part in frame):
        return frame
    return [SymbolTicks(symbol, time, **values) for symbol, time, values in read_ticks(frame)]


def bad_tick(frame: Any, limits: CheckLimits | None = None) -> list[Verdict]:
    """H: a price, bid or ask that is infinite, zero or negative, or a price that is NaN."""
    verdicts: list[Verdict] = []
    for ticks in as_ticks(frame):
        good = (ticks.price > 0) & (ticks.price < np.inf)
        for side in (ticks.bid, ticks.ask):
            good &= np.isnan(side) | ((side > 0) & (side < np.inf))
        verdicts += _found("bad_tick", Severity.HARD, ticks, ~good)
    return verdicts


def crossed_quote(frame: Any, limits: CheckLimits | None = None) -> list[Verdict]:
    """H: the ask is below the bid."""
    parts = as_ticks(frame)
    return [v for ticks in parts for v in _found("crossed_quote", Severity.HARD, ticks, ticks.ask < ticks.bid)]


def locked_quote(frame: Any, limits: CheckLimits | None = None) -> list[Verdict]:
    """W: the ask equals the bid."""
    parts = as_ticks(frame)
    return [v for ticks in parts for v in _found("locked_quote", Severity.WARN, ticks, ticks.ask == ticks.bid)]


def wide_spread(frame: Any, limits: CheckLimits | None = None) -> list[Verdict]:
    """H: a spread of more than ``spread_multiple`` times the median spread of the day so far.

    The day is the UTC date; its median counts from ``spread_sample`` quotes on and is floored at one tick.
    """
    chosen = limits or CheckLimits()
    verdicts: list[Verdict] = []
    for ticks in as_ticks(frame):
        spread = ticks.ask - ticks.bid
        spread[~(spread >= 0)] = np.nan
        typical = _day_median(ticks, spread, chosen.spread_sample)
        floor = np.where(ticks.price >= 1, 0.01, 0.0001)
        wide = spread > chosen.spread_multiple * np.maximum(typical, floor)
        rows = np.flatnonzero(wide)
        if len(rows):
            shown = {"spread": plain_number(spread[rows[0]]), "typical": plain_number(typical[rows[0]])}
            verdicts += _found("wide_spread", Severity.HARD, ticks, wide, **shown)
    return verdicts


def _day_median(ticks: SymbolTicks, spread: Floats, sample: int) -> Floats:
    """The median of the spreads of the same day before each row; NaN while there are fewer than ``sample``."""
    typical = np.full(len(spread), np.nan)
    bounds = np.flatnonzero(np.diff(ticks.time // DAY)) + 1
    for rows in np.split(np.arange(len(spread)), bounds):
        if len(rows) > sample:
            typical[rows[1:]] = bottleneck.move_median(spread[rows], len(rows), min_count=sample)[:-1]
    return typical


def tick_time(frame: Any, as_of: int, limits: CheckLimits | None = None) -> list[Verdict]:
    """H: a tick that is older than the one before it, or later than ``as_of``, by more than the clock skew."""
    skew = int((limits or CheckLimits()).clock_skew * SECOND)
    verdicts: list[Verdict] = []
    for ticks in as_ticks(frame):
        latest = np.maximum.accumulate(np.concatenate(([np.iinfo(np.int64).min // 2], ticks.time[:-1])))
        verdicts += _found("time_reversed", Severity.HARD, ticks, ticks.time < latest - skew)
        verdicts += _found("future_time", Severity.HARD, ticks, ticks.time > as_of + skew, as_of=moment(as_of))
    return verdicts


def stale_quote(last_seen: Mapping[str, int | None], context: Context) -> list[Verdict]:
    """H: the last quote of a symbol is older than ``quote_age`` while a session is on; None was never seen. One that is
    later than the clock, beyond the skew, says nothing of its age and is as bad."""
    if context.as_of is None or not _in_session(context):
        return []
    latest = context.as_of + int(context.limits.clock_skew * SECOND)
    oldest = context.as_of - int(context.limits.quote_age * SECOND)
    return [
        Verdict("stale_quote", Severity.HARD, symbol, _age(time, context.as_of, context.limits.quote_age))
        for symbol, time in last_seen.items()
        if time is None or not oldest <= time <= latest
    ]


def feed_silent(feed: str, last_seen: Mapping[str, int | None], context: Context) -> list[Verdict]:
    """H: no symbol of the feed had a quote for ``feed_silence`` while a session is on: the feed, not a stock. A quote
    from the future proves nothing."""
    if context.as_of is None or not last_seen or not _in_session(context):
        return []
    latest = context.as_of + int(context.limits.clock_skew * SECOND)
    newest = max((time for time in last_seen.values() if time is not None and time <= latest), default=None)
    if newest is not None and newest >= context.as_of - int(context.limits.feed_silence * SECOND):
        return []
    evidence = {"feed": feed, **_age(newest, context.as_of, context.limits.feed_silence)}
    return [Verdict("feed_silent", Severity.HARD, "*", evidence, len(last_seen))]


def source_disagreement(frame: Any, other: Any, limits: CheckLimits | None = None) -> list[Verdict]:
    """H: the closes of two sources of the same bar are apart by more than max(``source_bps``, ``source_ticks`` ticks).

    Bars are matched by symbol and time; a bar that only one source has is the matter of ``missing_bars``.
    """
    chosen = limits or CheckLimits()
    second = {bars.symbol: bars for bars in as_bars(other)}
    verdicts: list[Verdict] = []
    for bars in as_bars(frame):
        match = second.get(bars.symbol)
        if match is None or bars.time is None or match.time is None:
            continue
        _, here, there = np.intersect1d(bars.time, match.time, return_indices=True)
        one, two = bars.close[here], match.close[there]
        tick = np.where(one >= 1, tick_of(1), tick_of(0))
        allowed = np.maximum(chosen.source_bps / 10_000 * one, chosen.source_ticks * tick)
        apart = here[~(np.abs(one - two) <= allowed * (1 + 1e-12))]
        if len(apart):
            row = int(apart[0])
            shown = {
                "at": [moment(int(time)) for time in bars.time[apart[:SHOWN]]],
                "close": plain_number(bars.close[row]),
                "other_close": plain_number(match.close[np.flatnonzero(match.time == bars.time[row])[0]]),
            }
            verdicts.append(Verdict("source_disagreement", Severity.HARD, bars.symbol, shown, len(apart)))
    return verdicts


def _in_session(context: Context) -> bool:
    if context.sessions is None or context.as_of is None:
        return True
    return bool(context.sessions.contains(np.array([context.as_of], dtype=np.int64))[0])


def _age(time: int | None, as_of: int, limit: float) -> dict[str, Any]:
    if time is None:
        return {"last": None, "age_seconds": None, "limit_seconds": limit}
    return {"last": moment(time), "age_seconds": (as_of - time) / SECOND, "limit_seconds": limit}


def _found(
    check: str, severity: Severity, ticks: SymbolTicks, wrong: NDArray[np.bool_], **evidence: Any
) -> Iterator[Verdict]:
    rows = np.flatnonzero(wrong)
    if len(rows):
        first = int(rows[0])
        values = {name: plain_number(getattr(ticks, name)[first]) for name in ("price", "bid", "ask")}
        where = [moment(int(time)) for time in ticks.time[rows[:SHOWN]]]
        yield Verdict(check, severity, ticks.symbol, {"at": where, "first": values, **evidence}, len(rows))
