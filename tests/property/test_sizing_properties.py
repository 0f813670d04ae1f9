"""Sizing never spends more than was allowed, whatever the numbers."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.risk.sizing import size_order

EQUITY = st.floats(min_value=0, max_value=1e9)
PCT = st.floats(min_value=0, max_value=1)
PRICE = st.floats(min_value=0.01, max_value=1e6)
LOT = st.integers(min_value=1, max_value=1_000)
ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(EQUITY, PCT, PRICE, LOT)
def test_value_never_exceeds_the_budget_in_floats(equity: float, pct: float, px: float, lot: int) -> None:
    assert size_order(equity, pct, px, lot) * px <= equity * pct


@given(EQUITY, PCT, PRICE, LOT)
def test_value_never_exceeds_the_budget_in_decimals(equity: float, pct: float, px: float, lot: int) -> None:
    budget = Fraction(Decimal(repr(equity))) * Fraction(Decimal(repr(pct)))
    assert size_order(equity, pct, px, lot) * Fraction(Decimal(repr(px))) <= budget


@given(st.decimals(0, 10**9, places=2), st.decimals(0, 1, places=4), st.decimals("0.01", 10**6, places=2), LOT)
def test_one_more_lot_would_exceed_the_budget(equity: Decimal, pct: Decimal, px: Decimal, lot: int) -> None:
    shares, budget = size_order(equity, pct, px, lot), Fraction(equity) * Fraction(pct)
    assert shares * Fraction(px) <= budget < (shares + lot) * Fraction(px)


@given(ANY, ANY, ANY, LOT)
def test_the_answer_is_a_whole_number_of_lots_and_never_negative(
    equity: float, pct: float, px: float, lot: int
) -> None:
    shares = size_order(equity, pct, px, lot)
    assert type(shares) is int
    assert (shares >= 0, shares % lot) == (True, 0)


@given(EQUITY, EQUITY, PCT, PRICE, LOT)
def test_more_equity_never_buys_fewer(one: float, other: float, pct: float, px: float, lot: int) -> None:
    low, high = sorted((one, other))
    assert size_order(low, pct, px, lot) <= size_order(high, pct, px, lot)


@given(EQUITY, PCT, PCT, PRICE, LOT)
def test_a_greater_fraction_never_buys_fewer(equity: float, one: float, other: float, px: float, lot: int) -> None:
    low, high = sorted((one, other))
    assert size_order(equity, low, px, lot) <= size_order(equity, high, px, lot)


@given(EQUITY, PCT, PRICE, PRICE, LOT)
def test_a_higher_price_never_buys_more(equity: float, pct: float, one: float, other: float, lot: int) -> None:
    low, high = sorted((one, other))
    assert size_order(equity, pct, high, lot) <= size_order(equity, pct, low, lot)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 0, -1.0, Decimal("NaN"), None, "x"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_senseless_number_buys_nothing(bad: Any, place: int) -> None:
    numbers: list[Any] = [100_000.0, 0.1, 50.0]
    numbers[place] = bad
    assert size_order(*numbers) == 0


@pytest.mark.parametrize("lot", [0, -1, 1.5, True, None, float("nan")])
def test_a_bad_lot_is_an_error(lot: Any) -> None:
    with pytest.raises(ValueError, match="lot"):
        size_order(100_000, 0.1, 50, lot)


@pytest.mark.parametrize(
    ("equity", "pct", "px", "lot", "shares"),
    [
        (100_000, 0.05, 190.10, 1, 26),
        (1_000, 0.1, 10, 1, 10),
        (100_000, 0.05, 190.10, 10, 20),
        (Decimal(1), Decimal("0.3"), Decimal("0.1"), 1, 3),
        (1.0, 0.3, 0.1, 1, 2),  # 3 * 0.1 > 0.3 in floats
        (100, 0.1, 11, 1, 0),
    ],
)
def test_known_sizes(equity: Any, pct: Any, px: Any, lot: int, shares: int) -> None:
    assert size_order(equity, pct, px, lot) == shares
