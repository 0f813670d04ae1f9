"""Marking to market: what trips, what only denies, and when a day starts."""

from datetime import date
from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.values import OrderIntent, OrderType, Side, TimeInForce
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Breaker, BreakerEvent, Position, RiskRow
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.marking import mark_account, mark_holders
from backend.tradingbot.services.orders import check_order

pytestmark = pytest.mark.django_db(transaction=False)
SCOPE = "account:marked"


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def account(clock):
    create_strategy(code="plain", mode="live")
    return create_account(
        code="marked", cash=Decimal(100_000), broker_account="PA-MARKED", symbols=["MARK"], clock=clock
    )


def hold(account, price, clock):
    """400 shares bought at 100, so the account is worth 60000 + 400 x ``price``."""
    Position.objects.update_or_create(account=account, symbol="MARK", defaults={"qty": 400, "avg_price": 100})
    RiskRow.objects.filter(pk=SCOPE).update(cash=60_000)
    tick(price, clock)


def tick(price, clock):
    row = {"price": str(price), "bid": None, "ask": None, "as_of": clock.now().isoformat()}
    hot_state().store([("MARK", row)])


def breaker_check(clock, side=Side.BUY):
    intent = OrderIntent(
        account="marked",
        strategy="plain",
        client_order_id="marking-1",
        symbol="MARK",
        side=side,
        qty=Decimal(1),
        type=OrderType.LIMIT,
        limit_price=Decimal(100),
        time_in_force=TimeInForce.DAY,
    )
    checks = check_order(intent, clock=clock).checks
    return next(check for check in checks if check.gate == "circuit_breaker")


def test_a_new_account_is_evaluated_at_once(account, clock):
    row = Breaker.objects.get(scope=SCOPE)
    assert (row.session, row.evaluated_at) == (date(2026, 1, 5), clock.now())
    assert row.state["start_equity"] == "100000"
    assert breaker_check(clock).code == "closed"


def test_a_drawdown_of_exactly_the_limit_trips(account, clock):
    hold(account, 85, clock)
    assert mark_account(account, clock=clock) == Decimal(94_000)
    assert Breaker.objects.get(scope=SCOPE).reason == "daily-dd-0.060"
    assert BreakerEvent.objects.get().kind == "breaker_trip"
    assert breaker_check(clock).code == "circuit_open"


def test_an_equity_just_above_the_limit_does_not_trip(account, clock):
    hold(account, "85.0001", clock)
    assert mark_account(account, clock=clock) == Decimal("94000.04")
    assert Breaker.objects.get(scope=SCOPE).tripped_at is None
    assert breaker_check(clock).code == "closed"


def test_a_held_symbol_without_a_fresh_mark_denies_and_does_not_trip(account, clock):
    hold(account, 1, clock)
    clock.advance(61)
    assert mark_account(account, clock=clock) is None
    assert Breaker.objects.get(scope=SCOPE).tripped_at is None
    assert (breaker_check(clock).passed, breaker_check(clock).code) == (False, "equity_unknown")
    assert breaker_check(clock, Side.SELL).code == "reduces_risk"


def test_a_mark_as_old_as_the_limit_still_counts(account, clock):
    hold(account, 100, clock)
    clock.advance(60)
    assert mark_account(account, clock=clock) == Decimal(100_000)


def test_unknown_cash_makes_equity_unknown(account, clock):
    RiskRow.objects.filter(pk=SCOPE).update(cash=None)
    assert mark_account(account, clock=clock) is None
    assert breaker_check(clock).code == "equity_unknown"


def test_a_breaker_that_was_never_evaluated_denies(account, clock):
    Breaker.objects.filter(scope=SCOPE).update(evaluated_at=None)
    assert (breaker_check(clock).passed, breaker_check(clock).code) == (False, "breaker_unevaluated")


def test_a_breaker_not_evaluated_for_more_than_three_intervals_denies(account, clock):
    clock.advance(15)
    assert breaker_check(clock).code == "closed"
    clock.advance(0.1)
    assert (breaker_check(clock).passed, breaker_check(clock).code) == (False, "breaker_unevaluated")


def test_the_first_mark_of_a_new_york_day_starts_it(account, clock):
    clock.advance(14 * 3600 - 1)  # 23:59:59 in New York
    hold(account, 95, clock)
    mark_account(account, clock=clock)
    assert Breaker.objects.get(scope=SCOPE).state["start_equity"] == "100000"
    clock.advance(1)
    mark_account(account, clock=clock)
    row = Breaker.objects.get(scope=SCOPE)
    assert (row.session, row.state["start_equity"]) == (date(2026, 1, 6), "98000")


def test_a_tick_marks_the_accounts_that_hold_its_symbol(account, clock):
    hold(account, 99, clock)
    mark_holders(["OTHER"], clock=clock)
    assert RiskRow.objects.get(pk=SCOPE).equity == Decimal(100_000)
    mark_holders(["MARK"], clock=clock)
    assert RiskRow.objects.get(pk=SCOPE).equity == Decimal(99_600)
