"""Whether a price may follow the prices before it: refused, accepted, or a gap that the second tick confirms.

Invariants: a refused price never becomes the reference by itself; the tick after it decides, as follows. Near the
reference: the refused one was a bad print, and the symbol goes on. Near the refused price: a genuine gap, and it
becomes the reference, unless it is more than ``confirmable_ratio`` away, which only an operator may release. Neither:
the symbol stays stopped. The state is plain data, for any store; the windows look only backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, isfinite, log
from typing import Any

from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.data.robust import FEW, NORMAL_MAD, center_and_mad, tick_of, widened, z_score


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    RETURNED = "returned"  # accepted, and the refused price before it was a bad print
    CONFIRMED = "confirmed"  # accepted, and the refused price before it was a genuine gap
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class JumpRule:
    """``z_limit`` in robust z; ``jump`` is the largest move (0.2 is 20 %) while fewer than 5 returns are known.

    The default ``jump`` is the wider of the doubled LULD bands (tier 2, above $3, at the open and the close).
    """

    z_limit: float = 9.0
    window: int = 64
    jump: float = 0.20
    confirmable_ratio: float = 5.0

    def __post_init__(self) -> None:
        good = isfinite(self.z_limit) and self.z_limit > 0 and self.window >= FEW
        if not (good and 0 < self.jump < 1 and self.confirmable_ratio > 1):
            problem = "needs z_limit above 0, window from 5, jump within 0 and 1, confirmable_ratio above 1"
            raise InvalidInputError([FieldError("rule", self, problem, "see the defaults")])


@dataclass(frozen=True, slots=True)
class PriceTrack:
    """What is known of one symbol: the last good price, the log returns between good ones, the price that waits."""

    reference: float | None = None
    returns: tuple[float, ...] = ()
    pending: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome, the track after it, and what it was measured by. ``z`` is None while no scale is known."""

    outcome: Outcome
    track: PriceTrack
    move: float = 0.0
    limit: float = 0.0
    z: float | None = None

    @property
    def accepted(self) -> bool:
        return self.outcome is not Outcome.REFUSED

    def evidence(self, reference: float | None, price: float) -> dict[str, Any]:
        """Plain JSON: the price, the reference, the move and its limit as fractions, the z."""
        return {
            "price": price,
            "reference": reference,
            "move": round(exp(self.move) - 1, 8),
            "limit": round(exp(self.limit) - 1, 8),
            "z": None if self.z is None else round(self.z, 3),
        }


def judge(track: PriceTrack, price: float, rule: JumpRule, half_spread: float = 0.0) -> Judged:
    """Judge ``price`` (finite, above zero) against ``track``. ``half_spread`` floors the scale: a bounce is no jump."""
    if track.reference is None:
        return Judged(Outcome.ACCEPTED, PriceTrack(price))
    move = log(price / track.reference)
    limit, center, scale = band(track, rule, half_spread)
    z = None if scale is None else z_score(move, center, scale)
    if abs(move - center) <= limit:
        outcome = Outcome.ACCEPTED if track.pending is None else Outcome.RETURNED
        return Judged(outcome, _after(track, price, move, rule), move, limit, z)
    if track.pending is not None and _confirms(track.reference, track.pending, price, limit, rule):
        step = log(price / track.pending)
        return Judged(Outcome.CONFIRMED, _after(track, price, step, rule), move, limit, z)
    return Judged(Outcome.REFUSED, replace(track, pending=price), move, limit, z)


def band(track: PriceTrack, rule: JumpRule, half_spread: float = 0.0) -> tuple[float, float, float | None]:
    """(limit, center, scale) in log returns; the scale is None while fewer than 5 returns are known.

    ``half_spread`` widens the limit up to ``jump`` and no further, however wide the quotes are.
    """
    reference = track.reference or 1.0
    if len(track.returns) < FEW:
        return log(1 + rule.jump), 0.0, None
    center, mad = center_and_mad(track.returns)
    per_scale = widened(rule.z_limit, len(track.returns)) / NORMAL_MAD
    bounce = min(half_spread / reference, log(1 + rule.jump) / per_scale)
    scale = max(mad, tick_of(reference) / reference, bounce)
    return per_scale * scale, center, scale


def _confirms(reference: float, pending: float, price: float, limit: float, rule: JumpRule) -> bool:
    within_reach = abs(log(pending / reference)) <= log(rule.confirmable_ratio)
    return within_reach and abs(log(price / pending)) <= limit


def _after(track: PriceTrack, price: float, change: float, rule: JumpRule) -> PriceTrack:
    return PriceTrack(price, (*track.returns[-(rule.window - 1) :], change))


def track_of(prices: Sequence[float], rule: JumpRule) -> PriceTrack:
    """The track after ``prices``, all of them taken as good."""
    track = PriceTrack()
    for price in prices:
        step = 0.0 if track.reference is None else log(price / track.reference)
        track = PriceTrack(price) if track.reference is None else _after(track, price, step, rule)
    return track
