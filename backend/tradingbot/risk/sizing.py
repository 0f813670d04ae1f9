"""How many shares a fraction of equity buys. Their value never exceeds ``equity * pct``.

Numbers are taken as the decimals they print as. For floats the answer also holds when the caller multiplies in floats,
where ``0.1 * 3 > 0.3``: one lot fewer is harmless, one share too many is a breach.
"""

from __future__ import annotations

from decimal import Decimal

from backend.tradingbot.risk.exact_number import exact_number


def size_order(equity: float | Decimal, pct: float | Decimal, px: float | Decimal, lot: int = 1) -> int:
    """Shares worth at most ``equity * pct`` at price ``px``, rounded down to a multiple of ``lot``.

    ``pct`` is a fraction (0.05 is 5 %). Answers 0 when a number is not finite, or equity, pct or price is not above
    zero. Never falls as equity or pct rise, nor as price falls. Raises ValueError when ``lot`` is not a whole number
    above zero.
    """
    if isinstance(lot, bool) or not isinstance(lot, int) or lot <= 0:
        raise ValueError(f"lot must be a whole number above zero, not {lot!r}")
    money, share, price = exact_number(equity), exact_number(pct), exact_number(px)
    if money is None or share is None or price is None or money <= 0 or share <= 0 or price <= 0:
        return 0
    lots = int(money * share // (price * lot))
    if any(isinstance(value, float) for value in (equity, pct, px)):
        lots = _lots_within_float_budget(lots, lot, float(px), float(equity) * float(pct))
    return lots * lot


def _lots_within_float_budget(most: int, lot: int, px: float, budget: float) -> int:
    """The greatest number of lots, at most ``most``, whose value as a float product stays within ``budget``."""

    def fits(lots: int) -> bool:
        try:
            return lots * lot * px <= budget
        except OverflowError:  # more shares than a float can count: only the exact bound can judge
            return True

    if fits(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
