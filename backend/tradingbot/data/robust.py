"""Robust statistics: the median and the median absolute deviation (MAD), which one bad value cannot move.

The robust z-score is ``0.6745 * |x - median| / MAD`` (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993):
0.6745 is the MAD of the standard normal. The plain sample z is bounded by (n-1)/sqrt(n), so that on ten values no
error, however large, can exceed 2.85. The MAD is floored, since a price that stood still has none.
"""

from __future__ import annotations

from collections.abc import Sequence

NORMAL_MAD = 0.6745
FEW, ENOUGH = 5, 20
"""Below FEW returns no scale is known; below ENOUGH the limit is widened for the scale's own error."""


def median(values: Sequence[float]) -> float:
    """The median of at least one value."""
    return _middle(sorted(values))


def center_and_mad(values: Sequence[float]) -> tuple[float, float]:
    """(median, MAD) of at least one value."""
    ranked = sorted(values)
    center = _middle(ranked)
    # of ranked values the deviations fall and then rise, which the sort below takes in one merge
    return center, _middle(sorted([abs(value - center) for value in ranked]))


def _middle(ranked: list[float]) -> float:
    half = len(ranked) // 2
    return ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2


def z_score(value: float, center: float, scale: float) -> float:
    """The robust z of ``value``; ``scale`` is the floored MAD and greater than zero."""
    return NORMAL_MAD * abs(value - center) / scale


def widened(limit: float, sample: int) -> float:
    """The limit for a scale estimated from ``sample`` values: times 1 + 10/n below ENOUGH, unchanged from there on."""
    return limit if sample >= ENOUGH else limit * (1 + 10 / max(sample, 1))


def tick_of(price: float) -> float:
    """The minimum price variation: a cent from one dollar up, a hundredth of a cent below (Reg NMS rule 612)."""
    return 0.01 if price >= 1 else 0.0001
