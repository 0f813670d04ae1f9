"""Checks of how a price moves from bar to bar. Windows look only backwards, so that they say live what they say later.

Invariants: a refused close never becomes the reference of the next; a gap that the next bar confirms is a warning; a
move beyond ``confirmable_ratio`` is confirmed by nobody but an operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import bottleneck
import numpy as np
from numpy.typing import NDArray

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data.check_context import CheckLimits, Context, bar_check, found, plain_number
from backend.tradingbot.data.frames import DAY, EPOCH, HOUR, Floats, SymbolBars, moment
from backend.tradingbot.data.robust import ENOUGH, FEW, NORMAL_MAD, center_and_mad, widened

SPLITS = (2, 3, 4, 5, 10)
EXPLAINED_WITHIN = 0.10


@bar_check
def return_outlier(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: a close whose log return from the last good close has a robust z over the limit.

    z = 0.6745 |r - median| / MAD over the last ``window`` returns, the MAD floored at one tick; below 5 returns, and
    across a pause in trading, a move of more than ``jump``. The next bar decides: back at the reference, it was a bad
    print (H on that bar alone); at the new level, it was a gap, and only W. Over the day of a corporate action on file
    the reference is divided by its ratio first. Source of the statistic: ``robust``.
    """
    refused, confirmed = _judged_moves(bars, context.limits, _on_file(bars, context))
    yield from _moves(Severity.HARD, bars, refused, "refused")
    yield from _moves(Severity.WARN, bars, confirmed, "a gap that the next bar confirmed")


