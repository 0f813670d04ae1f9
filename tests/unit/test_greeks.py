"""The option formulas give the published figures, and nothing at all for a senseless input."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest

from backend.tradingbot.core.occ import multiplier_of, parse_option
from backend.tradingbot.risk.greeks import CHUNK, black_scholes, greeks_of_one, implied_volatility


def test_the_call_and_the_put_of_hull_chapter_15_come_out_to_six_digits() -> None:
    call = black_scholes(42, 40, 0.10, 0.20, 0.5, True)
    put = black_scholes(42, 40, 0.10, 0.20, 0.5, False)
    assert (round(float(call.price), 6), round(float(put.price), 6)) == (4.759422, 0.808599)


def test_the_greeks_of_hull_chapter_19_come_out_to_six_digits() -> None:
    call = black_scholes(49, 50, 0.05, 0.20, 0.3846, True)
    found = {
        "price": float(call.price),
        "delta": float(call.delta),
        "gamma": float(call.gamma),
        "vega per 1.00": float(call.vega) * 100,
        "theta a year": float(call.theta) * 365,
        "rho per 1.00": float(call.rho) * 100,
    }
    assert {name: round(value, 6) for name, value in found.items()} == {
        "price": 2.400461,
        "delta": 0.521602,
        "gamma": 0.065545,
        "vega per 1.00": 12.105243,
        "theta a year": -4.305390,
        "rho per 1.00": 8.906574,
    }


def test_an_index_call_with_a_dividend_yield_comes_out_to_six_digits() -> None:
    assert round(float(black_scholes(930, 900, 0.08, 0.20, 2 / 12, True, 0.03).price), 6) == 51.832957


def test_the_implied_volatility_of_a_known_price_comes_out_to_six_digits() -> None:
    assert round(float(implied_volatility(1.875, 21, 20, 0.10, 0.25, True)), 6) == 0.234513


@pytest.mark.parametrize(
    ("spot", "is_call", "price", "delta"),
    [(51, True, 1, 1), (49, True, 0, 0), (49, False, 1, -1), (51, False, 0, 0), (50, True, 0, 0.5)],
)
def test_at_expiry_an_option_is_worth_its_intrinsic_value(
    spot: float, is_call: bool, price: float, delta: float
) -> None:
    found = black_scholes(spot, 50, 0.05, 0.2, 0, is_call)
    assert (float(found.price), float(found.delta), float(found.vega)) == (price, delta, 0)


def test_at_expiry_exactly_at_the_strike_gamma_is_no_number_and_so_there_are_no_greeks() -> None:
    assert math.isnan(black_scholes(50, 50, 0.05, 0.2, 0, True).gamma)
    assert greeks_of_one(50, 50, 0.05, 0.2, 0, True) is None


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_gives_no_number(place: int, bad: float) -> None:
    numbers = [100.0, 100.0, 0.05, 0.2, 1.0, 0.01]
    numbers[place] = bad
    spot, strike, rate, vol, years, dividend = numbers
    found = black_scholes(spot, strike, rate, vol, years, True, dividend)
    for name in ("price", "delta", "gamma", "theta", "vega", "rho"):
        assert math.isnan(getattr(found, name)), name


@pytest.mark.parametrize(
    ("spot", "strike", "vol", "years"), [(0, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1)]
)
def test_a_number_of_the_wrong_sign_gives_no_number(spot: float, strike: float, vol: float, years: float) -> None:
    assert math.isnan(black_scholes(spot, strike, 0.05, vol, years, True).price)


@pytest.mark.parametrize("price", [0.0, -1.0, 0.99, 51.0, math.nan, math.inf])
def test_a_price_that_no_volatility_gives_has_no_implied_volatility(price: float) -> None:
    assert math.isnan(implied_volatility(price, 51, 50, 0.0, 0.5, True))


def test_a_batch_across_chunks_gives_what_each_option_gives_alone() -> None:
    spots = np.linspace(50, 150, CHUNK + 3)
    batch = black_scholes(spots, 100, 0.05, 0.3, 0.5, np.arange(spots.size) % 2 == 0)
    for index in (0, 1, CHUNK - 1, CHUNK, CHUNK + 2):
        alone = black_scholes(spots[index], 100, 0.05, 0.3, 0.5, index % 2 == 0)
        assert (batch.price[index], batch.theta[index]) == (alone.price, alone.theta)


def test_an_occ_symbol_names_its_contract() -> None:
    contract = parse_option("AAPL261218C00150500")
    assert contract is not None
    assert (contract.underlying, contract.expiry, contract.is_call, contract.strike, contract.multiplier) == (
        "AAPL",
        date(2026, 12, 18),
        True,
        Decimal("150.5"),
        Decimal(100),
    )
    assert contract.expires_at == datetime(2026, 12, 18, 21, 0, tzinfo=UTC)
    assert contract.years_left(datetime(2025, 12, 18, 21, 0, tzinfo=UTC)) == 1.0
    assert parse_option("AAPL  261218C00150500") is not None


@pytest.mark.parametrize(
    "symbol", ["AAPL", "BRK.B", "AAPL261318C00150500", "AAPL261218X00150500", "AAPL261218C0015050", "A261218C00000000"]
)
def test_what_is_no_occ_symbol_is_no_contract(symbol: str) -> None:
    assert parse_option(symbol) is None
    assert multiplier_of(symbol) == 1


def test_the_multiplier_of_an_adjusted_contract_is_unknown() -> None:
    assert (multiplier_of("AAPL261218P00150000"), multiplier_of("AAPL1261218P00150000")) == (Decimal(100), None)
