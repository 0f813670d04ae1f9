"""Units, names and books: what one share or contract risks, ranges under open orders, and sums that never drift."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.risk.exposure import (
    BETA,
    DELTA,
    EMPTY_BOOK,
    EMPTY_NAME,
    GAMMA,
    MEASURES,
    NET,
    STRESS,
    THETA,
    UNKNOWN_NAME,
    VEGA,
    attributed,
    book_of,
    name_risk,
    worst_stress,
)
from backend.tradingbot.risk.greeks import black_scholes
from backend.tradingbot.risk.stress import CELLS
from backend.tradingbot.risk.unit_risk import UNKNOWN_BETA, Known, Mark, SuppliedGreeks, unit_risk
from tests.unit.gate_samples import NOW, OPTION, option_unit, share_unit

GREEKS = {"delta": "0.5", "gamma": "0.02", "theta": "-0.03", "vega": "0.1"}
SPOT = Mark(Decimal(100), NOW)


def supplied(age: float = 0, source: str = "feed", **values: str) -> SuppliedGreeks:
    return SuppliedGreeks(
        {name: Decimal(value) for name, value in values.items()}, NOW - timedelta(seconds=age), source
    )


def known(symbol: str = OPTION, **changes) -> Known:
    facts = {"mark": None, "underlying": SPOT, "stored": None, "offered": None}
    return Known(symbol, NOW, **{**facts, **changes}, max_age=Decimal(900), rate=Decimal("0.04"))


def test_a_share_has_a_delta_of_one_and_a_beta_that_is_high_when_nobody_knows_it() -> None:
    unit = share_unit("100", beta=None)
    assert unit.notional == 100
    assert [unit.measures[index] for index in (NET, DELTA, GAMMA, THETA, VEGA)] == [100, 1, 0, 0, 0]
    assert unit.measures[BETA] == UNKNOWN_BETA * 100 == 200
    assert share_unit("100", beta="0.8").measures[BETA] == 80


@pytest.mark.parametrize("broken", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("held", [(3, 0, 0), (-3, 0, 0), (3, 1, 2)])
def test_a_measure_that_is_no_number_is_never_summed_whether_the_quantity_is_fixed_or_not(broken, held) -> None:
    unit = share_unit("100")
    bad = replace(unit, measures=(*unit.measures[:-1], Decimal(broken)))
    with pytest.raises((ValueError, ArithmeticError)):
        name_risk(bad, *map(Decimal, held))


def test_a_share_in_the_stress_grid_moves_with_the_spot_alone() -> None:
    unit = share_unit("100")
    for cell, profit in zip(CELLS, unit.measures[STRESS:], strict=True):
        assert profit == Decimal(str(cell.spot)) * 100
    assert worst_stress(name_risk(unit, Decimal(10), Decimal(0), Decimal(0)).low)[0] == 200


def test_an_option_counts_a_hundred_shares_with_its_greeks_from_the_feed() -> None:
    unit, problem = unit_risk(known(stored=supplied(**GREEKS, beta="1.5")))
    assert unit is not None, problem
    assert (unit.source, unit.notional, unit.stressed) == ("feed", 10_000, False)
    assert [unit.measures[index] for index in (NET, DELTA, GAMMA, THETA, VEGA, BETA)] == [5000, 50, 2, -3, 10, 7500]


def test_fresh_greeks_from_the_feed_come_before_those_of_the_order() -> None:
    offered = supplied(source="order", delta="0.01", gamma="0", theta="0", vega="0")
    assert unit_risk(known(stored=supplied(**GREEKS), offered=offered))[0].source == "feed"
    assert unit_risk(known(stored=supplied(901, **GREEKS), offered=offered))[0].source == "order"
    assert unit_risk(known(offered=offered))[0].measures[DELTA] == 1


def test_a_fresh_volatility_gives_greeks_that_are_computed_and_a_full_stress_grid() -> None:
    unit = option_unit(iv="0.25")
    years = (NOW.replace(month=6, day=19, hour=20) - NOW).total_seconds() / (365 * 86400)
    exact = black_scholes(100, 100, 0.04, 0.25, years, True)
    assert (unit.source, unit.stressed) == ("computed", True)
    assert float(unit.measures[DELTA]) == pytest.approx(float(exact.delta) * 100, abs=1e-7)
    assert float(unit.measures[THETA]) == pytest.approx(float(exact.theta) * 100, abs=1e-7)
    crash = unit.measures[STRESS + [(c.spot, c.volatility, c.days) for c in CELLS].index((-0.2, 1.0, 0))]
    moved = black_scholes(80, 100, 0.04, 0.25, years, True).price - exact.price
    assert float(crash) == pytest.approx(float(moved) * 100, abs=1e-6)


def test_the_options_own_quote_gives_the_volatility() -> None:
    years = (NOW.replace(month=6, day=19, hour=20) - NOW).total_seconds() / (365 * 86400)
    price = Decimal(repr(float(black_scholes(100, 100, 0.04, 0.32, years, True).price)))
    unit, _ = unit_risk(known(mark=Mark(price, NOW)))
    assert unit is not None and unit.source == "computed"
    exact = black_scholes(100, 100, 0.04, 0.32, years, True)
    assert float(unit.measures[VEGA]) == pytest.approx(float(exact.vega) * 100, abs=1e-6)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, "no Greeks"),
        ({"underlying": None}, "no price of AAPL"),
        ({"stored": supplied(901, **GREEKS)}, "older than 900 s"),
        ({"stored": supplied(901, iv="0.25")}, "no Greeks"),
        ({"mark": Mark(Decimal(5), NOW - timedelta(seconds=901))}, "no Greeks"),
        ({"mark": Mark(Decimal("0.000001"), NOW), "underlying": Mark(Decimal(200), NOW)}, "no Greeks"),
        ({"underlying": Mark(Decimal(100), NOW - timedelta(seconds=901)), "stored": supplied(iv="0.25")}, "no Greeks"),
        ({"offered": supplied(**{**GREEKS, "delta": "50"})}, "no Greeks"),
        ({"offered": supplied(**{**GREEKS, "gamma": "-1"})}, "no Greeks"),
        ({"offered": supplied(**{**GREEKS, "vega": "NaN"})}, "no Greeks"),
        ({"offered": supplied(delta="0.5")}, "no Greeks"),
    ],
)
def test_missing_old_or_impossible_greeks_give_no_unit_and_say_why(facts, says) -> None:
    unit, problem = unit_risk(known(**facts))
    assert unit is None
    assert says in problem


def test_an_adjusted_or_expired_contract_has_no_unit() -> None:
    assert "adjusted" in unit_risk(known("AAPL1260619C00100000", stored=supplied(**GREEKS)))[1]
    assert "expired" in unit_risk(known("AAPL250619C00100000", stored=supplied(**GREEKS)))[1]
    assert "no price" in unit_risk(known("AAPL"))[1]


def test_a_name_is_a_range_between_all_sales_and_all_purchases_filled() -> None:
    risk = name_risk(share_unit(), Decimal(5), Decimal(3), Decimal(12))
    assert (risk.low[NET], risk.high[NET], risk.gross, risk.short) == (-700, 800, 800, 0)
    short = name_risk(share_unit(), Decimal(-5), Decimal(3), Decimal(12))
    assert (short.low[DELTA], short.high[DELTA], short.gross, short.short) == (-17, -2, 1700, 500)
    assert name_risk(None, Decimal(5), Decimal(0), Decimal(0)) == UNKNOWN_NAME
    assert name_risk(None, Decimal(0), Decimal(0), Decimal(0)) == EMPTY_NAME


def test_a_name_that_is_not_known_makes_the_book_unknown_until_it_is() -> None:
    book = EMPTY_BOOK.replaced(EMPTY_NAME, UNKNOWN_NAME)
    assert (book.unknown, book.unstressed) == (1, 1)
    assert book.replaced(UNKNOWN_NAME, EMPTY_NAME) == EMPTY_BOOK


@pytest.mark.parametrize(
    ("parts", "position", "whose"),
    [
        ({1: 5, 2: -5}, 0, {1: 0, 2: 0}),  # the flatten service sold what another had bought
        ({1: 5, 2: -2}, 3, {1: 3, 2: 0}),
        ({1: 5, 2: 7, 3: -6}, 6, {1: 5, 2: 1, 3: 0}),
        ({1: -5, 2: 8}, 3, {1: 0, 2: 3}),
        ({1: 5}, 10, {1: 10}),  # a split
        ({1: 0}, 0, {1: 0}),
        ({}, 4, {}),
    ],
)
def test_a_position_belongs_to_those_who_made_it_and_opposites_are_set_off(parts, position, whose) -> None:
    found = attributed({key: Decimal(value) for key, value in parts.items()}, Decimal(position))
    assert found == whose


QTY = st.decimals(-1000, 1000, places=4)
OPEN = st.decimals(0, 1000, places=4)
UNITS = [share_unit("100"), share_unit("33.33", "1.7"), option_unit(), option_unit("91.5"), None]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(UNITS), QTY, OPEN, OPEN), max_size=60))
def test_running_sums_are_exactly_the_sums_from_scratch(changes) -> None:
    names, book = {}, EMPTY_BOOK
    for name, unit, position, buys, sells in changes:
        new = name_risk(unit, position, buys, sells)
        book = book.replaced(names.get(name, EMPTY_NAME), new)
        names[name] = new
    assert book == book_of(names.values())


@given(QTY, OPEN, OPEN, OPEN)
def test_an_open_order_more_never_narrows_the_range(position, buys, sells, more) -> None:
    unit = option_unit()
    before, after = name_risk(unit, position, buys, sells), name_risk(unit, position, buys + more, sells)
    assert after.gross >= before.gross or not before.known
    for index in range(len(MEASURES)):
        assert after.low[index] <= before.low[index] <= before.high[index] <= after.high[index]
