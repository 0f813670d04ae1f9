"""The stress grid: what a position gains or loses when spot, volatility and time move together.

Each cell revalues in full (``option_stress`` for options, the price move for shares). The profit of a position is its
quantity times the profit of one unit, so a book's cell is a running sum like any other measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import product

SPOTS = (-0.20, -0.10, -0.05, 0.0, 0.05, 0.10, 0.20)
VOLATILITIES = (0.75, 1.0, 1.5)
DAYS = (0, 5)


@dataclass(frozen=True)
class Cell:
    """Spot moves by the fraction ``spot``, volatility is multiplied by ``volatility``, ``days`` go by."""

    spot: float
    volatility: float
    days: int

    @property
    def name(self) -> str:
        return f"spot{self.spot:+.0%} vol{self.volatility - 1:+.0%} {self.days}d"


CELLS = tuple(Cell(*moves) for moves in product(SPOTS, VOLATILITIES, DAYS))


def stressed_share(price: Decimal) -> tuple[Decimal, ...]:
    """The profit of one share in each cell."""
    return tuple(price * Decimal(str(cell.spot)) for cell in CELLS)
