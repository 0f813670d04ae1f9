"""How far a strategy's shadow trading is from its real trading, with how sure that is.

Fractions (fill rate, refusals) carry Wilson score intervals; means (slippage, latency, P&L an order) carry Student t
intervals. Sources: Wilson, E. B. (1927), JASA 22; Student (1908), Biometrika 6. Invariant: a figure that the sample
cannot give is None, never zero, and evidence built on None is no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

BPS = Decimal(10_000)


@dataclass(frozen=True)
class OrderOutcome:
    """What became of one order: quantities unsigned; ``arrival`` the touch when it was decided, a unit;
    ``latency`` seconds from decision to first fill; ``pnl`` in account currency, marked at the day's last price."""

    refused: bool
    buy: bool
    qty: Decimal
    filled_qty: Decimal
    avg_price: Decimal | None = None
    arrival: Decimal | None = None
    latency: float | None = None
    pnl: Decimal | None = None

    @property
    def slippage_bps(self) -> float | None:
        """Basis points paid beyond the arrival price, negative when it was better; None without both prices."""
        if self.avg_price is None or not self.arrival or self.filled_qty <= 0:
            return None
        worse = (self.avg_price - self.arrival) * (1 if self.buy else -1)
        return float(worse / self.arrival * BPS)


@dataclass(frozen=True)
class Estimate:
    """A figure from ``n`` observations and the ends of its 95 % interval; None where the sample is too small."""

    n: int
    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, Any]:
        return {"n": self.n, "value": self.value, "low": self.low, "high": self.high}


def proportion(hits: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """``hits / n`` with its Wilson score interval. Raises ValueError unless 0 <= hits <= n."""
    if not 0 <= hits <= n:
        raise ValueError(f"hits must be within 0 and n, not {hits} of {n}")
    if n == 0:
        return Estimate(0, None, None, None)
    from scipy.special import ndtri  # here, because a web worker should not wait a second for it at its start

    z = float(ndtri((1 + confidence) / 2))
    share = hits / n
    scale = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return Estimate(n, share, max(0.0, middle - half), min(1.0, middle + half))


def mean(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """The mean with its Student t interval. Raises ValueError for a value that is not finite."""
    n = len(values)
    if any(not math.isfinite(value) for value in values):
        raise ValueError("values must be finite")
    if n == 0:
        return Estimate(0, None, None, None)
    middle = math.fsum(values) / n
    if n == 1:
        return Estimate(1, middle, None, None)
    from scipy.special import stdtrit

    spread = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * spread
    return Estimate(n, middle, middle - half, middle + half)


@dataclass(frozen=True)
class Summary:
    """One side of the comparison over a day or more."""

    fill_rate: Estimate
    refusals: Estimate
    slippage_bps: Estimate
    latency: Estimate
    pnl: Estimate

    def as_dict(self) -> dict[str, Any]:
        return {name: estimate.as_dict() for name, estimate in vars(self).items()}


def summarise(outcomes: Sequence[OrderOutcome]) -> Summary:
    """The fill rate counts orders that filled whole, of those that were not refused."""
    asked = [one for one in outcomes if not one.refused]
    slippage = [one.slippage_bps for one in asked if one.slippage_bps is not None]
    return Summary(
        fill_rate=proportion(sum(one.filled_qty >= one.qty for one in asked), len(asked)),
        refusals=proportion(sum(one.refused for one in outcomes), len(outcomes)),
        slippage_bps=mean(slippage),
        latency=mean([one.latency for one in asked if one.latency is not None]),
        pnl=mean([float(one.pnl) for one in asked if one.pnl is not None]),
    )


@dataclass(frozen=True)
class Divergence:
    """Shadow against live. ``worst`` is the largest difference the intervals allow, a figure; None when unknown."""

    shadow: Summary
    live: Summary

    def worst(self, figure: str) -> float | None:
        """The largest absolute difference of ``figure`` that is still within both intervals' ends."""
        ours, theirs = getattr(self.shadow, figure), getattr(self.live, figure)
        if ours.low is None or theirs.low is None or ours.high is None or theirs.high is None:
            return None
        return float(max(abs(ours.high - theirs.low), abs(theirs.high - ours.low)))

    def least(self, figure: str) -> float | None:
        """How far apart ``figure`` is at least, by both intervals: 0 where they overlap, None when unknown."""
        ours, theirs = getattr(self.shadow, figure), getattr(self.live, figure)
        if ours.low is None or theirs.low is None or ours.high is None or theirs.high is None:
            return None
        return float(max(ours.low - theirs.high, theirs.low - ours.high, 0.0))

    def as_dict(self) -> dict[str, Any]:
        figures = {name: self.worst(name) for name in vars(self.shadow)}
        return {"shadow": self.shadow.as_dict(), "live": self.live.as_dict(), "worst_difference": figures}
