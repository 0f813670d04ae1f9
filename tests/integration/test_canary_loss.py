"""A canary's loss is the session's: what was carried overnight counts from the price that the one before ended with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Account, CanaryDay, Execution, StrategyBuild
from backend.tradingbot.services import mode_watch
from backend.tradingbot.services.canary_loss import measure_losses
from backend.tradingbot.services.fills import poll_account
from tests.integration.conftest import Broker, Gateway
from tests.integration.test_modes import set_mode

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)


class Days:
    """The clock of the watch, which goes ahead of the real one by whole days."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.clock = gateway, FixedClock(datetime.now(UTC))

    def watch(self, price: str) -> int:
        self.gateway.tick(price=price)
        return mode_watch.watch(clock=self.clock)

    def loss(self) -> Decimal:
        return CanaryDay.objects.get(session=session_date(self.clock.now(), "24/7")).loss

    def fills(self) -> None:
        poll_account(Account.objects.get(code="main"), clock=self.clock)


@pytest.fixture
def days(gateway: Gateway, broker: Broker) -> Days:
    set_mode("canary", allocation=Decimal(1), max_loss=Decimal(20))
    gateway.tick()
    gateway.order("in", qty="10")
    found = Days(gateway)
    found.fills()
    assert Execution.objects.get().price == 100
    return found


def test_a_gain_of_yesterday_does_not_pay_for_a_loss_of_today(days: Days) -> None:
    assert days.watch("105.00") == 0
    days.clock.advance(86_400)
    assert (days.watch("104.00"), days.loss()) == (0, 10)  # above its cost, and still a loss of this session
    assert CanaryDay.objects.first().start_value == 1050
    assert (days.watch("103.01"), days.loss()) == (0, Decimal("19.9"))
    assert (days.watch("103.00"), days.loss()) == (1, 20)
    assert StrategyBuild.objects.get().mode == "shadow"


def test_a_loss_of_yesterday_is_not_counted_again_today(days: Days) -> None:
    assert (days.watch("98.50"), days.loss()) == (0, 15)
    days.clock.advance(86_400)
    assert (days.watch("98.00"), days.loss()) == (0, 5)
    assert (days.watch("99.50"), days.loss()) == (0, 0)
    days.clock.advance(86_400)
    assert (days.watch("97.60"), days.loss()) == (0, 19)


def test_a_session_without_an_order_is_measured_as_well(days: Days) -> None:
    days.watch("100.00")
    days.clock.advance(86_400)
    days.watch("98.00")
    assert CanaryDay.objects.filter(orders=0, loss=20).count() == 1
    assert StrategyBuild.objects.get().mode == "shadow"


def test_what_was_carried_and_what_was_traded_add_up(days: Days, gateway: Gateway) -> None:
    days.watch("100.00")
    shift_to_yesterday(days)
    gateway.tick(price="99.00")
    for name, qty, side in (("more", "5", "buy"), ("out", "10", "sell")):
        assert gateway.order(name, qty=qty, side=side).json()["placed_qty"] == qty
        days.fills()
    days.clock = FixedClock(datetime.now(UTC))
    days.watch("98.00")
    # ten carried at 100 lost one each when they were sold at 99; five bought at 99 lost one each
    assert days.loss() == 15
    gateway.order("all", qty="5", side="sell")
    days.fills()
    days.clock = FixedClock(datetime.now(UTC))
    assert (days.watch("50.00"), days.loss()) == (0, 15)  # flat: no later price changes it


def shift_to_yesterday(days: Days) -> None:
    """As if the first execution, and what was seen of it, had been yesterday's."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE tradingbot_execution SET occurred_at = occurred_at - interval '1 day'")
        cursor.execute("SET session_replication_role = origin")
    CanaryDay.objects.update(session=session_date(days.clock.now() - DAY, "24/7"), orders=0)


def test_a_position_that_was_carried_into_being_a_canary_counts_from_the_first_price_seen(
    days: Days, gateway: Gateway
) -> None:
    CanaryDay.objects.all().delete()
    days.clock.advance(86_400)
    assert (days.watch("90.00"), days.loss()) == (0, 0)
    assert (days.watch("89.00"), days.loss()) == (0, 10)


def test_a_price_of_long_ago_is_not_where_a_session_begins(days: Days) -> None:
    days.watch("120.00")
    days.clock.advance(6 * 86_400)
    assert (days.watch("101.00"), days.loss()) == (0, 0)


def test_without_a_price_the_figure_stays_and_a_restart_changes_nothing(days: Days, gateway: Gateway) -> None:
    days.watch("99.00")
    known: Any = CanaryDay.objects.values().get()
    hot_state()._redis.flushdb()
    measure_losses(clock=days.clock)
    assert CanaryDay.objects.values().get() == known
    gateway.tick(price="99.00")
    measure_losses(clock=days.clock)
    assert CanaryDay.objects.values().get() == known
