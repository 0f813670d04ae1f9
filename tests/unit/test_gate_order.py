"""order_size, price_collar, order_rate, duplicate_intent, repeated_execution: at their limits and one step beyond."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.values import Side
from backend.tradingbot.risk.gates import Quote
from backend.tradingbot.risk.limits import Limit
from backend.tradingbot.risk.snapshot import Ramp, Rates, Recent
from tests.unit.gate_samples import (
    CALM_SECOND,
    NOW,
    OPTION,
    QUOTE,
    answer,
    denials,
    figures,
    limits,
    option_unit,
    order,
    permit_for,
    rates,
    sell,
)

RICH = {"cash": Decimal(10**9), "book_equity": Decimal(10**9)}
HELD = {"position": Decimal(100_000), **RICH}


@pytest.mark.parametrize("asked", [order(qty="10"), sell("10")], ids=["buy", "sell"])
def test_a_quantity_at_the_limit_passes_and_one_step_more_does_not(asked) -> None:
    at = {"limits": limits(order_qty_max=10), **HELD}
    more = replace(asked, qty=asked.qty + Decimal("0.000000001"))
    assert figures("order_size", asked, **at) == (True, "within_limit", "10", "10", "0")
    assert figures("order_size", more, **at)[:2] == (False, "quantity_too_large")


def test_a_limit_purchase_is_valued_at_its_limit_price() -> None:
    at = {"limits": limits(order_notional_max=1000), **RICH}
    assert figures("order_size", order(qty="10", limit="100"), **at) == (True, "within_limit", "1000", "1000", "0")
    assert figures("order_size", order(qty="10", limit="100.01"), **at) == (
        False,
        "notional_too_large",
        "1000.1",
        "1000",
        "-0.1",
    )


def test_a_market_purchase_is_valued_at_the_touch_plus_the_collar() -> None:
    at = {"limits": limits(order_notional_max="1020.1"), **RICH}
    assert figures("order_size", order(qty="10", limit=None), **at)[:3] == (True, "within_limit", "1020.1")
    beyond = {**at, "limits": limits(order_notional_max="1020.09")}
    assert figures("order_size", order(qty="10", limit=None), **beyond)[:2] == (False, "notional_too_large")


def test_a_sale_is_valued_at_the_most_it_may_bring_and_not_at_its_low_limit() -> None:
    at = {"limits": limits(order_notional_max=1000, price_collar_sell_bps=10_000), **HELD}
    assert figures("order_size", sell("10", "1"), **at)[2] == "1000"
    assert figures("order_size", sell("10", "150"), **at)[:3] == (False, "notional_too_large", "1500")
    assert figures("order_size", sell("10", None), **at)[2] == "1000"


def test_an_option_is_valued_with_its_multiplier() -> None:
    asked = order(qty="10", limit="5", symbol=OPTION)
    quote = Quote(Decimal(5), NOW, Decimal("4.9"), Decimal("5.1"))
    assert answer("order_size", asked, unit=option_unit(), quote=quote, **RICH).value == "5000"


def test_a_market_order_without_a_quote_is_not_skipped() -> None:
    assert figures("order_size", order(limit=None), quote=None)[:2] == (False, "unpriced")


def test_the_tightest_of_all_scopes_decides_and_is_named() -> None:
    values = {"firm": 50, "strategy:trend": 20, "symbol:AAPL": 30, "strategy:trend/symbol:AAPL": 7}
    rows = tuple(Limit(scope, "order_qty_max", Decimal(value), 1) for scope, value in values.items())
    at = {"limits": limits(order_qty_max=40, elsewhere=rows), **RICH}
    assert figures("order_size", order(qty="7"), **at)[0] is True
    check = answer("order_size", order(qty="8"), **at)
    assert (check.passed, check.limit) == (False, "7")
    assert "order_qty_max of strategy:trend/symbol:AAPL" in check.message


def test_the_flatten_service_may_close_a_position_of_any_size() -> None:
    at = {"limits": limits(order_qty_max=1), "position": Decimal(50), **RICH}
    assert figures("order_size", sell("50"), **at)[:2] == (False, "quantity_too_large")
    assert figures("order_size", sell("50"), flattening=True, **at)[:2] == (True, "flattening")
    assert figures("order_size", order(qty="50"), flattening=True, **at)[:2] == (False, "quantity_too_large")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (order(limit="105"), None),  # 5 % through the last price, 3.96 % through the ask
        (order(limit="105.01"), "too_aggressive"),
        (sell(limit="95"), None),
        (sell(limit="94.99"), "too_aggressive"),
        (order(limit="50"), None),
        (order(limit="49.99"), "too_far_away"),
        (sell(limit="150"), None),
        (sell(limit="150.01"), "too_far_away"),
    ],
)
def test_a_price_at_the_collar_passes_and_a_cent_beyond_does_not_on_either_side(asked, code) -> None:
    at = {"position": Decimal(5), "limits": limits(position_short_max=100), **RICH}
    passed, found, *_ = figures("price_collar", asked, **at)
    assert (passed, found) == (code is None, code or "within_limit")


@pytest.mark.parametrize(("asked", "quote"), [(order(limit="104.10"), "98"), (sell(limit="95.90"), "102")])
def test_the_touch_binds_as_well_as_the_last_price(asked, quote) -> None:
    bid, ask = (Decimal(quote), Decimal(quote) + 1) if asked.side is Side.SELL else (Decimal(quote) - 1, Decimal(quote))
    crossed = Quote(Decimal(100), NOW, bid, ask)
    check = answer("price_collar", asked, quote=crossed, limits=limits(position_short_max=100), **RICH)
    assert (check.passed, check.code) == (False, "too_aggressive")
    assert "touch" in check.message and "last price" not in check.message


def test_buys_and_sells_have_collars_of_their_own() -> None:
    at = {"limits": limits(price_collar_buy_bps=100, price_collar_sell_bps=1000, position_short_max=100), **RICH}
    assert figures("price_collar", order(limit="102.02"), **at)[0] is False
    assert figures("price_collar", sell(limit="90"), **at)[0] is True


def test_a_market_order_is_held_to_the_collar_at_its_reserved_price() -> None:
    wide = Quote(Decimal(100), NOW, Decimal(90), Decimal(110))
    check = answer("price_collar", order(limit=None), quote=wide, **RICH)
    assert (check.code, check.value) == ("too_aggressive", "1110")  # 110 plus 1 % against a last price of 100


def test_without_a_fresh_quote_a_reducing_limit_order_passes_the_collar_and_a_market_order_does_not() -> None:
    stale = replace(QUOTE, as_of=NOW - timedelta(seconds=31))
    held = {"position": Decimal(10)}
    assert figures("price_collar", sell(limit="1"), quote=stale, **held)[:2] == (True, "reduces_risk")
    assert figures("price_collar", sell(limit="1"), quote=None, **held)[:2] == (True, "reduces_risk")
    assert figures("price_collar", sell(limit=None), quote=None, **held)[:2] == (False, "no_reference")
    assert figures("price_collar", order(limit="1"), quote=None, **held)[:2] == (False, "no_reference")


def test_a_reference_that_is_no_price_denies() -> None:
    for bad in ("NaN", "0", "-1", "Infinity"):
        assert answer("price_collar", order(), quote=Quote(Decimal(bad), NOW)).passed is False


@pytest.mark.parametrize("whose", ["key", "strategy", "account"])
def test_the_last_order_of_a_minute_passes_and_the_next_says_when_to_retry(whose) -> None:
    at = {"limits": limits(**{f"order_rate_{whose}_per_min": 5})}
    assert figures("order_rate", order(), rates=rates(**{whose: 5}), **at) == (True, "within_limit", "5", "5", "0")
    check = answer("order_rate", order(), rates=rates(**{whose: 6}), **at)
    assert (check.passed, check.code, check.headroom) == (False, "rate_exceeded", "-1")
    assert check.remedy == "retry in 61 s with a new id; cancels are never held back"


def test_the_wait_ends_when_enough_of_the_oldest_orders_have_left_the_window() -> None:
    seconds = ((CALM_SECOND - 50, 2), (CALM_SECOND - 10, 3), (CALM_SECOND, 1))
    seen = Rates(Decimal(CALM_SECOND), seconds, (), ())
    check = answer("order_rate", order(), rates=seen, limits=limits(order_rate_key_per_min=5))
    assert check.remedy.startswith("retry in 11 s")
    check = answer("order_rate", order(), rates=seen, limits=limits(order_rate_key_per_min=3))
    assert check.remedy.startswith("retry in 51 s")


def test_orders_that_reduce_have_a_bucket_of_their_own_and_need_no_store() -> None:
    held = {"position": Decimal(10), "rates": None, "limits": limits(reducing_rate_account_per_min=3)}
    assert figures("order_rate", sell(), recent=Recent(0, 0, 2, None), **held)[:3] == (True, "within_limit", "3")
    assert figures("order_rate", sell(), recent=Recent(0, 0, 3, None), **held)[:3] == (False, "rate_exceeded", "4")
    assert figures("order_rate", order(), **held)[:2] == (False, "rate_unknown")


@pytest.mark.parametrize("asked", [order(), sell()], ids=["buy", "sell"])
def test_the_last_equal_order_of_a_window_passes_and_the_next_does_not(asked) -> None:
    at = {"limits": limits(duplicate_orders_max=3), "position": Decimal(100)}
    assert figures("duplicate_intent", asked, recent=Recent(2, 0, 0, None), **at)[:3] == (True, "within_limit", "3")
    assert figures("duplicate_intent", asked, recent=Recent(3, 0, 0, None), **at)[:3] == (False, "duplicate", "4")


def test_a_count_without_its_window_denies() -> None:
    windows = {"duplicate_window_seconds": "duplicate_intent", "repeat_window_seconds": "repeated_execution"}
    for kind, gate in windows.items():
        assert figures(gate, order(), limits=limits(**{kind: None}))[:2] == (False, "limit_missing")


@pytest.mark.parametrize("asked", [order(), sell()], ids=["buy", "sell"])
def test_a_pattern_that_repeats_too_often_is_refused_and_stays_refused_while_it_is_disabled(asked) -> None:
    at = {"limits": limits(repeat_orders_max=4), "position": Decimal(100)}
    assert figures("repeated_execution", asked, recent=Recent(0, 3, 0, None), **at)[:3] == (True, "within_limit", "4")
    assert figures("repeated_execution", asked, recent=Recent(0, 4, 0, None), **at)[:2] == (False, "repeats_exceeded")
    disabled = Recent(0, 0, 0, "came 5 times")
    assert figures("repeated_execution", asked, recent=disabled, **at)[:2] == (False, "pattern_disabled")
    unlimited = {**at, "limits": limits(repeat_orders_max=None, repeat_window_seconds=None)}
    assert figures("repeated_execution", asked, recent=disabled, **unlimited)[:2] == (False, "pattern_disabled")


PERMITTED = order(qty="10", limit="120", permit_id="permit-1")
TOO_MUCH = {"recent": Recent(1, 0, 0, None), "cash": Decimal(10**6)}
TIGHT = {"limits": limits(order_qty_max=5, duplicate_orders_max=1), **TOO_MUCH}


def test_a_permit_overrides_size_collar_and_duplicates_of_its_one_order() -> None:
    assert denials(replace(PERMITTED, permit_id=None), **TIGHT) == {
        "order_size": "quantity_too_large",
        "price_collar": "too_aggressive",
        "duplicate_intent": "duplicate",
    }
    assert denials(PERMITTED, permit=permit_for(PERMITTED), **TIGHT) == {}
    check = answer("order_size", PERMITTED, permit=permit_for(PERMITTED), **TIGHT)
    assert (check.code, check.limit) == ("permit", "5")
    assert check.message.endswith("allowed by permit permit-1 of risk officer")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"account": "other"}, "is for another order"),
        ({"strategy": "other"}, "is for another order"),
        ({"symbol": "MSFT"}, "is for another order"),
        ({"side": "sell"}, "is for another order"),
        ({"qty": Decimal("10.1")}, "is for another order"),
        ({"limit_price": Decimal("119.99")}, "is for another order"),
        ({"limit_price": None}, "is for another order"),
        ({"used": True}, "was used"),
        ({"expires_at": NOW}, "has expired"),
    ],
)
def test_a_permit_that_does_not_fit_exactly_overrides_nothing(changes, says) -> None:
    permit = permit_for(PERMITTED, **changes)
    assert set(denials(PERMITTED, permit=permit, **TIGHT)) == {"order_size", "price_collar", "duplicate_intent"}
    assert says in answer("order_size", PERMITTED, permit=permit, **TIGHT).message


def test_a_permit_that_is_not_there_is_said_so() -> None:
    assert "there is no permit permit-1" in answer("order_size", PERMITTED, permit=None, **TIGHT).message


def test_a_permit_overrides_no_other_gate_and_nothing_unknown() -> None:
    asked = order(qty="10", limit=None, permit_id="permit-1")
    refused = denials(asked, permit=permit_for(asked), quote=None, symbols=frozenset(), doubtful_orders=1)
    assert set(refused) >= {"order_size", "price_collar", "data_quality", "restricted_symbol", "in_doubt"}


RESET = Ramp("account:main", NOW - timedelta(seconds=450), Decimal(900), Decimal(25))


def test_after_a_reset_the_largest_order_is_a_share_of_its_limit_that_rises() -> None:
    at = {"limits": limits(order_qty_max=100), "ramps": (RESET,), **HELD}
    assert figures("order_size", order(qty="62.5"), **at) == (True, "within_ramp", "62.5", "62.5", "0")
    more = answer("order_size", order(qty="62.6"), **at)
    assert (more.passed, more.code, more.limit, more.headroom) == (False, "ramp_after_reset", "62.5", "-0.1")
    assert more.message.startswith("account:main was reset at 2026-01-05T14:52:30.000000Z, 62.5 % of the size is left")
    assert more.remedy.endswith("is allowed again from 2026-01-05T15:07:30.000000Z")
    over = replace(RESET, reset_at=NOW - timedelta(seconds=900))
    assert figures("order_size", order(qty="100"), **{**at, "ramps": (over,)})[:2] == (True, "within_limit")
    both = {**at, "ramps": (RESET, replace(RESET, scope="firm", reset_at=NOW))}
    assert figures("order_size", order(qty="26"), **both)[:4] == (False, "ramp_after_reset", "26", "25")


def test_a_ramp_holds_the_value_as_well_and_lets_reductions_out() -> None:
    at = {"limits": limits(order_notional_max=1000), "ramps": (RESET,), **HELD}
    assert figures("order_size", order(qty="6.25"), **at)[:4] == (True, "within_ramp", "625", "625")
    assert figures("order_size", order(qty="6.26"), **at)[:2] == (False, "ramp_after_reset")
    assert figures("order_size", sell("10"), **at)[:2] == (True, "within_limit")


def test_a_ramp_without_a_size_to_be_a_share_of_denies() -> None:
    bare = replace(limits(order_qty_max=None, order_notional_max=None), required=())
    calm = {"limits": bare, **HELD}
    assert figures("order_size", order(), **calm)[:2] == (True, "not_required")
    assert figures("order_size", order(), **calm, ramps=(RESET,))[:2] == (False, "limit_missing")
    assert figures("order_size", sell(), **calm, ramps=(RESET,))[:2] == (True, "not_required")
