"""What every check is told (limits, sessions, the time as of which it looks), and how a finding becomes a verdict.

Invariants: limits are checked when made; evidence is plain JSON and bounded, however many rows are wrong; a check is
known by one name, and its definition, severity and what releases a stop of it stand in one table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data import calendar
from backend.tradingbot.data.frames import DAY, EPOCH, Bars, SymbolBars, Times, as_bars, micros, moment, refuse

SHOWN = 20
PARALLEL_ROWS = 200_000


@dataclass(frozen=True)
class CheckLimits:
    """The limits of all checks; the defaults are those that ship. Times are seconds, bps are basis points."""

    z_limit: float = 9.0
    window: int = 60
    jump: float = 0.20
    confirmable_ratio: float = 5.0
    split_tolerance: float = 0.02
    frozen_closes: int = 30
    spread_multiple: float = 50.0
    spread_sample: int = 20
    quote_age: float = 20.0
    clock_skew: float = 2.0
    source_bps: float = 50.0
    source_ticks: int = 2
    feed_silence: float = 30.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
                raise refuse(item.name, value, "must be a finite number above zero", "send such a number")
        if self.window < 5 or self.jump >= 1 or self.confirmable_ratio <= 1:
            raise refuse("limits", self, "window below 5, jump from 1 up or ratio not above 1", "see the defaults")


@dataclass(frozen=True)
class Sessions:
    """Sessions as columns: opening and closing in microseconds since 1970, dates in days since 1970, all ascending."""

    opens: Times
    closes: Times
    days: Times

    @classmethod
    def between(cls, first: int, last: int, name: str = calendar.XNYS) -> Sessions:
        """Every session that can hold a time from ``first`` to ``last`` (microseconds since 1970)."""
        low, high = (date.fromordinal(EPOCH.date().toordinal() + time // DAY) for time in (first - DAY, last + DAY))
        low, high = max(low, calendar.FIRST), min(high, calendar.LAST)
        found = calendar.sessions_between(low, high, name) if low <= high else []
        columns = ([micros(s.opens_at) for s in found], [micros(s.closes_at) for s in found])
        days = [s.date.toordinal() - EPOCH.date().toordinal() for s in found]
        return cls(*(np.array(column, dtype=np.int64) for column in (*columns, days)))

    def __len__(self) -> int:
        return len(self.opens)

    def contains(self, times: Times) -> NDArray[np.bool_]:
        """Which of ``times`` lie inside a session; the closing instant does not."""
        at = np.searchsorted(self.opens, times, side="right") - 1
        return (at >= 0) & (times < self.closes[np.maximum(at, 0)]) if len(self) else np.zeros(len(times), bool)


@dataclass(frozen=True)
class Context:
    """``sessions`` None: no check against the calendar. Times are microseconds since 1970; ``as_of`` None: no clock.

    ``start`` and ``complete_to``: from when, and up to when, every bar is expected; None means from each symbol's first
    bar, or up to its last. ``actions``: by symbol and date the ratio of each corporate action on file, the new shares
    for each old one.
    """

    limits: CheckLimits = field(default_factory=CheckLimits)
    sessions: Sessions | None = None
    as_of: int | None = None
    start: int | None = None
    complete_to: int | None = None
    interval: int | None = None
    actions: Mapping[str, Mapping[date, float]] = field(default_factory=dict)


class BarCheck(Protocol):
    """``check(frame, context) -> verdicts``; ``judge`` is the same for one symbol's columns."""

    check: str
    judge: Callable[[SymbolBars, Context], Iterable[Verdict]]

    def __call__(self, frame: Any, context: Context | None = None) -> list[Verdict]: ...


BAR_CHECKS: dict[str, BarCheck] = {}


def bar_check(judge: Callable[[SymbolBars, Context], Iterator[Verdict]]) -> BarCheck:
    """Makes a check of a function that judges one symbol's bars, and enters it in ``BAR_CHECKS`` by its name."""

    def check(frame: Any, context: Context | None = None) -> list[Verdict]:
        return run([check], as_bars(frame), context or Context())  # type: ignore[list-item]

    check.__name__ = check.__qualname__ = judge.__name__
    check.__doc__, check.__module__ = judge.__doc__, judge.__module__
    check.check, check.judge = judge.__name__, judge  # type: ignore[attr-defined]
    BAR_CHECKS[judge.__name__] = check  # type: ignore[assignment]
    return check  # type: ignore[return-value]


def run(checks: Iterable[BarCheck], bars: Bars, context: Context) -> list[Verdict]:
    """Every check on every symbol, in the symbols' order; large frames on all cores (numpy lets go of the lock)."""
    chosen = list(checks)
    if context.interval is None and bars.interval is not None:
        context = Context(**{**vars(context), "interval": bars.interval})

    def judged(part: SymbolBars) -> list[Verdict]:
        return [verdict for check in chosen for verdict in check.judge(part, context)]

    workers = min(os.cpu_count() or 1, len(bars.symbols), 8)
    if workers < 2 or bars.rows < PARALLEL_ROWS:
        return [verdict for part in bars for verdict in judged(part)]
    with ThreadPoolExecutor(workers) as pool:
        return [verdict for found in pool.map(judged, bars.symbols) for verdict in found]


def found(check: str, severity: Severity, bars: SymbolBars, wrong: NDArray[Any], **evidence: Any) -> Iterator[Verdict]:
    """One verdict for the rows ``wrong`` (a mask or row numbers); none when no judged row is among them."""
    rows = np.flatnonzero(wrong) if wrong.dtype == bool else wrong
    rows = rows[(rows >= bars.fresh) & (rows < bars.end)]
    if len(rows):
        shown = rows[:SHOWN]
        where = where_of(bars, shown)
        first = int(rows[0])
        values = {name: plain_number(getattr(bars, name)[first]) for name in ("open", "high", "low", "close", "volume")}
        yield Verdict(check, severity, bars.symbol, {**where, "first": values, **evidence}, len(rows))


def where_of(bars: SymbolBars, rows: NDArray[Any]) -> dict[str, Any]:
    """The times of the rows, or their numbers in a frame without times."""
    if bars.time is None:
        return {"rows": [int(row) for row in rows]}
    return {"at": [moment(int(time)) for time in bars.time[rows]]}


def plain_number(value: Any) -> float | str:
    """A float, or its name where JSON has none for it."""
    exact = float(value)
    return exact if np.isfinite(exact) else str(exact)
