"""The stress grid of an option: each cell is the option revalued in full by Black-Scholes-Merton."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np

from backend.tradingbot.risk.greeks import DAYS_A_YEAR, black_scholes
from backend.tradingbot.risk.stress import CELLS

_MOVES = np.array([(cell.spot, cell.volatility, cell.days) for cell in CELLS]).T


def stressed_option(
    spot: float, strike: float, rate: float, volatility: float, years: float, is_call: bool, dividend: float = 0.0
) -> tuple[Decimal, ...] | None:
    """The profit of an option on one share in each cell; None when a cell has no finite value. An option that expires
    within a cell's days is worth its intrinsic value there."""
    spots, volatilities, days = _MOVES
    left = np.maximum(years - days / DAYS_A_YEAR, 0.0)
    now = black_scholes(spot, strike, rate, volatility, years, is_call, dividend).price
    then = black_scholes(spot * (1 + spots), strike, rate, volatility * volatilities, left, is_call, dividend).price
    profits = (then - now).tolist()
    if not all(math.isfinite(profit) for profit in profits):
        return None
    return tuple(Decimal(repr(round(profit, 9))) for profit in profits)