@bar_check
def unexplained_split(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """H: an overnight ratio within 2 % of 2, 3, 4, 5, 10 or an inverse, with no corporate action on file for that day.

    Overnight is from the last close before a break in trading to the first open after it. An action on file explains
    only what its own ratio says, within ``EXPLAINED_WITHIN``: a split of four for one is no reason for a tenth.
    """
    if bars.time is None or len(bars) < 2:
        return
    daily = _usual_step(np.diff(bars.time)) >= DAY
    after = np.arange(1, len(bars)) if daily else np.flatnonzero(_pauses(bars)) + 1
    with np.errstate(all="ignore"):
        ratio = bars.open[after] / bars.close[after - 1]
        near = np.zeros(len(after), dtype=bool)
        for factor in SPLITS:
            for value in (float(factor), 1 / factor):
                near |= np.abs(ratio / value - 1) <= context.limits.split_tolerance
    on_file = _on_file(bars, context)
    explained = np.array([abs(r * on_file.get(int(bars.time[row]) // DAY, 0.0) - 1) <= EXPLAINED_WITHIN
                          for r, row in zip(ratio[near], after[near], strict=True)], dtype=bool)  # fmt: skip
    unexplained = after[near][~explained]
    if len(unexplained):
        first = int(unexplained[0])
        shown = {"ratio": plain_number(bars.open[first] / bars.close[first - 1])}
        filed = on_file.get(int(bars.time[first]) // DAY)
        yield from found("unexplained_split", Severity.HARD, bars, unexplained, **shown, on_file=filed)


def _on_file(bars: SymbolBars, context: Context) -> dict[int, float]:
    """The ratios of the actions on file for this symbol, by their day (days since 1970)."""
    return {
        day.toordinal() - EPOCH.date().toordinal(): ratio for day, ratio in context.actions.get(bars.symbol, {}).items()
    }


@bar_check
def frozen_price(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """W: at least ``frozen_closes`` equal closes in a row while volume was traded in each of the bars."""
    needed = context.limits.frozen_closes
    if len(bars) < needed:
        return
    same = (bars.close[1:] == bars.close[:-1]) & (bars.volume[1:] > 0)
    ends = np.flatnonzero(np.diff(np.concatenate(([False], same, [False]))))
    begins, stops = ends[::2], ends[1::2]
    # a run of k equal pairs is k + 1 equal closes; the first of them must have traded too
    closes = stops - begins + (bars.volume[begins] > 0)
    long = closes >= needed
    if long.any():
        evidence = {"longest": int(closes.max())}
        yield from found("frozen_price", Severity.WARN, bars, stops[long], **evidence)


@bar_check
def zero_volume_move(bars: SymbolBars, context: Context) -> Iterator[Verdict]:
    """W: a bar without volume whose price moved, inside the bar or from the close before."""
    moved = bars.high != bars.low
    moved[1:] |= bars.close[1:] != bars.close[:-1]
    moved &= bars.volume == 0
    if moved.any():
        yield from found("zero_volume_move", Severity.WARN, bars, moved)


@dataclass(frozen=True)
class Move:
    """A close that was over the limit: its row, the reference, the log return and the limit in log returns."""

    row: int
    reference: float
    change: float
    band: float


def _moves(severity: Severity, bars: SymbolBars, moves: list[Move], outcome: str) -> Iterator[Verdict]:
    judged = [move for move in moves if bars.fresh <= move.row < bars.end]
    if judged:
        worst = max(judged, key=lambda move: abs(move.change))
        evidence = {
            "outcome": outcome,
            "worst": worst.row if bars.time is None else moment(int(bars.time[worst.row])),
            "worst_return": plain_number(np.expm1(worst.change)),
            "reference": plain_number(worst.reference),
            "limit_return": plain_number(np.expm1(worst.band)),
        }
        yield from found("return_outlier", severity, bars, np.array([move.row for move in judged]), **evidence)


def _pauses(bars: SymbolBars) -> NDArray[np.bool_]:
    """Between which neighbours trading paused: more than an hour, and more than 3.5 of the usual steps (a weekend)."""
    if bars.time is None:
        return np.zeros(len(bars) - 1, dtype=bool)
    step = np.diff(bars.time)
    return step > max(HOUR, int(3.5 * _usual_step(step)))


def _usual_step(step: NDArray[np.int64]) -> int:
    return int(np.median(step[:4_096])) if len(step) else 0


def _judged_moves(bars: SymbolBars, limits: CheckLimits, on_file: dict[int, float]) -> tuple[list[Move], list[Move]]:
    """(refused, confirmed): every close over the limit, judged in order, the reference being the last good close."""
    if len(bars) < 2:
        return [], []
    with np.errstate(all="ignore"):
        close = np.where((bars.close > 0) & (bars.close < np.inf), bars.close, np.nan)
        known = _after_actions(_last_known(close)[:-1], bars, close, on_file)
        change = np.log(close[1:] / known)
        bands = _bands(change, known, _pauses(bars), limits)
        over = np.flatnonzero(np.abs(change - bands.middle) > bands.width) + 1
    return _resolve(close, known, over, bands, limits)


def _after_actions(known: Floats, bars: SymbolBars, close: Floats, on_file: dict[int, float]) -> Floats:
    """The references, that of the first price on or after the day of an action divided by its ratio."""
    if not on_file or bars.time is None:
        return known
    scaled, days = known.copy(), bars.time // DAY
    for day, ratio in on_file.items():
        rows = np.flatnonzero((days >= day) & ~np.isnan(close))
        if len(rows) and rows[0] > 0:
            scaled[rows[0] - 1] /= ratio
    return scaled


def _last_known(close: Floats) -> Floats:
    """Each close, or the last one before it that was a price."""
    absent = np.isnan(close)
    if not absent.any():
        return close
    return close[np.maximum.accumulate(np.where(absent, 0, np.arange(len(close))))]


@dataclass(frozen=True)
class Bands:
    """By return: the median of the returns before it, and how far from that it may be."""

    middle: Floats
    width: Floats


def _bands(change: Floats, price: Floats, paused: NDArray[np.bool_], limits: CheckLimits) -> Bands:
    window = min(limits.window, len(change))
    ordinary = np.where(paused, np.nan, change) if paused.any() else change
    middle = _before(bottleneck.move_median(ordinary, window, min_count=min(FEW, window)))
    scale = _before(bottleneck.move_median(np.abs(ordinary - middle), window, min_count=min(FEW, window)))
    factor = np.full(len(change), limits.z_limit / NORMAL_MAD)
    for row in range(min(ENOUGH, len(change))):
        earlier = ordinary[:row]
        earlier = earlier[~np.isnan(earlier)].tolist()
        middle[row], scale[row] = center_and_mad(earlier) if len(earlier) >= FEW else (np.nan, np.nan)
        factor[row] = widened(limits.z_limit, len(earlier)) / NORMAL_MAD
    width = factor * np.maximum(scale, np.where(price >= 1, 0.01, 0.0001) / price)
    unknown = np.isnan(middle) | np.isnan(scale) | paused
    return Bands(np.where(unknown, 0.0, middle), np.where(unknown, log(1 + limits.jump), width))


def _before(column: Floats) -> Floats:
    """The column one row later: what was known before the row."""
    shifted = np.empty_like(column)
    shifted[0], shifted[1:] = np.nan, column[:-1]
    return shifted


def _resolve(
    close: Floats, known: Floats, over: NDArray[np.int64], bands: Bands, limits: CheckLimits
) -> tuple[list[Move], list[Move]]:
    """What each row that is over its band was: a bad print, a gap, or not known yet (which is refused)."""
    refused: list[Move] = []
    confirmed: list[Move] = []
    resume, most = 0, log(limits.confirmable_ratio)
    for row in (int(value) for value in over):
        if row < resume:
            continue
        reference, width, drift = float(known[row - 1]), float(bands.width[row - 1]), float(bands.middle[row - 1])
        pending: int | None = row
        while pending is not None:
            move = Move(pending, reference, log(float(close[pending]) / reference), width)
            after = _next_price(close, pending + 1)
            value = reference if after is None else float(close[after])
            back, on = abs(log(value / reference) - drift), abs(log(value / float(close[pending])))
            is_gap = after is not None and on <= width and on < back and abs(move.change) <= most
            (confirmed if is_gap else refused).append(move)
            resume = len(close) if after is None else after + 1
            pending = None if is_gap or back <= min(width, on) else after
    return refused, confirmed


def _next_price(close: Floats, row: int) -> int | None:
    while row < len(close) and np.isnan(close[row]):
        row += 1
    return row if row < len(close) else None
