"""What one unit of a symbol risks, from what is known about it: a price, Greeks that somebody supplied, a volatility.

A share needs its price alone: its delta is 1, and a beta that nobody supplied counts as ``UNKNOWN_BETA``, which few
shares exceed. An option needs the underlying's price, and its Greeks: fresh ones from the feed come first, then ones
computed from its own quote, then the strategy's. Nothing is guessed: without them the unit is unknown, and why is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from backend.tradingbot.core.occ import OptionContract, parse_option
from backend.tradingbot.risk.exposure import ZERO, UnitRisk, exact
from backend.tradingbot.risk.stress import CELLS, stressed_share

UNKNOWN_BETA = Decimal(2)
GREEKS = ("delta", "gamma", "theta", "vega")
NO_STRESS = (ZERO,) * len(CELLS)


def get_ready_for_options() -> None:
    """numpy and scipy take a third of a second to load, which a process without options need not spend; call this
    before an account is locked for an order in one."""
    from backend.tradingbot.risk import option_stress  # noqa: F401


@dataclass(frozen=True)
class Mark:
    """A price with its time."""

    price: Decimal
    as_of: datetime


@dataclass(frozen=True)
class SuppliedGreeks:
    """Greeks of one share or of an option on one share: delta, gamma, theta a calendar day, vega a volatility point.
    ``values`` may also hold beta, iv (0.25 is 25 %) and dividend_yield."""

    values: Mapping[str, Decimal]
    as_of: datetime
    source: str

    @property
    def complete(self) -> bool:
        """All four are there, and an option could have them: no delta beyond 1, no curvature or vega below 0."""
        if not all(name in self.values and self.values[name].is_finite() for name in GREEKS):
            return False
        return abs(self.values["delta"]) <= 1 and self.values["gamma"] >= 0 and self.values["vega"] >= 0


@dataclass(frozen=True)
class Known:
    """All that is known about a symbol when an order for it is judged. None means unknown."""

    symbol: str
    now: datetime
    mark: Mark | None
    underlying: Mark | None
    stored: SuppliedGreeks | None
    offered: SuppliedGreeks | None
    max_age: Decimal
    rate: Decimal

    def is_fresh(self, moment: datetime) -> bool:
        return (self.now - moment).total_seconds() <= self.max_age


def unit_risk(known: Known) -> tuple[UnitRisk | None, str]:
    """The unit and, when there is none, what is missing."""
    contract = parse_option(known.symbol)
    if contract is None:
        return _share(known)
    if contract.multiplier is None:
        return None, f"{known.symbol} is an adjusted contract: its multiplier is not known"
    if known.underlying is None:
        return None, f"no price of {contract.underlying}, the underlying of {known.symbol}"
    if contract.years_left(known.now) < 0:
        return None, f"{known.symbol} has expired"
    return _option(known, contract, contract.multiplier, known.underlying)


def _beta(known: Known) -> Decimal:
    for supplied in (known.stored, known.offered):
        if supplied is not None and "beta" in supplied.values:
            return supplied.values["beta"]
    return UNKNOWN_BETA


def _share(known: Known) -> tuple[UnitRisk | None, str]:
    if known.mark is None:
        return None, f"no price of {known.symbol}"
    price = known.mark.price
    linear = (price, Decimal(1), ZERO, ZERO, ZERO, _beta(known) * price)
    measures = tuple(exact(value) for value in (*linear, *stressed_share(price)))
    return UnitRisk(exact(price), measures, True, "share", known.mark.as_of), ""


def _option(
    known: Known, contract: OptionContract, multiplier: Decimal, underlying: Mark
) -> tuple[UnitRisk | None, str]:
    found, problem = _option_greeks(known, contract, underlying)
    if found is None:
        return None, problem
    values, spot = found.values, underlying.price
    delta, gamma, theta, vega = (values[name] * multiplier for name in GREEKS)
    cells = _option_stress(known, contract, underlying, values)
    stressed = NO_STRESS if cells is None else tuple(cell * multiplier for cell in cells)
    linear = (delta * spot, delta, gamma, theta, vega, _beta(known) * delta * spot)
    measures = tuple(exact(value) for value in (*linear, *stressed))
    return UnitRisk(exact(spot * multiplier), measures, cells is not None, found.source, found.as_of), ""


def _option_greeks(known: Known, contract: OptionContract, underlying: Mark) -> tuple[SuppliedGreeks | None, str]:
    stored = known.stored
    if stored is not None and stored.complete and known.is_fresh(stored.as_of):
        return stored, ""
    computed = _computed(known, contract, underlying)
    if computed is not None:
        return computed, ""
    if known.offered is not None and known.offered.complete:
        return known.offered, ""
    if stored is not None and stored.complete:
        return None, f"the Greeks of {known.symbol} are older than {known.max_age} s"
    return None, f"no Greeks of {known.symbol}, and none can be computed from its quote and volatility"


def _computed(known: Known, contract: OptionContract, underlying: Mark) -> SuppliedGreeks | None:
    """From the stored volatility when it is fresh, else from the one that the option's own fresh price implies."""
    from backend.tradingbot.risk.greeks import greeks_of_one, implied_volatility

    values = {} if known.stored is None else dict(known.stored.values)
    fresh = known.stored is not None and known.is_fresh(known.stored.as_of)
    if not known.is_fresh(underlying.as_of):
        return None
    years, dividend = contract.years_left(known.now), float(values.get("dividend_yield", ZERO))
    spot, strike, rate = float(underlying.price), float(contract.strike), float(known.rate)
    as_of = underlying.as_of
    if fresh and known.stored is not None and "iv" in values:
        volatility, as_of = float(values["iv"]), min(as_of, known.stored.as_of)
    elif known.mark is not None and known.is_fresh(known.mark.as_of):
        price = float(known.mark.price)
        volatility = float(implied_volatility(price, spot, strike, rate, years, contract.is_call, dividend))
        as_of = min(as_of, known.mark.as_of)
    else:
        return None
    if not math.isfinite(volatility):
        return None
    found = greeks_of_one(spot, strike, rate, volatility, years, contract.is_call, dividend)
    if found is None:
        return None
    exactly = {name: Decimal(repr(round(found[name], 12))) for name in GREEKS}
    exactly |= {"iv": Decimal(repr(round(volatility, 12))), "dividend_yield": Decimal(repr(dividend))}
    return SuppliedGreeks(exactly, as_of, "computed")


def _option_stress(
    known: Known, contract: OptionContract, underlying: Mark, values: Mapping[str, Decimal]
) -> tuple[Decimal, ...] | None:
    """None without a volatility: a grid from Greeks alone would flatter a short option."""
    from backend.tradingbot.risk.option_stress import stressed_option

    if "iv" not in values:
        return None
    return stressed_option(
        float(underlying.price),
        float(contract.strike),
        float(known.rate),
        float(values["iv"]),
        contract.years_left(known.now),
        contract.is_call,
        float(values.get("dividend_yield", ZERO)),
    )
