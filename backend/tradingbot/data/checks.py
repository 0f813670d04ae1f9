"""Every check of market data in one place: what it means, how bad it is, what releases a stop, and the run of all.

The checks are small functions from a frame (polars; pandas and dicts of columns at the edge) to verdicts. Invariants:
nothing looks ahead of the row it judges, but for the confirming bar after a jump; nothing is repaired or filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data.check_context import BAR_CHECKS, CheckLimits, Context, Sessions, run
from backend.tradingbot.data.frames import Bars, as_bars
from backend.tradingbot.data.quote_checks import (
    bad_tick,
    crossed_quote,
    feed_silent,
    locked_quote,
    source_disagreement,
    stale_quote,
    tick_time,
    wide_spread,
)
from backend.tradingbot.data.return_checks import frozen_price, return_outlier, unexplained_split, zero_volume_move
from backend.tradingbot.data.row_checks import (
    bad_price,
    bar_shape,
    conflicting_rows,
    future_time,
    negative_volume,
    repeated_row,
    time_reversed,
)
from backend.tradingbot.data.session_checks import missing_bars, outside_session

__all__ = [
    "BAR_CHECKS",
    "CATALOGUE",
    "CheckLimits",
    "Context",
    "Sessions",
    "bad_price",
    "bad_tick",
    "bar_shape",
    "check_bars",
    "conflicting_rows",
    "crossed_quote",
    "feed_silent",
    "frozen_price",
    "future_time",
    "locked_quote",
    "missing_bars",
    "negative_volume",
    "outside_session",
    "repeated_row",
    "return_outlier",
    "source_disagreement",
    "stale_quote",
    "stops",
    "tick_time",
    "time_reversed",
    "unexplained_split",
    "wide_spread",
    "zero_volume_move",
]

TICK, CLEAN, OPERATOR = "a clean second tick", "a clean check", "an operator with a reason"


@dataclass(frozen=True)
class Described:
    """One line of the catalogue. ``released_by`` is empty for a check that only warns."""

    severity: Severity
    meaning: str
    released_by: tuple[str, ...] = ()


def _hard(meaning: str, *released_by: str) -> Described:
    return Described(Severity.HARD, meaning, (*released_by, OPERATOR))


def _warn(meaning: str) -> Described:
    return Described(Severity.WARN, meaning)


CATALOGUE: dict[str, Described] = {
    "bad_price": _hard("a price that is not finite or not positive", CLEAN),
    "bar_shape": _hard("low above open or close, or high below one of them", CLEAN),
    "negative_volume": _hard("volume below zero", CLEAN),
    "time_reversed": _hard("time that goes backwards", TICK, CLEAN),
    "future_time": _hard("a time later than the clock, beyond the skew", TICK, CLEAN),
    "conflicting_rows": _hard("the same symbol and time with different values", CLEAN),
    "missing_bars": _hard("a bar that the calendar expects and that is not there", CLEAN),
    "return_outlier": _hard("a move whose robust z is over the limit", CLEAN),
    "unexplained_split": _hard("an overnight ratio of a split with no such action on file", CLEAN),
    "bad_tick": _hard("a price, bid or ask that is not finite or not positive", TICK),
    "price_jump": _hard("a tick whose move has a robust z over the limit", TICK),
    "crossed_quote": _hard("the ask is below the bid", TICK),
    "wide_spread": _hard("a spread far above the day's median", TICK),
    "stale_quote": _hard("a quote older than the limit, in session", TICK, CLEAN),
    "feed_silent": _hard("every symbol of a feed is silent at once", CLEAN),
    "source_disagreement": _hard("two sources apart", CLEAN),
    "cache_mismatch": _hard("a cached file that is not what its manifest says"),
    "no_second_source": _warn("a second source that brought no bar to compare with"),
    "unknown_interval": _warn("bars of a file too few, or too uneven, to tell their interval: no gap can be found"),
    "repeated_row": _warn("the same bar twice with the same values"),
    "outside_session": _warn("a bar outside every session"),
    "locked_quote": _warn("the ask equals the bid"),
    "frozen_price": _warn("many equal closes while volume was traded"),
    "zero_volume_move": _warn("a move without volume"),
}


def check_bars(frame: Any, context: Context | None = None, *, symbol: str = "UNKNOWN") -> list[Verdict]:
    """Every check of bars over ``frame``, symbol by symbol; an empty list is a clean bill.

    Raises InvalidInputError, code ``invalid_frame``, for a frame that cannot be read or has no row.
    """
    bars = frame if isinstance(frame, Bars) else as_bars(frame, symbol=symbol)
    return run(BAR_CHECKS.values(), bars, context or Context())


def stops(verdicts: list[Verdict]) -> list[Verdict]:
    """Those that stop."""
    return [verdict for verdict in verdicts if verdict.severity is Severity.HARD]
