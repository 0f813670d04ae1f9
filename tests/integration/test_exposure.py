"""Exposure runs along with orders and executions, and can always be proved against positions and open orders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK, SystemClock
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import (
    Account,
    AccountExposure,
    NameExposure,
    Position,
    RiskRow,
    SharedHeadroom,
    StrategyExposure,
    VolatilityLevel,
)
from backend.tradingbot.services import fills
from backend.tradingbot.services.limits import set_limit
from backend.tradingbot.services.revaluation import revalue, unproven, unproven_headroom
from backend.tradingbot.services.volatility import observe_volatility

pytestmark = pytest.mark.django_db(transaction=True)
OPTION = "AAPL301220C00100000"


def poll_until(gateway, name, status, tries=200):
    account = Account.objects.get(code="main")
    for _ in range(tries):
        fills.poll_account(account, clock=SystemClock())
        if gateway.read(name)["status"] == status:
            return
    raise AssertionError(f"{name} is {gateway.read(name)['status']}")


def gross():
    return AccountExposure.objects.get().gross


def holds():
    account = Account.objects.get(code="main")
    return (unproven(account), unproven_headroom())


def reserved():
    return {row.scope: row.reserved for row in SharedHeadroom.objects.exclude(reserved=0)}


def everywhere(value):
    return dict.fromkeys(("firm", "strategy:mean", "symbol:AAPL", "strategy:mean/symbol:AAPL"), Decimal(value))


def test_an_open_order_takes_its_part_and_a_cancel_gives_it_back(gateway, broker):
    gateway.tick()
    gateway.order("rest", type="limit", limit_price="90.00")
    assert (gross(), reserved(), holds()) == (500, everywhere(500), ([], []))
    gateway.call("DELETE", f"orders/{gateway.prefix}-rest?account=main")
    poll_until(gateway, "rest", "canceled")
    assert (gross(), reserved(), holds()) == (0, {}, ([], []))


def test_an_execution_moves_what_was_open_into_the_position(gateway, broker):
    gateway.tick()
    gateway.order("a")
    assert gross() == 500
    poll_until(gateway, "a", "filled")
    assert (gross(), reserved(), holds()) == (500, everywhere(500), ([], []))
    assert StrategyExposure.objects.get().position == 5
    gateway.order("b", side="sell", qty="2")
    assert gross() == 500  # the sale may not fill
    poll_until(gateway, "b", "filled")
    assert (gross(), reserved(), holds()) == (300, everywhere(300), ([], []))


def test_a_denied_and_a_rejected_order_leave_nothing_behind(gateway, broker):
    gateway.tick()
    gateway.order("a", symbol="TSLA")
    assert (gross(), reserved()) == (0, {})
    broker.fault("reject")
    answer = gateway.order("b")
    broker.heal()
    assert answer.status_code == 422
    assert (gross(), reserved(), holds()) == (0, {}, ([], []))


def test_an_order_in_doubt_keeps_its_part(gateway, broker):
    gateway.tick()
    broker.fault("drop_after_accept")
    assert gateway.order("lost", type="limit", limit_price="90.00").status_code == 202
    assert (gross(), reserved(), holds()) == (500, everywhere(500), ([], []))


def test_a_revaluation_takes_todays_price_and_mends_what_was_missed(gateway, broker):
    gateway.tick()
    gateway.order("a")
    poll_until(gateway, "a", "filled")
    gateway.tick(price="120.00")
    account = Account.objects.get(code="main")
    revalue(account, clock=SYSTEM_CLOCK)
    assert (gross(), reserved(), holds()) == (600, everywhere(600), ([], []))
    Position.objects.update(qty=7)  # as if an execution had never been followed
    AccountExposure.objects.update(gross=1)
    assert unproven(account) == ["AAPL should be 840", "the sums are 1, should be 840"]
    revalue(account, clock=SYSTEM_CLOCK)
    assert (gross(), unproven(account)) == (840, [])


def test_a_share_that_hardly_moved_is_not_written_again(gateway, broker):
    gateway.tick()
    gateway.order("a")
    gateway.tick(price="100.50")
    revalue(Account.objects.get(code="main"), clock=SYSTEM_CLOCK)
    assert gross() == 500
    gateway.tick(price="100.51")
    revalue(Account.objects.get(code="main"), clock=SYSTEM_CLOCK)
    assert gross() == Decimal("502.55")


@pytest.fixture
def options(gateway, broker):
    """The account may trade one call, and its key may feed it."""
    from backend.tradingbot.models import ApiKey

    hot_state()._redis.flushdb()
    Account.objects.update(symbols=["AAPL", OPTION])
    ApiKey.objects.filter(name="trader").update(feed_symbols=["AAPL", OPTION])
    gateway.tick()
    RiskRow.objects.filter(pk="account:main").update(cash=1_000_000, equity=1_000_000)
    tick = {"symbol": OPTION, "price": "25.00", "bid": "24.95", "ask": "25.05", "time": datetime.now(UTC).isoformat()}
    assert gateway.call("POST", "market-data/ticks", {"ticks": [tick]}).json()["refused"] == []
    return gateway


GREEKS = {"symbol": OPTION, "delta": "0.5", "gamma": "0.02", "theta": "-0.03", "vega": "0.1"}


def put_greeks(gateway, *rows, token=None):
    return gateway.call("PUT", "accounts/main/greeks", {"greeks": list(rows)}, token=token)


def check(gateway, name, gate, **changes):
    answer = gateway.call("POST", "orders/check", gateway.body(name, **changes)).json()
    return next(check for check in answer["checks"] if check["gate"] == gate)


def place_call(gateway, broker):
    """The answer is lost and the order is in doubt, which keeps its part like any open one."""
    broker.fault("drop_before")
    assert gateway.order("a", **call()).status_code == 202
    broker.heal()


def call(**changes):
    return {"symbol": OPTION, "qty": "1", "type": "limit", "limit_price": "25.00", **changes}


def test_greeks_from_the_feed_make_an_option_count_with_its_multiplier(options, broker):
    assert put_greeks(options, GREEKS).json() == {"accepted": 1}
    place_call(options, broker)
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 2_500
    row = NameExposure.objects.get(symbol=OPTION)
    assert (row.unit["source"], row.gross, row.high[1]) == ("feed", 10_000, 50)
    assert holds() == ([], [])


def test_without_greeks_the_options_own_quote_gives_them(options, broker):
    answer = check(options, "a", "greek_exposure", **call())
    assert answer["passed"] is True, answer
    place_call(options, broker)
    assert NameExposure.objects.get(symbol=OPTION).unit["source"] == "computed"


def test_without_a_usable_quote_greeks_must_be_sent_or_the_order_is_denied(options):
    hot_state().forget(OPTION)
    denied = check(options, "a", "greek_exposure", **call())
    assert (denied["passed"], denied["code"]) == (False, "greeks_missing")
    sent = {name: value for name, value in GREEKS.items() if name != "symbol"}
    assert check(options, "a", "greek_exposure", **call(), greeks=sent)["passed"] is True


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({**GREEKS, "delta": "1.1"}, "delta"),
        ({**GREEKS, "gamma": "-0.1"}, "gamma"),
        ({**GREEKS, "vega": "NaN"}, "vega"),
        ({**GREEKS, "symbol": "MSFT"}, "symbol"),
        ({**GREEKS, "iv": "0"}, "iv"),
        ({**GREEKS, "qty": "5"}, "greeks[0]"),
        ({"symbol": OPTION, "delta": "0.5"}, "greeks[0]"),
        ({**GREEKS, "time": "2999-01-01T00:00:00Z"}, "time"),
    ],
)
def test_greeks_that_no_option_could_have_are_refused_and_nothing_is_taken(options, row, field):
    answer = put_greeks(options, {**GREEKS, "symbol": "AAPL"}, row)
    assert answer.status_code == 400
    assert any(error["field"].endswith(field.replace("[0]", "[1]")) for error in answer.json()["errors"])
    assert NameExposure.objects.filter(supplied_at__isnull=False).count() == 0


def test_only_a_key_that_feeds_may_supply_greeks(options):
    assert put_greeks(options, GREEKS, token=options.risk).json()["code"] == "capability_missing"


def test_old_greeks_of_a_held_option_deny_new_risk(options, broker):
    old = datetime.now(UTC) - timedelta(seconds=901)
    put_greeks(options, GREEKS)
    place_call(options, broker)
    assert AccountExposure.objects.get().oldest_greeks == NameExposure.objects.get(symbol=OPTION).supplied_at
    AccountExposure.objects.update(oldest_greeks=old)
    denied = check(options, "b", "greek_exposure")
    assert (denied["passed"], denied["code"]) == (False, "greeks_stale")


def test_utilisation_shows_what_is_used_of_every_limit(options, broker):
    put_greeks(options, {**GREEKS, "iv": "0.3"})
    place_call(options, broker)
    assert options.order("b", type="limit", limit_price="90.00").status_code == 201
    options.call("DELETE", f"orders/{options.prefix}-b?account=main")
    set_limit("firm", "gross_exposure_max", Decimal(21_000), actor="t", reason="cap", clock=SYSTEM_CLOCK)
    shown = options.call("GET", "accounts/main/exposure").json()
    assert shown["portfolio"]["gross"] == {"value": "10500", "limit": "1000000", "used": "0.0105"}
    assert shown["portfolio"]["delta"]["high"] == "55"
    assert shown["portfolio"]["theta"]["used"] == "0.003"
    assert {row["symbol"]: row["source"] for row in shown["names"]} == {OPTION: "feed", "AAPL": "share"}
    assert (shown["rates"]["orders"]["value"], shown["rates"]["cancels"]) == (
        "2",
        {"value": "1", "limit": None, "used": None},
    )
    set_limit("firm", "portfolio_delta_max", Decimal(110), actor="t", reason="cap", clock=SYSTEM_CLOCK)
    shown = options.call("GET", "accounts/main/exposure").json()
    assert shown["headroom"] == [
        {"scope": "firm", "kind": "gross_exposure_max", "value": "10500", "limit": "21000", "used": "0.5"},
        {"scope": "firm", "kind": "portfolio_delta_max", "value": "55", "limit": "110", "used": "0.5"},
    ]
    assert len(shown["stress"]["cells"]) == 42
    assert shown["stress"]["worst"]["cell"].startswith("spot-20%")
    other = options.call("GET", "accounts/other/exposure")
    assert (other.status_code, other.json()["code"]) == (403, "not_your_account")


def test_a_key_of_another_strategy_takes_from_the_same_headroom_and_gives_it_back(gateway, broker):
    set_limit("symbol:AAPL", "gross_exposure_max", Decimal(600), actor="t", reason="cap", clock=SYSTEM_CLOCK)
    gateway.tick()
    assert gateway.order("a", type="limit", limit_price="90.00").status_code == 201
    denied = gateway.order("b", qty="2", type="limit", limit_price="90.00")
    assert "gross_exposure_max of symbol:AAPL" in denied.json()["detail"]
    assert gateway.order("c", qty="1", type="limit", limit_price="90.00").status_code == 201
    gateway.call("DELETE", f"orders/{gateway.prefix}-a?account=main")
    poll_until(gateway, "a", "canceled")
    assert gateway.order("d", qty="5", type="limit", limit_price="90.00").status_code == 201


def test_the_volatility_index_moves_its_level_and_only_critical_trips_the_firm(gateway, broker):
    from backend.tradingbot.models import ApiKey, Breaker, JournalEntry

    ApiKey.objects.filter(name="trader").update(feed_symbols=["AAPL", "VIX"])
    for price, level in (("20", "calm"), ("26", "elevated"), ("23", "elevated"), ("36", "extreme"), ("22", "calm")):
        gateway.tick("VIX", price)
        gateway.tick("VIX", price)  # a jump counts once it is confirmed
        assert VolatilityLevel.objects.get().level == level
    assert Breaker.objects.get(scope="firm").tripped_at is None
    gateway.tick("VIX", "45")
    gateway.tick("VIX", "45")
    assert Breaker.objects.get(scope="firm").reason == "vix-critical"
    gateway.tick()
    denied = gateway.order("a")
    assert "firm: vix-critical" in denied.json()["detail"]
    told = JournalEntry.objects.filter(kind="volatility_level").order_by("seq")
    assert [entry.data["after"] for entry in told] == ["elevated", "extreme", "calm", "critical"]


def test_a_reading_older_than_the_last_changes_nothing(db):
    now = datetime.now(UTC)
    from backend.tradingbot.services.accounts import ensure_firm

    ensure_firm()
    tick = {"VIX": {"price": "26", "as_of": now.isoformat()}}
    assert observe_volatility(tick, clock=SYSTEM_CLOCK) == "elevated"
    older = {"VIX": {"price": "10", "as_of": (now - timedelta(seconds=1)).isoformat()}}
    assert observe_volatility(older, clock=SYSTEM_CLOCK) == "elevated"
    assert observe_volatility({"AAPL": {"price": "1", "as_of": now.isoformat()}}, clock=SYSTEM_CLOCK) is None


def test_the_store_counts_an_order_once_and_a_look_counts_nothing():
    hot, now = hot_state(), Decimal("1000000.5")
    windows = ("key:k", "strategy:s", "account:a")

    def look(order, at, consume):
        return [
            sum(count for _, count in window)
            for window in hot.market(["X"], windows, order, at, consume=consume).windows
        ]

    hot._redis.flushdb()
    assert look("a:1", now, False) == [1, 1, 1]
    assert hot._redis.dbsize() == 0
    assert look("a:1", now, True) == [1, 1, 1]
    assert look("a:1", now, True) == [1, 1, 1]  # a replay
    assert look("a:2", now + 30, True) == [2, 2, 2]
    assert look("a:3", now + 60, False) == [3, 3, 3]
    assert look("a:3", now + 61, False) == [2, 2, 2]
    assert hot.counted("account:a", now + 60) == 2
    assert hot.counted("account:a", now + 61) == 1
