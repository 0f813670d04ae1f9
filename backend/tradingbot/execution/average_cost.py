"""A position at average cost: adding moves the average, reducing realises against it, crossing zero starts anew.

Quantities are signed, prices a unit; everything to nine places, so that sums never drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

ZERO = Decimal(0)
NINE_PLACES = Decimal("1e-9")


@dataclass(frozen=True)
class Holding:
    qty: Decimal = ZERO
    avg_price: Decimal = ZERO
    realized_pnl: Decimal = ZERO

    def moved(self, qty: Decimal, price: Decimal) -> Holding:
        """After an execution of ``qty`` (signed, not zero) at ``price``; realised P&L leaves the multiplier out."""
        after = self.qty + qty
        if self.qty * qty >= 0:
            cost = self.avg_price * abs(self.qty) + price * abs(qty)
            return Holding(after, (cost / abs(after)).quantize(NINE_PLACES), self.realized_pnl)
        closed = min(abs(qty), abs(self.qty))
        gain = (price - self.avg_price) * closed * (1 if self.qty > 0 else -1)
        average = price if abs(qty) > abs(self.qty) else (self.avg_price if after else ZERO)
        return Holding(after, average, self.realized_pnl + gain.quantize(NINE_PLACES))
