"""What holds for every option: parity, slopes that are the differences of the price, and the limits of the formulas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.risk.greeks import OptionGreeks, black_scholes, implied_volatility

SPOT = st.floats(10, 500)
MONEYNESS = st.floats(0.6, 1.6)
RATE = st.floats(-0.02, 0.15)
YIELD = st.floats(0, 0.08)
VOL = st.floats(0.05, 1.2)
YEARS = st.floats(0.02, 3)
CALL = st.booleans()
TIGHT = {"rel": 2e-4, "abs": 2e-6}


@given(SPOT, MONEYNESS, RATE, YIELD, VOL, YEARS)
def test_put_and_call_differ_by_the_discounted_forward(
    s: float, m: float, r: float, q: float, v: float, t: float
) -> None:
    k = s * m
    call, put = black_scholes(s, k, r, v, t, True, q), black_scholes(s, k, r, v, t, False, q)
    forward = s * math.exp(-q * t) - k * math.exp(-r * t)
    assert float(call.price - put.price) == pytest.approx(forward, rel=1e-9, abs=1e-9 * s)
    assert float(call.delta - put.delta) == pytest.approx(math.exp(-q * t), rel=1e-12)
    assert float(call.gamma) == pytest.approx(float(put.gamma), rel=1e-9)
    assert float(call.vega) == pytest.approx(float(put.vega), rel=1e-9)


@given(SPOT, MONEYNESS, RATE, YIELD, VOL, YEARS, CALL)
def test_each_greek_is_the_difference_of_the_price(
    s: float, m: float, r: float, q: float, v: float, t: float, call: bool
) -> None:
    k = s * m

    def at(spot: float = s, rate: float = r, vol: float = v, years: float = t) -> OptionGreeks:
        return black_scholes(spot, k, rate, vol, years, call, q)

    here, step = at(), s * 1e-4
    size = max(1.0, s)
    up, down = at(spot=s + step), at(spot=s - step)
    assert float(here.delta) == pytest.approx(float(up.price - down.price) / (2 * step), **TIGHT)
    assert float(here.gamma) == pytest.approx(float(up.delta - down.delta) / (2 * step), **TIGHT)
    vega = float(at(vol=v + 1e-5).price - at(vol=v - 1e-5).price) / 2e-5
    assert float(here.vega) * 100 == pytest.approx(vega, rel=2e-4, abs=2e-6 * size)
    rho = float(at(rate=r + 1e-5).price - at(rate=r - 1e-5).price) / 2e-5
    assert float(here.rho) * 100 == pytest.approx(rho, rel=2e-4, abs=2e-6 * size)
    decay = -float(at(years=t + 1e-5).price - at(years=t - 1e-5).price) / 2e-5
    assert float(here.theta) * 365 == pytest.approx(decay, rel=2e-4, abs=2e-5 * size)


@given(SPOT, MONEYNESS, RATE, YIELD, VOL, CALL)
def test_with_no_time_left_the_price_goes_to_the_intrinsic_value(
    s: float, m: float, r: float, q: float, v: float, call: bool
) -> None:
    k = s * m
    intrinsic = max(0.0, s - k if call else k - s)
    assert float(black_scholes(s, k, r, v, 1e-10, call, q).price) == pytest.approx(intrinsic, abs=1e-4 * s)
    assert float(black_scholes(s, k, r, v, 0, call, q).price) == pytest.approx(intrinsic, abs=1e-9 * s)


@given(SPOT, MONEYNESS, RATE, YIELD, YEARS, CALL)
def test_with_no_volatility_the_price_goes_to_the_discounted_intrinsic_value(
    s: float, m: float, r: float, q: float, t: float, call: bool
) -> None:
    k = s * m
    forward = s * math.exp(-q * t) - k * math.exp(-r * t)
    worth = max(0.0, forward if call else -forward)
    assert float(black_scholes(s, k, r, 1e-9, t, call, q).price) == pytest.approx(worth, abs=1e-7 * s)
    assert float(black_scholes(s, k, r, 0, t, call, q).price) == pytest.approx(worth, abs=1e-9 * s)


@given(SPOT, st.floats(0.8, 1.25), RATE, YIELD, st.floats(0.1, 1.2), st.floats(0.1, 2), CALL)
def test_the_implied_volatility_of_a_price_is_the_volatility_it_was_made_with(
    s: float, m: float, r: float, q: float, v: float, t: float, call: bool
) -> None:
    priced = black_scholes(s, s * m, r, v, t, call, q)
    if float(priced.vega) * 100 > 1e-3 * s:  # below, the price says next to nothing about the volatility
        assert float(implied_volatility(priced.price, s, s * m, r, t, call, q)) == pytest.approx(v, abs=1e-6)


@given(SPOT, MONEYNESS, RATE, YIELD, VOL, YEARS)
def test_a_price_is_never_negative_and_curvature_and_vega_never_either(
    s: float, m: float, r: float, q: float, v: float, t: float
) -> None:
    for call in (True, False):
        found = black_scholes(s, s * m, r, v, t, call, q)
        assert min(float(found.price), float(found.gamma), float(found.vega)) >= 0
        assert 0 <= abs(float(found.delta)) <= 1
