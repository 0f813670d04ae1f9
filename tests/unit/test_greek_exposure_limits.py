"""The Greek exposure limiter: two-sided, exact at the limit, and never wrong about its own sums."""

from __future__ import annotations

import math
import random
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from backend.tradingbot.core.errors import TradingBlockedError
from backend.tradingbot.risk.greek_exposure_limits import GreekExposureLimiter, GreekLimits, PositionGreeks

CALM = PositionGreeks("AAPL", delta=1000, gamma=50, theta=-10, vega=200, beta=1.2, notional=100_000)
WIDE = GreekLimits(
    **{f.name: -1e12 if f.name.endswith("theta") else 1e12 for f in fields(GreekLimits)}  # type: ignore[arg-type]
)


def position(symbol: str = "AAPL", **changes: float) -> PositionGreeks:
    flat = PositionGreeks(symbol, delta=0, gamma=0, theta=0, vega=0, beta=0, notional=0)
    return replace(flat, **changes)  # type: ignore[arg-type]


def test_the_calm_book_of_the_description_passes() -> None:
    limiter = GreekExposureLimiter()
    limiter.add_position(CALM)
    limiter.require_ok()
    assert limiter.get_portfolio_greeks() == {
        "delta": 1000.0,
        "gamma": 50.0,
        "theta": -10.0,
        "vega": 200.0,
        "beta_adjusted_exposure": 120_000.0,
    }


@pytest.mark.parametrize(
    ("limit", "field", "at"),
    [
        ("max_portfolio_delta", "delta", 1e6),
        ("max_portfolio_gamma", "gamma", 1e4),
        ("max_portfolio_vega", "vega", 5e4),
        ("max_portfolio_notional", "notional", 1e7),
        ("max_per_name_delta", "delta", 1e5),
        ("max_per_name_gamma", "gamma", 1e3),
        ("max_per_name_vega", "vega", 5e3),
        ("max_per_name_notional", "notional", 1e6),
    ],
)
def test_a_two_sided_limit_holds_at_its_default_and_breaks_one_step_beyond_long_and_short(
    limit: str, field: str, at: float
) -> None:
    assert getattr(GreekLimits(), limit) == at
    limits = replace(WIDE, **{limit: at})
    for sign in (1, -1):
        limiter = GreekExposureLimiter(limits)
        limiter.add_position(position(**{field: sign * at}))
        limiter.require_ok()
        limiter.add_position(position(**{field: sign * (at + 0.001)}))
        with pytest.raises(TradingBlockedError, match="^Greek exposure limits violated: .*" + field):
            limiter.require_ok()


@pytest.mark.parametrize(("limit", "at"), [("max_portfolio_theta", -1e3), ("max_per_name_theta", -100)])
def test_theta_is_a_floor_that_only_decay_breaks(limit: str, at: float) -> None:
    assert getattr(GreekLimits(), limit) == at
    limiter = GreekExposureLimiter(replace(WIDE, **{limit: at}))
    for theta, ok in ((at, True), (at - 0.01, False), (1e9, True)):
        limiter.add_position(position(theta=theta))
        assert limiter.status()["ok"] is ok


@pytest.mark.parametrize(
    ("limit", "at"), [("max_beta_adjusted_exposure", 2e6), ("max_per_name_beta_exposure", 200_000.0)]
)
def test_beta_exposure_is_beta_times_the_signed_notional(limit: str, at: float) -> None:
    assert getattr(GreekLimits(), limit) == at
    for sign in (1, -1):
        limiter = GreekExposureLimiter(replace(WIDE, **{limit: at}))
        limiter.add_position(position(beta=2.0, notional=sign * at / 2))
        limiter.require_ok()
        limiter.add_position(position(beta=2.0, notional=sign * (at / 2 + 1)))
        with pytest.raises(TradingBlockedError, match="beta-adjusted exposure"):
            limiter.require_ok()


def test_a_short_of_ninety_nine_million_delta_breaches_as_a_long_does() -> None:
    for delta in (99_999_000, -99_999_000):
        limiter = GreekExposureLimiter()
        limiter.add_position(position(delta=delta))
        assert [text.split(" exceeds")[0] for text in limiter.check_portfolio_limits()] == [
            f"Portfolio delta {delta:,.2f}"
        ]


@pytest.mark.parametrize("field", ["delta", "gamma", "theta", "vega", "beta", "notional"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "1"])
def test_what_is_no_finite_number_is_refused_and_changes_nothing(field: str, bad: Any) -> None:
    limiter = GreekExposureLimiter()
    limiter.add_position(CALM)
    with pytest.raises(ValueError, match=field):
        limiter.add_position(replace(CALM, **{field: bad}))
    assert limiter.validate_position(replace(CALM, **{field: bad}))[0] is False
    assert limiter.positions == {"AAPL": CALM}
    assert limiter.get_portfolio_greeks()["delta"] == 1000.0


@pytest.mark.parametrize("name", [f.name for f in fields(GreekLimits)])
def test_a_limit_of_the_wrong_sign_or_no_number_is_refused(name: str) -> None:
    wrong = [math.nan, math.inf, "1", None, 1.0 if name.endswith("theta") else -1.0]
    wrong += [] if name.endswith("theta") else [0]
    for value in wrong:
        with pytest.raises(ValueError, match=name):
            GreekLimits(**{name: value})  # type: ignore[arg-type]


