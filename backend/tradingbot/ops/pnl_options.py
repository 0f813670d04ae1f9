"""A day's profit of an option position by Greek: delta, gamma, vega, theta, and the residual that they leave.

Greeks come in as numbers of the opening, a unit and unmultiplied: delta and gamma a dollar of the underlying, vega a
vol point (0.01), theta a calendar day. Second-order Taylor expansion; the sum of all lines is exactly the actual P&L.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class OptionMove:
    """A position of ``qty`` contracts (short is negative) from one close to the next. Volatilities are fractions."""

    symbol: str
    qty: Decimal
    multiplier: Decimal
    price_open: Decimal
    price_close: Decimal
    underlying_open: Decimal
    underlying_close: Decimal
    vol_open: Decimal
    vol_close: Decimal
    days: Decimal
    delta: Decimal
    gamma: Decimal
    vega: Decimal
    theta: Decimal


@dataclass(frozen=True)
class GreekPnl:
    """Dollars by cause; ``actual`` = delta + gamma + vega + theta + residual."""

    symbol: str
    actual: Decimal
    delta: Decimal
    gamma: Decimal
    vega: Decimal
    theta: Decimal

    @property
    def residual(self) -> Decimal:
        return self.actual - self.delta - self.gamma - self.vega - self.theta


def attribute_option(move: OptionMove) -> GreekPnl:
    """Attribute one position's change of value; raises ValueError on a figure that is not finite."""
    for name, value in vars(move).items():
        if isinstance(value, Decimal) and not value.is_finite():
            raise ValueError(f"{name} of {move.symbol} must be finite, not {value}")
    units = move.qty * move.multiplier
    change = move.underlying_close - move.underlying_open
    points = (move.vol_close - move.vol_open) * 100
    return GreekPnl(
        symbol=move.symbol,
        actual=units * (move.price_close - move.price_open),
        delta=units * move.delta * change,
        gamma=units * move.gamma * change * change / 2,
        vega=units * move.vega * points,
        theta=units * move.theta * move.days,
    )
