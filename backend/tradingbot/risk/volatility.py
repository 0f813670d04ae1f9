"""How wild the market is, as a level with hysteresis.

Invariants: a level rises as soon as the index reaches its threshold, and falls only once the index is below nine tenths
of it, so that an index that hovers at a threshold does not flap; no number means no level. Only ``critical`` trips.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from backend.tradingbot.core.errors import FieldError, InvalidInputError

TRIP_REASON = "vix-critical"
RELEASE = Decimal("0.9")


class Level(StrEnum):
    CALM = "calm"
    ELEVATED = "elevated"
    EXTREME = "extreme"
    CRITICAL = "critical"


RISING = (Level.CALM, Level.ELEVATED, Level.EXTREME, Level.CRITICAL)


@dataclass(frozen=True)
class Thresholds:
    """Index points at which each level begins; rising."""

    elevated: Decimal = Decimal(25)
    extreme: Decimal = Decimal(35)
    critical: Decimal = Decimal(45)

    def __post_init__(self) -> None:
        values = (self.elevated, self.extreme, self.critical)
        if not all(value.is_finite() for value in values) or not 0 < self.elevated < self.extreme < self.critical:
            remedy = "elevated < extreme < critical"
            raise InvalidInputError([FieldError("thresholds", values, "must be finite and rising", remedy)])

    def of(self, level: Level) -> Decimal:
        return {Level.ELEVATED: self.elevated, Level.EXTREME: self.extreme, Level.CRITICAL: self.critical}[level]


@dataclass(frozen=True)
class Volatility:
    """The index as last seen: its value, its time, and the level that the readings so far have led to."""

    level: Level
    value: Decimal
    as_of: datetime


def next_level(level: Level, value: Decimal, thresholds: Thresholds | None = None) -> Level:
    """The level after a reading of ``value``. Raises InvalidInputError for what is no finite positive number."""
    if not value.is_finite() or value <= 0:
        raise InvalidInputError(
            [FieldError("volatility", str(value), "must be finite and above zero", "send the index")]
        )
    bounds = thresholds or Thresholds()
    reached = max((each for each in RISING[1:] if value >= bounds.of(each)), key=RISING.index, default=Level.CALM)
    held = max(
        (
            each
            for each in RISING[1:]
            if RISING.index(each) <= RISING.index(level) and value >= RELEASE * bounds.of(each)
        ),
        key=RISING.index,
        default=Level.CALM,
    )
    return max(reached, held, key=RISING.index)
