"""What a Greek exposure limiter is told: its limits and its positions, both frozen.

Limits are checked when made: theta limits are floors at or below zero (only decay breaches), all others are above zero
and bound both directions. A position is checked when it is added, so that a bad one can be shown as refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.risk.exact_number import exact_number

GREEKS = ("delta", "gamma", "theta", "vega")
BETA, NOTIONAL = "beta_adjusted_exposure", "notional"
MEASURES = (*GREEKS, BETA, NOTIONAL)


def refuse(name: str, value: Any, problem: str, remedy: str) -> InvalidInputError:
    return InvalidInputError([FieldError(name, value, problem, remedy)])


@dataclass(frozen=True)
class GreekLimits:
    """Caps for the portfolio and for each name. Delta in shares, theta in money a calendar day, vega in money a point
    of volatility, exposures and notional in money. Raises InvalidInputError (a ValueError) for a limit of the wrong
    sign or no finite number."""

    max_portfolio_delta: float = 1_000_000.0
    max_portfolio_gamma: float = 10_000.0
    max_portfolio_theta: float = -1_000.0
    max_portfolio_vega: float = 50_000.0
    max_per_name_delta: float = 100_000.0
    max_per_name_gamma: float = 1_000.0
    max_per_name_theta: float = -100.0
    max_per_name_vega: float = 5_000.0
    max_beta_adjusted_exposure: float = 2_000_000.0
    max_per_name_beta_exposure: float = 200_000.0
    max_portfolio_notional: float = 10_000_000.0
    max_per_name_notional: float = 1_000_000.0

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            exact = exact_number(value)
            if exact is None:
                raise refuse(limit.name, value, "must be a finite number", "send such a number")
            if limit.name.endswith("theta"):
                if exact > 0:
                    raise refuse(
                        limit.name, value, "must be zero or below", "theta is a floor: -1000 allows that decay"
                    )
            elif exact <= 0:
                raise refuse(limit.name, value, "must be above zero", "it bounds both directions: send its size")

    def of_portfolio(self) -> dict[str, float]:
        named = {name: getattr(self, f"max_portfolio_{name}") for name in (*GREEKS, NOTIONAL)}
        return named | {BETA: self.max_beta_adjusted_exposure}

    def of_name(self) -> dict[str, float]:
        named = {name: getattr(self, f"max_per_name_{name}") for name in (*GREEKS, NOTIONAL)}
        return named | {BETA: self.max_per_name_beta_exposure}


@dataclass(frozen=True)
class PositionGreeks:
    """One name's Greeks, for the whole position: a short one has negative ``delta`` and negative ``notional``."""

    symbol: str
    delta: float
    gamma: float
    theta: float
    vega: float
    beta: float
    notional: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measured(position: PositionGreeks) -> dict[str, Fraction]:
    """The position's six measures, exactly; raises InvalidInputError when one is no finite number or has no name."""
    if not isinstance(position.symbol, str) or not position.symbol.strip():
        raise refuse("symbol", position.symbol, "must be a name", "send the position's symbol")
    exact: dict[str, Fraction] = {}
    for name in (*GREEKS, "beta", NOTIONAL):
        number = exact_number(getattr(position, name))
        if number is None:
            raise refuse(name, getattr(position, name), "must be a finite number", "an unknown Greek is no Greek")
        exact[name] = number
    beta = exact.pop("beta")
    exact[BETA] = beta * exact[NOTIONAL]
    return exact


def breaches(measure: str, value: Fraction, limit: float) -> bool:
    """Beyond the limit, not at it; decay only for theta, both directions for the rest."""
    bound = exact_number(limit)
    if bound is None:
        return True
    return value < bound if measure == "theta" else abs(value) > bound
