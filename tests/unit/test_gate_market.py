"""market_hours, volatility_throttle, self_match and reconciliation at their limits; the level of the index."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.core.values import Side, TimeInForce
from backend.tradingbot.risk.snapshot import Block, MarketSession, Resting
from backend.tradingbot.risk.volatility import Level, Thresholds, Volatility, next_level
from tests.unit.gate_samples import NOW, answer, buy, denials, figures, limits, order, sell

CLOSED = MarketSession("XNYS", False, NOW + timedelta(minutes=30), None, False)
WILD = {"volatility_elevated_pct": 50, "volatility_extreme_pct": 25, "volatility_max_age_seconds": 60}


def test_an_open_session_passes_and_a_closed_one_says_when_it_opens() -> None:
    assert figures("market_hours", order())[:2] == (True, "open")
    check = answer("market_hours", order(), session=CLOSED)
    assert (check.passed, check.code) == (False, "market_closed")
    assert "2026-01-05T15:30:00" in check.remedy
    assert figures("market_hours", sell(), session=CLOSED, position=Decimal(10))[:2] == (False, "market_closed")


def test_round_the_clock_needs_no_hours() -> None:
    always = MarketSession("24/7", True, None, None, False)
    assert figures("market_hours", order(), session=always)[:2] == (True, "not_required")


def test_before_the_open_only_limit_orders_that_may_wait_are_taken() -> None:
    at = {"session": CLOSED, "limits": limits(pre_open_minutes=30)}
    assert figures("market_hours", order(), **at)[:3] == (True, "pre_open", "30")
    assert figures("market_hours", order(tif=TimeInForce.GTC), **at)[0] is True
    assert figures("market_hours", order(tif=TimeInForce.IOC), **at)[:2] == (False, "market_closed")
    assert figures("market_hours", order(limit=None), **at)[:2] == (False, "market_closed")
    earlier = {**at, "limits": limits(pre_open_minutes=29)}
    assert figures("market_hours", order(), **earlier)[:2] == (False, "market_closed")


@pytest.mark.parametrize(
    ("asked", "resting", "meets"),
    [
        (order(limit="100"), Resting(Decimal("100.01"), None, 0, 0), False),
        (order(limit="100"), Resting(Decimal(100), None, 0, 0), True),
        (sell(limit="100"), Resting(None, Decimal("99.99"), 0, 0), False),
        (sell(limit="100"), Resting(None, Decimal(100), 0, 0), True),
        (order(limit=None), Resting(Decimal("102.01"), None, 0, 0), True),  # ask 101 and 1 %
        (order(limit=None), Resting(Decimal("102.02"), None, 0, 0), False),
        (sell(limit=None), Resting(None, Decimal("98.01"), 0, 0), True),  # bid 99 less 1 %
        (sell(limit=None), Resting(None, Decimal("98"), 0, 0), False),
        (order(limit="1"), Resting(None, None, 1, 0), True),
        (sell(limit="999"), Resting(None, None, 0, 1), True),
        (order(limit="100"), Resting(None, Decimal(200), 0, 3), False),
    ],
)
def test_an_order_that_could_meet_our_own_is_refused(asked, resting, meets) -> None:
    check = answer("self_match", asked, resting=resting, position=Decimal(10))
    assert check.passed is not meets
    assert check.code == ("would_match_own_order" if meets else check.code)


def test_a_market_order_of_unknown_price_against_an_own_resting_one_is_refused() -> None:
    assert figures("self_match", order(limit=None), quote=None, resting=Resting(Decimal(500), None, 0, 0))[0] is False


def test_a_block_denies_new_risk_and_lets_out() -> None:
    blocks = (Block("account:main", "break 7 of 2026-01-02"),)
    check = answer("reconciliation", order(), blocks=blocks)
    assert (check.passed, check.code, check.message) == (
        False,
        "reconciliation_block",
        "account:main: break 7 of 2026-01-02",
    )
    assert figures("reconciliation", sell(), blocks=blocks, position=Decimal(10))[:2] == (True, "reduces_risk")


def seen(level: Level, value: str, age: float = 0) -> Volatility:
    return Volatility(level, Decimal(value), NOW - timedelta(seconds=age))


@pytest.mark.parametrize(
    ("level", "value", "most"), [(Level.ELEVATED, "25", "50"), (Level.EXTREME, "35", "25"), (Level.CALM, "20", "100")]
)
@pytest.mark.parametrize("side", [buy, sell])
def test_the_largest_order_shrinks_with_the_level(level, value, most, side) -> None:
    at = {"limits": limits(order_qty_max=100, position_short_max=999, **WILD), "cash": Decimal(10**9)}
    assert figures("volatility_throttle", side(most), volatility=seen(level, value), **at)[0] is True
    more = str(Decimal(most) + Decimal("0.1"))
    check = answer("volatility_throttle", side(more), volatility=seen(level, value), **at)
    assert (check.passed, check.code) == ((True, "calm") if level is Level.CALM else (False, "throttled"))


def test_the_value_of_an_order_is_throttled_as_its_quantity_is() -> None:
    at = {"limits": limits(order_notional_max=2000, **WILD), "volatility": seen(Level.ELEVATED, "26")}
    assert figures("volatility_throttle", order(qty="10"), **at)[0] is True
    assert figures("volatility_throttle", order(qty="10.01"), **at)[:3] == (False, "throttled", "1001")


def test_a_critical_index_stops_new_risk_and_lets_out() -> None:
    at = {"limits": limits(**WILD), "volatility": seen(Level.CRITICAL, "45"), "position": Decimal(10)}
    assert figures("volatility_throttle", order(qty="0.1"), **at)[:2] == (False, "volatility_critical")
    assert figures("volatility_throttle", sell(), **at)[:2] == (True, "reduces_risk")


def test_an_index_never_seen_or_too_old_denies() -> None:
    at = {"limits": limits(**WILD)}
    assert figures("volatility_throttle", order(), volatility=None, **at)[:2] == (False, "volatility_unknown")
    assert figures("volatility_throttle", order(), volatility=seen(Level.CALM, "20", 60), **at)[0] is True
    late = seen(Level.CALM, "20", 60.001)
    assert figures("volatility_throttle", order(), volatility=late, **at)[:2] == (False, "volatility_stale")


def test_an_account_that_does_not_use_the_throttle_is_not_held_by_it() -> None:
    assert figures("volatility_throttle", order(), volatility=seen(Level.CRITICAL, "80"))[:2] == (True, "not_required")


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        (Level.CALM, "24.99", Level.CALM),
        (Level.CALM, "25", Level.ELEVATED),
        (Level.CALM, "35", Level.EXTREME),
        (Level.CALM, "45", Level.CRITICAL),
        (Level.ELEVATED, "22.5", Level.ELEVATED),
        (Level.ELEVATED, "22.49", Level.CALM),
        (Level.EXTREME, "31.5", Level.EXTREME),
        (Level.EXTREME, "31.49", Level.ELEVATED),
        (Level.EXTREME, "10", Level.CALM),
        (Level.CRITICAL, "40.5", Level.CRITICAL),
        (Level.CRITICAL, "40.49", Level.EXTREME),
        (Level.ELEVATED, "44.99", Level.EXTREME),
    ],
)
def test_a_level_rises_at_its_threshold_and_falls_below_nine_tenths_of_it(before, value, after) -> None:
    assert next_level(before, Decimal(value)) is after


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "0", "-1"])
def test_a_reading_that_is_no_index_is_refused(bad) -> None:
    with pytest.raises(InvalidInputError):
        next_level(Level.CALM, Decimal(bad))
    with pytest.raises(InvalidInputError):
        Thresholds(elevated=Decimal(bad))


def test_a_sell_of_the_other_symbol_is_still_restricted() -> None:
    assert denials(order(Side.SELL, symbol="TSLA"), position=Decimal(10)) == {"restricted_symbol": "symbol_not_allowed"}
