"""A position at average cost as a fold over its trades. Pure.

Adding moves the average, reducing realises against it, crossing zero starts anew at the price of the trade. The result
depends on the order of the trades, so callers fold them in the order in which they happened, not in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

STEP = Decimal("1e-9")
ZERO = Decimal(0)


@dataclass(frozen=True)
class Holding:
    """``qty`` is signed, ``avg_price`` a unit's average cost (0 when flat), ``realized_pnl`` what was earned so far."""

    qty: Decimal = ZERO
    avg_price: Decimal = ZERO
    realized_pnl: Decimal = ZERO

    def after(self, qty: Decimal, price: Decimal) -> Holding:
        """The holding after a trade of the signed ``qty`` at ``price``."""
        total = self.qty + qty
        if total == self.qty:
            return self
        if self.qty * qty >= 0:
            cost = self.avg_price * abs(self.qty) + price * abs(qty)
            return Holding(total, (cost / abs(total)).quantize(STEP), self.realized_pnl)
        closed = min(abs(qty), abs(self.qty))
        direction = 1 if self.qty > 0 else -1
        realized = self.realized_pnl + ((price - self.avg_price) * closed * direction).quantize(STEP)
        if total == 0:
            return Holding(ZERO, ZERO, realized)
        return Holding(total, price if abs(qty) > abs(self.qty) else self.avg_price, realized)


def folded(start: Holding, trades: Iterable[tuple[Decimal, Decimal]]) -> Holding:
    """``start`` after every ``(signed qty, price)`` in turn."""
    for qty, price in trades:
        start = start.after(qty, price)
    return start
