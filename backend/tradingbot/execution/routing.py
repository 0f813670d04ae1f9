"""Where an order goes by its strategy's mode: how much is really placed, and how much is only simulated.

Invariants: the two parts add up to the order; what reduces the strategy's own real position is really placed in every
mode and is never larger than that position; the rest follows the mode; the same order on the same book always splits
the same, so that a restart decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from backend.tradingbot.core.values import Side
from backend.tradingbot.execution.shadow_client import canary_share

ZERO = Decimal(0)


class Mode(StrEnum):
    """How far a strategy (and its build) is trusted with new risk."""

    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"

    @property
    def rank(self) -> int:
        """0 for shadow, 1 for canary, 2 for live: a promotion raises it by one."""
        return list(Mode).index(self)


@dataclass(frozen=True)
class CanaryRule:
    """The share of new risk that a canary places: ``allocation`` in (0, 1], in whole ``lot`` units."""

    allocation: Decimal
    lot: Decimal = Decimal(1)
    at_least_one_lot: bool = False


@dataclass(frozen=True)
class OwnBook:
    """What the strategy itself really holds in the symbol: the signed ``position`` of its own executions, and the
    unsigned quantities of its own real orders that still work (or are in doubt) on each side."""

    position: Decimal = ZERO
    working_buys: Decimal = ZERO
    working_sells: Decimal = ZERO

    def reducible(self, side: Side) -> Decimal:
        """How much an order on ``side`` can take off the position, less what already works to do so."""
        if side is Side.SELL:
            return max(self.position - self.working_sells, ZERO)
        return max(-self.position - self.working_buys, ZERO)


NOTHING_OWN = OwnBook()


@dataclass(frozen=True)
class Route:
    """The unsigned quantities of one order that are placed and simulated; ``reducing`` is part of ``placed``."""

    placed: Decimal
    shadowed: Decimal
    reducing: Decimal


def route(
    mode: Mode,
    side: Side,
    qty: Decimal,
    own: OwnBook,
    canary: CanaryRule | None = None,
    shadow: OwnBook = NOTHING_OWN,
) -> Route:
    """Split ``qty`` (unsigned, above zero): first off the strategy's real position, then off its ``shadow`` position,
    and what is left is new risk. Raises ValueError when a canary has no rule: no share means no order."""
    if not qty.is_finite() or qty <= 0:
        raise ValueError(f"qty must be finite and above zero, not {qty}")
    reducing = min(qty, own.reducible(side))
    if mode is Mode.LIVE:
        return Route(qty, ZERO, reducing)
    rest = qty - reducing
    new_risk = rest - min(rest, shadow.reducible(side))
    share = ZERO
    if mode is Mode.CANARY and new_risk > 0:
        if canary is None:
            raise ValueError("a canary needs its rule: allocation and lot")
        share = canary_share(new_risk, canary.allocation, lot=canary.lot, at_least_one=canary.at_least_one_lot)
    return Route(reducing + share, rest - share, reducing)
