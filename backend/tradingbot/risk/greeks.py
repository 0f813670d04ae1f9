"""Option prices and Greeks by Black-Scholes-Merton with a dividend yield, vectorised, and the implied volatility.

Invariants: a senseless input (NaN, negative time, zero spot) gives NaN, never a number; the limits T -> 0 and
volatility -> 0 are the discounted intrinsic value and its slope. These are floats: a caller that decides with them
must refuse what is not finite. Source: Hull, Options, Futures, and Other Derivatives, chapters 15, 17 and 19.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

CHUNK = 8_192
DAYS_A_YEAR = 365.0
HIGHEST_VOLATILITY = 10.0
LOWEST_VOLATILITY = 1e-8
MOST_STEPS = 128
ROOT_TWO_PI = math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class OptionGreeks:
    """Of one option on one share: price; delta; gamma; theta a calendar day; vega a point of volatility (0.01); rho
    for 1 % of interest. Multiply by contracts and multiplier for a position."""

    price: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    rho: Floats


def black_scholes(
    spot: ArrayLike,
    strike: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    years: ArrayLike,
    is_call: ArrayLike,
    dividend: ArrayLike = 0.0,
) -> OptionGreeks:
    """Price and Greeks of European options. Arguments broadcast; rates, yield and volatility are fractions a year
    (0.05 is 5 %), ``years`` is time to expiry. At expiry, or without volatility, exactly at the forward: gamma and
    theta have no finite value and are NaN."""
    given = (spot, strike, rate, volatility, years, dividend)
    floats = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in given), np.asarray(is_call, dtype=bool))
    shape = floats[0].shape
    flat = [np.ravel(one) for one in floats]
    size = flat[0].size
    out = np.empty((6, size))
    with np.errstate(all="ignore"):
        for start in range(0, size, CHUNK):
            part = slice(start, start + CHUNK)
            out[:, part] = _chunk(*(one[part] for one in flat))
    return OptionGreeks(*(row.reshape(shape) for row in out))


def _chunk(
    spot: Floats, strike: Floats, rate: Floats, vol: Floats, years: Floats, dividend: Floats, is_call: NDArray[np.bool_]
) -> Floats:
    sign = np.where(is_call, 1.0, -1.0)
    spot_now, strike_now = spot * np.exp(-dividend * years), strike * np.exp(-rate * years)
    root = np.sqrt(years)
    spread = vol * root
    moneyness = np.log(spot_now / strike_now)
    d1 = np.where(spread > 0, moneyness / spread + 0.5 * spread, np.where(moneyness == 0, 0.0, moneyness * np.inf))
    d2 = np.where(spread > 0, d1 - spread, d1)
    n1, n2 = ndtr(sign * d1), ndtr(sign * d2)
    density = np.exp(-0.5 * d1 * d1) / ROOT_TWO_PI
    price = sign * (spot_now * n1 - strike_now * n2)
    delta = sign * np.exp(-dividend * years) * n1
    gamma = np.where(spread > 0, np.exp(-dividend * years) * density / (spot * spread), _at_the_kink(moneyness))
    decay = np.where(spread > 0, -spot_now * density * vol / (2.0 * root), _at_the_kink(moneyness))
    decay = np.where((spread == 0) & (years > 0) & (moneyness == 0), 0.0, decay)
    theta = decay + sign * (dividend * spot_now * n1 - rate * strike_now * n2)
    vega = spot_now * density * root
    rho = sign * strike_now * years * n2
    table = np.stack([np.maximum(price, 0.0), delta, gamma, theta / DAYS_A_YEAR, vega / 100.0, rho / 100.0])
    sane = (spot > 0) & (strike > 0) & (vol >= 0) & (years >= 0)
    sane &= np.isfinite(spot) & np.isfinite(strike) & np.isfinite(rate) & np.isfinite(dividend)
    sane &= np.isfinite(vol) & np.isfinite(years)
    return np.where(sane, table, np.nan)


def _at_the_kink(moneyness: Floats) -> Floats:
    """Without time or volatility the value is a kinked line: no curvature anywhere but at the kink, where it has no
    finite value."""
    return np.where(moneyness == 0, np.nan, 0.0)


def implied_volatility(
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    rate: ArrayLike,
    years: ArrayLike,
    is_call: ArrayLike,
    dividend: ArrayLike = 0.0,
) -> Floats:
    """The volatility at which the option has this price; NaN when there is none between 0 and 1,000 %.

    Newton's step where it stays inside the bracket, else bisection; the price at the answer is right to 1e-10 of spot.
    """
    given = (price, spot, strike, rate, years, dividend)
    floats = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in given))
    asked, spots, strikes, rates, time, dividends = (np.ravel(one) for one in floats)
    calls = np.broadcast_to(np.asarray(is_call, dtype=bool), floats[0].shape).ravel()

    def valued(vol: Floats) -> OptionGreeks:
        return black_scholes(spots, strikes, rates, vol, time, calls, dividends)

    low, high = np.full(asked.shape, LOWEST_VOLATILITY), np.full(asked.shape, HIGHEST_VOLATILITY)
    with np.errstate(all="ignore"):
        possible = (time > 0) & (asked > valued(low).price) & (asked <= valued(high).price)
        forward = np.log(spots / strikes) + (rates - dividends) * time
        guess = np.clip(np.sqrt(2.0 * np.abs(forward) / time), 0.05, HIGHEST_VOLATILITY / 2)
        for _ in range(MOST_STEPS):
            found = valued(guess)
            error = found.price - asked
            high, low = np.where(error > 0, guess, high), np.where(error > 0, low, guess)
            step = guess - error / (found.vega * 100.0)
            inside = np.isfinite(step) & (step > low) & (step < high)
            following = np.where(inside, step, 0.5 * (low + high))
            done = (np.abs(following - guess) <= 1e-12 * np.maximum(1.0, guess)) | ~possible
            guess = following
            if done.all():
                break
        right = np.abs(valued(guess).price - asked) <= 1e-10 * spots
    return np.where(possible & right, guess, np.nan).reshape(floats[0].shape)


def greeks_of_one(
    spot: float, strike: float, rate: float, volatility: float, years: float, is_call: bool, dividend: float = 0.0
) -> dict[str, float] | None:
    """The Greeks of one option as plain floats by name; None when any of them is not finite."""
    found = black_scholes(spot, strike, rate, volatility, years, is_call, dividend)
    named: dict[str, Any] = {name: float(getattr(found, name)) for name in ("price", "delta", "gamma", "theta", "vega")}
    return named if all(math.isfinite(value) for value in named.values()) else None
