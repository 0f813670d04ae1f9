"""A day's profit of an option position by Greek: delta, gamma, vega, theta, and the residual that they leave.

Greeks come in as numbers of the opening, a unit and unmultiplied: delta and gamma a dollar of the underlying, vega a
vol point (0.01), theta a calendar day. Second-order Taylor expansion of what was held at the opening; what was traded
since is a line of its own. The sum of all lines is exactly the P&L; a figure that cannot be known is None, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.occ import SHARES_A_CONTRACT, multiplier_of, parse_option
from backend.tradingbot.core.values import plain

ZERO = Decimal(0)
PLACES = Decimal("0.0001")
LINES = ("actual", "delta", "gamma", "vega", "theta", "residual", "traded", "total")


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


@dataclass(frozen=True)
class OptionState:
    """One option at one close: its mark and that of its underlying, the volatility that they imply (None when none
    does), and the Greeks of one share at it."""

    price: Decimal
    underlying: Decimal
    vol: Decimal | None = None
    delta: Decimal | None = None
    gamma: Decimal | None = None
    vega: Decimal | None = None
    theta: Decimal | None = None

    def as_dict(self) -> dict[str, str | None]:
        return {item.name: plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> OptionState:
        known = {name: Decimal(value) for name, value in raw.items() if value is not None}
        return cls(**known)


@dataclass(frozen=True)
class OptionDay:
    """The options of one account over one session: their states at both closes, what was held at the opening, the
    calendar ``days`` between, and the whole P&L of each symbol (None without a mark)."""

    opening: Mapping[str, OptionState] = field(default_factory=dict)
    closing: Mapping[str, OptionState] = field(default_factory=dict)
    held: Mapping[str, Decimal] = field(default_factory=dict)
    days: Decimal = ZERO
    totals: Mapping[str, Decimal | None] = field(default_factory=dict)


def option_lines(day: OptionDay) -> list[dict[str, str]]:
    """A line an option that was held or traded, figures as text of four decimals, ``unknown`` where one is.

    ``actual`` is the move of what was held at the opening, delta to residual its parts, ``traded`` what the day's
    trades made; ``total`` is actual and traded, the symbol's whole P&L but its dividends and fees, digit for digit.
    """
    return [_line(symbol, day) for symbol in sorted({*day.held, *day.totals})]


def _line(symbol: str, day: OptionDay) -> dict[str, str]:
    qty, total = day.held.get(symbol, ZERO), day.totals.get(symbol, ZERO)
    total = None if total is None else total.quantize(PLACES)  # first, so that what is shown adds up as it is shown
    told: dict[str, Decimal | None] = dict.fromkeys(LINES) | {"total": total}
    before, after = day.opening.get(symbol), day.closing.get(symbol)
    if not qty:
        told |= {**dict.fromkeys(LINES, ZERO), "traded": total, "total": total}
    elif before is not None and after is not None:
        unit = multiplier_of(symbol) or SHARES_A_CONTRACT
        actual = (qty * unit * (after.price - before.price)).quantize(PLACES)
        told |= {"actual": actual, "traded": None if total is None else total - actual}
        told |= _by_greek(symbol, qty, unit, before, after, day.days)
    shown = {name: "unknown" if value is None else plain(value.quantize(PLACES)) for name, value in told.items()}
    return {"symbol": symbol, "qty": str(plain(qty)), **{name: str(value) for name, value in shown.items()}}


def _by_greek(
    symbol: str, qty: Decimal, unit: Decimal, before: OptionState, after: OptionState, days: Decimal
) -> dict[str, Decimal | None]:
    """The lines of the expansion; an option that expired has no volatility any more, so that nothing is vega's."""
    vol = after.vol if after.vol is not None or not _expired(symbol, after) else before.vol
    figures = (before.vol, before.delta, before.gamma, before.vega, before.theta, vol)
    if any(figure is None for figure in figures):
        return {}
    move = OptionMove(
        symbol, qty, unit, before.price, after.price, before.underlying, after.underlying, before.vol, vol, days,  # type: ignore[arg-type]
        before.delta, before.gamma, before.vega, before.theta,  # type: ignore[arg-type]
    )  # fmt: skip
    found = attribute_option(move)
    lines: dict[str, Decimal | None] = {
        name: getattr(found, name).quantize(PLACES) for name in ("actual", "delta", "gamma", "vega", "theta")
    }
    rest = [value for name, value in lines.items() if name != "actual" and value is not None]
    lines["residual"] = (lines["actual"] or ZERO) - sum(rest, ZERO)
    return lines


def _expired(symbol: str, state: OptionState) -> bool:
    """Priced at exactly what exercising it is worth: so is every option on the last day of its life."""
    return state.price == intrinsic(symbol, state.underlying)


def intrinsic(symbol: str, underlying: Decimal) -> Decimal:
    """What exercising the option is worth, a share."""
    option = parse_option(symbol)
    if option is None:
        return ZERO
    worth = underlying - option.strike if option.is_call else option.strike - underlying
    return max(worth, ZERO)


def held_of(lots: Mapping[tuple[str, str], Iterable[Any]]) -> dict[str, Decimal]:
    """Signed contracts by option symbol, over all strategies."""
    held: dict[str, Decimal] = {}
    for (_, symbol), rows in lots.items():
        if parse_option(symbol) is not None:
            held[symbol] = held.get(symbol, ZERO) + sum((lot.qty for lot in rows), ZERO)
    return held
