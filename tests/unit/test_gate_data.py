"""The gate on market data: every reason is told, a stop names its check, only a reducing limit order is let out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.values import Side
from backend.tradingbot.risk.snapshot import FeedSeen, StoppedData
from tests.unit.gate_samples import NOW, QUOTE, answer, order

GATE = "data_quality"
STOP = StoppedData("AAPL", "missing_bars", "bars", NOW - timedelta(minutes=3), "{}")


def aged(seconds):
    return replace(QUOTE, as_of=NOW - timedelta(seconds=seconds))


def test_a_fresh_tick_passes_with_its_age_its_limit_and_what_is_left():
    check = answer(GATE, order(), quote=aged(12))
    assert (check.passed, check.code, check.value, check.limit, check.headroom) == (True, "fresh", "12", "30", "18")


def test_an_open_stop_denies_and_names_check_time_and_the_way_out():
    check = answer(GATE, order(), quote=aged(0), data_stops=(STOP,))
    since = (NOW - timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    assert (check.passed, check.code) == (False, "data_stopped")
    assert check.message == f"AAPL is stopped by missing_bars since {since}"
    assert check.remedy == "see GET data-quality for what releases it, then send a new id"


def test_a_stop_that_only_the_store_knows_denies_too():
    check = answer(GATE, order(), quote=replace(aged(1), stopped_by="price_jump"))
    assert (check.passed, check.code) == (False, "data_stopped")
    assert check.message.endswith("were refused by price_jump")
    both = answer(
        GATE, order(), quote=replace(aged(1), stopped_by="price_jump"), data_stops=(replace(STOP, check="price_jump"),)
    )
    assert both.message.count("price_jump") == 1


def test_every_reason_is_told_the_weightiest_first():
    stops = (STOP, replace(STOP, check="return_outlier"))
    check = answer(GATE, order(), quote=aged(31), data_stops=stops)
    assert check.code == "data_stopped"
    told = [
        check.message.index(part) for part in ("missing_bars", "return_outlier", "is 31.0 s old; the limit is 30 s")
    ]
    assert told == sorted(told)


@pytest.mark.parametrize("seconds, passed", [(-2, True), (-2.001, False)])
def test_a_tick_from_the_future_beyond_the_skew_is_refused(seconds, passed):
    check = answer(GATE, order(), quote=aged(seconds))
    assert (check.passed, check.code) == ((True, "fresh") if passed else (False, "future_tick"))


def test_a_crossed_quote_is_refused_and_a_locked_one_is_not():
    crossed = replace(aged(1), bid=Decimal("10.01"), ask=Decimal("10.00"))
    assert answer(GATE, order(), quote=crossed).code == "crossed_quote"
    assert answer(GATE, order(), quote=replace(crossed, ask=Decimal("10.01"))).passed


@pytest.mark.parametrize("silent, told", [((40, 40), True), ((40, 5), False), ((None, 40), True)])
def test_it_says_when_the_feed_is_silent_and_not_the_stock_alone(silent, told):
    feeds = tuple(
        FeedSeen(f"feed{n}", None if age is None else NOW - timedelta(seconds=age), 30) for n, age in enumerate(silent)
    )
    check = answer(GATE, order(), quote=aged(31), feeds=feeds)
    assert (check.code, "all symbols of its feed are silent (feed0, feed1)" in check.message) == ("stale", told)


@pytest.mark.parametrize(
    "trouble",
    [
        {"quote": None},
        {"quote": aged(31)},
        {"data_stops": (STOP,)},
        {"market_data_error": "no answer"},
        {"quote": replace(aged(1), stopped_by="price_jump")},
    ],
)
def test_only_a_limit_order_that_reduces_is_let_out(trouble):
    held = {"position": Decimal(10), **trouble}
    out = answer(GATE, order(side=Side.SELL, qty="10"), **held)
    assert (out.passed, out.code) == (True, "reduces_risk")
    market = answer(GATE, order(side=Side.SELL, qty="10", limit=None), **held)
    more = answer(GATE, order(side=Side.SELL, qty="11"), **held)
    assert (market.passed, more.passed) == (False, False)