def test_limits_are_frozen_and_each_limiter_has_its_own() -> None:
    one, other = GreekExposureLimiter(), GreekExposureLimiter()
    with pytest.raises(FrozenInstanceError):
        one.limits.max_portfolio_delta = 5  # type: ignore[misc]
    one.add_position(CALM)
    assert (one.limits is not other.limits, other.positions) == (True, {})


def test_a_replaced_position_is_not_counted_twice() -> None:
    limiter = GreekExposureLimiter(replace(WIDE, max_portfolio_delta=1500, max_portfolio_notional=150))
    limiter.add_position(position(delta=1000, notional=-100))
    assert limiter.validate_position(position(delta=1500, notional=150)) == (True, [])
    assert limiter.validate_position(position("MSFT", delta=501))[0] is False
    assert limiter.validate_position(position("MSFT", notional=51))[0] is False
    limiter.add_position(position(delta=1500, notional=-150))
    assert limiter.get_portfolio_greeks()["delta"] == 1500.0
    limiter.require_ok()


def test_a_candidate_is_held_against_the_limits_of_its_name_too() -> None:
    limiter = GreekExposureLimiter()
    ok, found = limiter.validate_new_position(position(vega=5_000.5))
    assert (ok, found) == (False, ["AAPL vega 5,000.50 exceeds its limit 5,000.00"])
    assert limiter.check_per_name_limits() == []
    limiter.add_position(position(vega=5_000.5))
    assert limiter.check_per_name_limits("AAPL") == found
    assert limiter.check_per_name_limits("MSFT") == []
    assert limiter.remove_position("AAPL") is True
    assert limiter.remove_position("AAPL") is False
    limiter.require_ok()


def test_the_sums_follow_every_way_to_change_the_positions() -> None:
    limiter = GreekExposureLimiter(WIDE)
    rolls = random.Random(7)
    for _ in range(600):
        name = f"S{rolls.randrange(8)}"
        made = position(name, delta=rolls.uniform(-1, 1), gamma=0.1, notional=rolls.uniform(-9, 9), beta=0.3)
        way = rolls.randrange(8)
        if way == 0:
            limiter.positions.pop(name, None)
        elif way == 1 and name in limiter.positions:
            del limiter.positions[name]
        elif way == 2:
            limiter.positions.update({name: made})
        elif way == 3:
            limiter.positions.setdefault(name, made)
        elif way == 4 and limiter.positions:
            limiter.positions.popitem()
        elif way == 5:
            limiter.positions.__ior__({name: made})
        elif way == 6 and rolls.random() < 0.1:
            limiter.positions.clear()
        else:
            limiter.add_position(made)
    fresh = GreekExposureLimiter(WIDE)
    for held in limiter.positions.values():
        fresh.add_position(held)
    assert limiter.status() == fresh.status()
    limiter.positions.clear()
    assert limiter.get_portfolio_greeks() == dict.fromkeys(
        ("delta", "gamma", "theta", "vega", "beta_adjusted_exposure"), 0.0
    )


def test_a_position_under_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="symbol"):
        GreekExposureLimiter().positions["MSFT"] = CALM
    with pytest.raises(ValueError, match="symbol"):
        GreekExposureLimiter().add_position(replace(CALM, symbol=" "))


def test_the_summary_names_the_largest_positions_first() -> None:
    limiter = GreekExposureLimiter()
    for name, notional in (("A", 10), ("B", -30), ("C", 20)):
        limiter.add_position(position(name, notional=notional))
    summary = limiter.get_position_summary()
    assert summary["total_positions"] == 3
    assert [held["symbol"] for held in summary["largest_positions"]] == ["B", "C", "A"]
    assert summary["portfolio_greeks"] == limiter.get_portfolio_greeks()


def test_utilization_is_a_fraction_of_the_limit_and_a_gain_in_theta_uses_none() -> None:
    limiter = GreekExposureLimiter()
    limiter.add_position(position(delta=-500_000, theta=-250, beta=1, notional=-1_000_000))
    used = limiter.get_greek_utilization()
    assert (used["delta_utilization"], used["theta_utilization"]) == (0.5, 0.25)
    assert (used["beta_utilization"], used["notional_utilization"], used["vega_utilization"]) == (0.5, 0.1, 0.0)
    limiter.add_position(position(theta=250))
    assert limiter.get_greek_utilization()["theta_utilization"] == 0.0


def test_a_stress_scales_the_greek_it_names_and_lists_what_it_breaks() -> None:
    limiter = GreekExposureLimiter(replace(WIDE, max_portfolio_delta=1000))
    limiter.add_position(CALM)
    answers = limiter.stress_test_greeks({"crash": {"delta_shock": 0.5, "vega_shock": -1}, "calm": {}})
    assert (answers["crash"]["stressed_delta"], answers["crash"]["stressed_vega"]) == (1500.0, 0.0)
    assert answers["crash"]["violations"] == ["Portfolio delta 1,500.00 exceeds its limit 1,000.00"]
    assert (answers["calm"]["stressed_delta"], answers["calm"]["violations"]) == (1000.0, [])
    for bad in ({"delta_shock": math.nan}, {"mystery_shock": 1}):
        with pytest.raises(ValueError, match="shock"):
            limiter.stress_test_greeks({"x": bad})
