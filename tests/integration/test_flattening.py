"""A run of the kill switch that flattens: slice by slice through the order path, until nothing is held."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import requests
from django.db import connection

from backend.tradingbot.core.clock import SYSTEM_CLOCK, FixedClock
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import (
    Account,
    KillSwitchRun,
    Order,
    Position,
)
from backend.tradingbot.services import fills, journal, kill_switch
from backend.tradingbot.tasks import advance_kill_switch
from tests.integration.conftest import BROKER_HEADERS
from tests.integration.kill_switch import RESTING, finish, pull

pytestmark = pytest.mark.django_db(transaction=True)


def hold(gateway, broker, name, symbol="AAPL", qty="10"):
    gateway.tick(symbol)
    gateway.order(name, symbol=symbol, qty=qty)
    account = Account.objects.get(code="main")
    for _ in range(200):
        fills.poll_account(account, clock=SYSTEM_CLOCK)
        if gateway.read(name)["status"] == "filled":
            return
    raise AssertionError("not filled")


def test_it_flattens_in_slices_through_the_order_path(gateway, broker, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"flatten_slice_value": Decimal(400)})
    hold(gateway, broker, "bought")
    hold(gateway, broker, "msft", symbol="MSFT", qty="3")
    gateway.order("rest", **RESTING)
    answer = pull(gateway, "account:main", flatten=True, reason="fire")
    run = finish(gateway, answer)
    assert (run["stage"], run["open_orders"], run["open_positions"], run["positions"]) == ("done", 0, 0, [])
    assert set(Position.objects.values_list("qty", flat=True)) == {Decimal(0)}
    slices = Order.objects.filter(strategy__code="flatten").order_by("id")
    assert list(slices.filter(symbol="AAPL").values_list("side", "qty", "limit_price", "status")) == [
        ("sell", Decimal(4), Decimal(99), "filled"),
        ("sell", Decimal(4), Decimal(99), "filled"),
        ("sell", Decimal(2), Decimal(99), "filled"),
    ]
    assert all(o.client_order_id.startswith(f"flatten-{run['run']}-") for o in slices)
    passed = {check["gate"]: check["code"] for check in slices[0].decision["checks"]}
    assert passed["trading_state"] == "flattening"
    assert {(o["purpose"], o["status"]) for o in run["orders"]} == {("cancel", "canceled"), ("flatten", "filled")}
    assert gateway.order("b").json()["code"] == "order_denied"
    assert journal.verify("account:main").intact


def falls(broker, price):
    """The broker's market moves; the gateway's last tick does not know it yet."""
    quote = {"symbol": "AAPL", "last": price, "bid": price, "ask": price}
    url = f"{broker.url}/paper/quotes"
    requests.post(url, json={"quotes": [quote]}, headers=BROKER_HEADERS, timeout=10).raise_for_status()


def test_a_slice_that_is_not_executed_is_made_anew_at_the_market(gateway, broker):
    hold(gateway, broker, "bought")
    falls(broker, "98.90")
    clock = FixedClock(datetime.now(UTC))
    answer = pull(gateway, "account:main", flatten=True)
    run = finish(gateway, answer, clock, passes=2)
    assert (run["stage"], run["open_positions"]) == ("flattening", 1)
    assert gateway.tick(price="98.90").json()["accepted"] == 1
    clock.advance(60)
    run = finish(gateway, answer, clock)
    slices = Order.objects.filter(strategy__code="flatten").order_by("id").values_list("limit_price", "status")
    assert list(slices) == [(Decimal(99), "canceled"), (Decimal("97.91"), "filled")]
    assert (run["stage"], Position.objects.get().qty) == ("done", 0)


def test_a_slice_that_a_gate_refuses_is_tried_again_later_and_half_as_large(gateway, broker, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"flatten_slice_value": Decimal(800)})
    hold(gateway, broker, "bought")
    Account.objects.filter(code="main").update(symbols=["MSFT"])
    clock = FixedClock(datetime.now(UTC))
    answer = pull(gateway, "account:main", flatten=True)
    run = finish(gateway, answer, clock, passes=5)
    assert [(p["position"], p["left"], p["last"], p["detail"]) for p in run["positions"]] == [
        ("main AAPL", "10", "denied", "symbol_not_allowed")
    ]
    refused = Order.objects.filter(strategy__code="flatten")
    assert refused.count() == 1
    clock.advance(5)
    finish(gateway, answer, clock, passes=5)
    assert list(refused.values_list("qty", flat=True).order_by("id")) == [8, 4]
    Account.objects.filter(code="main").update(symbols=["AAPL"])
    clock.advance(5)
    assert finish(gateway, answer, clock)["stage"] == "done"


def test_without_a_price_nothing_is_placed_and_the_run_says_so(gateway, broker):
    hold(gateway, broker, "bought")
    hot_state()._redis.flushdb()
    answer = pull(gateway, "account:main", flatten=True)
    run = finish(gateway, answer, passes=2)
    assert (run["stage"], run["positions"][0]["last"]) == ("flattening", "no_price")
    gateway.tick()
    assert finish(gateway, answer)["stage"] == "done"


def test_a_strategy_is_flattened_within_its_own_share(gateway, broker):
    hold(gateway, broker, "bought")
    Position.objects.update(qty=25)  # another strategy holds 15 of these
    run = finish(gateway, pull(gateway, "strategy:mean", flatten=True))
    assert (run["stage"], Position.objects.get().qty) == ("done", 15)
    assert Order.objects.get(client_order_id__startswith="flatten-").strategy.code == "mean"


def test_beat_carries_a_run_on(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    token = pull(gateway).json()["run"]
    for _ in range(5):
        advance_kill_switch()
    assert KillSwitchRun.objects.get(token=token).stage == "done"


def test_two_at_the_same_run_do_not_work_it_twice(gateway, broker, settings):
    hold(gateway, broker, "bought")
    token = pull(gateway, "account:main", flatten=True).json()["run"]

    def carry_on(_):
        for _ in range(6):
            kill_switch.advance(token, clock=SYSTEM_CLOCK)
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(carry_on, range(4)))
    assert KillSwitchRun.objects.get(token=token).stage == "done"
    assert Order.objects.filter(strategy__code="flatten").count() == 1
