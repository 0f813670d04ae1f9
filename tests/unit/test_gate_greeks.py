"""greek_exposure: every Greek at its limit and one step beyond, long and short, book and name; what lets one out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.risk.exposure import (
    BETA,
    DELTA,
    EMPTY_BOOK,
    EMPTY_NAME,
    GAMMA,
    MEASURES,
    STRESS,
    THETA,
    VEGA,
    UnitRisk,
    name_risk,
)
from tests.unit.gate_samples import NOW, OPTION, answer, buy, figures, limits, option_unit, order, sell, share_unit

GATE = "greek_exposure"
FREE = {"cash": Decimal(10**9), "book_equity": Decimal(10**9)}
INDEX = {"delta": DELTA, "gamma": GAMMA, "vega": VEGA, "beta_exposure": BETA, "theta_loss": THETA}


def unit(**measures: str) -> UnitRisk:
    """A unit that risks exactly what is said."""
    values = [Decimal(0)] * len(MEASURES)
    for name, value in measures.items():
        values[INDEX.get(name, STRESS)] = Decimal(value)
    return UnitRisk(Decimal(1), tuple(values), True, "test", NOW)


@pytest.mark.parametrize("greek", ["delta", "gamma", "vega", "beta_exposure"])
@pytest.mark.parametrize("scope", ["portfolio", "name"])
@pytest.mark.parametrize(("side", "sign"), [(buy, "2"), (sell, "2"), (buy, "-2"), (sell, "-2")])
def test_a_two_sided_greek_at_its_limit_passes_and_a_step_beyond_does_not(scope, greek, side, sign) -> None:
    bound = limits(**{f"{scope}_{greek}_max": 20}, position_short_max=99)
    at = {"unit": unit(**{greek: sign}), "limits": bound, **FREE}
    assert figures(GATE, side("10"), **at) == (True, "within_limit", "20", "20", "0")
    check = answer(GATE, side("10.5"), **at)
    grows = (side is buy) == (sign == "2")
    name = greek.removesuffix("_exposure")
    assert (check.passed, check.code) == (False, f"{scope}_{name}_{'long' if grows else 'short'}")
    assert (check.value, check.limit, check.headroom) == ("21", "20", "-1")


@pytest.mark.parametrize("scope", ["portfolio", "name"])
def test_theta_binds_decay_only(scope) -> None:
    at = {"limits": limits(**{f"{scope}_theta_loss_max": 20}, position_short_max=99), **FREE}
    assert figures(GATE, order(qty="10"), unit=unit(theta_loss="-2"), **at)[:2] == (True, "within_limit")
    assert figures(GATE, order(qty="10.5"), unit=unit(theta_loss="-2"), **at)[:3] == (False, f"{scope}_theta", "21")
    assert figures(GATE, order(qty="1000"), unit=unit(theta_loss="2"), **at)[0] is True
    assert figures(GATE, sell("10.5"), unit=unit(theta_loss="2"), **at)[:3] == (False, f"{scope}_theta", "21")


def test_the_worst_stress_cell_binds_and_is_named() -> None:
    at = {"unit": unit(stress="-3"), "limits": limits(stress_loss_max=30), **FREE}
    assert figures(GATE, order(qty="10"), **at)[:3] == (True, "within_limit", "30")
    check = answer(GATE, order(qty="10.1"), **at)
    assert (check.code, check.value) == ("stress_loss", "30.3")
    assert MEASURES[STRESS] in check.message


def test_working_orders_are_in_the_book_on_both_sides() -> None:
    held = {"position": Decimal(10), "working_buys": Decimal(5), "working_sells": Decimal(30)}
    at = {"unit": unit(delta="1"), "limits": limits(portfolio_delta_max=20, position_short_max=99), **held, **FREE}
    assert figures(GATE, order(qty="5"), **at)[:3] == (True, "within_limit", "20")
    assert figures(GATE, order(qty="6"), **at)[:3] == (False, "portfolio_delta_long", "21")
    assert figures(GATE, sell("1"), **at)[:3] == (False, "portfolio_delta_short", "21")


def test_the_whole_book_counts_for_the_portfolio_and_not_for_the_name() -> None:
    others = EMPTY_BOOK.replaced(EMPTY_NAME, name_risk(unit(delta="1"), Decimal(15), Decimal(0), Decimal(0)))
    at = {"unit": unit(delta="1"), "others": others, **FREE}
    assert figures(GATE, order(qty="6"), limits=limits(portfolio_delta_max=20), **at)[0] is False
    assert figures(GATE, order(qty="6"), limits=limits(name_delta_max=20), **at)[0] is True


def test_a_reduction_passes_when_no_breached_greek_gets_worse() -> None:
    others = EMPTY_BOOK.replaced(EMPTY_NAME, name_risk(unit(delta="1"), Decimal(100), Decimal(0), Decimal(0)))
    at = {"limits": limits(portfolio_delta_max=20), "position": Decimal(10), "others": others, **FREE}
    assert figures(GATE, sell("10"), unit=unit(delta="1"), **at)[:2] == (True, "reduces_risk")
    check = answer(GATE, sell("10"), unit=unit(delta="-1"), **at)  # it takes a hedge off a breached book
    assert (check.passed, check.code, check.value) == (False, "portfolio_delta_long", "100")


def test_a_reduction_may_not_bring_about_a_breach_either() -> None:
    others = EMPTY_BOOK.replaced(EMPTY_NAME, name_risk(unit(delta="1"), Decimal(25), Decimal(0), Decimal(0)))
    at = {"limits": limits(portfolio_delta_max=20), "position": Decimal(10), "others": others, "unit": unit(delta="-1")}
    assert figures(GATE, sell("5"), **at, **FREE)[:3] == (True, "within_limit", "20")
    assert figures(GATE, sell("6"), **at, **FREE)[:3] == (False, "portfolio_delta_long", "21")


def test_an_option_without_greeks_denies_and_says_what_to_send() -> None:
    check = answer(GATE, order(symbol=OPTION), unit=None, book_unit_problem="no Greeks of it")
    assert (check.passed, check.code, check.message) == (False, "greeks_missing", "no Greeks of it")
    assert "greeks" in check.remedy


def test_old_greeks_anywhere_in_the_book_deny_new_risk_and_let_out() -> None:
    at = {"limits": limits(greeks_max_age_seconds=60), "position": Decimal(10), **FREE}
    on_time, late = NOW - timedelta(seconds=60), NOW - timedelta(seconds=60, microseconds=1)
    assert figures(GATE, order(), book_oldest_greeks=on_time, **at)[0] is True
    assert figures(GATE, order(), book_oldest_greeks=late, **at)[:2] == (False, "greeks_stale")
    assert figures(GATE, sell(), book_oldest_greeks=late, **at)[:2] == (True, "reduces_risk")


def test_a_stress_limit_needs_a_volatility_for_every_name() -> None:
    blind = replace(unit(delta="1"), stressed=False)
    at = {"unit": blind, **FREE}
    assert figures(GATE, order(), limits=limits(stress_loss_max=10**6), **at)[:2] == (False, "iv_missing")
    assert figures(GATE, order(), limits=limits(), **at)[0] is True


BLIND = EMPTY_BOOK.replaced(EMPTY_NAME, name_risk(None, Decimal(1), Decimal(0), Decimal(0)))


@pytest.mark.parametrize("change", [{"book_sums": None}, {"others": BLIND}])
def test_a_book_that_is_not_known_denies(change) -> None:
    assert figures(GATE, order(), **change)[0] is False


def test_a_greek_that_is_no_number_denies() -> None:
    good = share_unit()
    bad = replace(good, measures=(*good.measures[:DELTA], Decimal("NaN"), *good.measures[DELTA + 1 :]))
    assert figures(GATE, order(), unit=good)[0] is True
    check = answer(GATE, order(), unit=bad)
    assert (check.passed, check.code) == (False, "gate_error")


def test_ten_calls_count_with_their_multiplier() -> None:
    at = {"unit": option_unit(), "limits": limits(name_delta_max=1), **FREE}
    check = answer(GATE, order(qty="10", limit="5", symbol=OPTION), **at)
    assert check.code == "name_delta_long"
    assert 500 < Decimal(str(check.value)) < 650  # about 0.57 a share, a hundred shares a contract
