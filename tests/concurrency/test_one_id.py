"""Sixty-four posts of one id at once are one order; take the referee away and they are not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.db import connection

from backend.tradingbot.models import AccountExposure, Order, RiskRow
from backend.tradingbot.services import journal

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def no_referee() -> Iterator[None]:
    """The constraint keeps its name and guards nothing; what it let in goes before it comes back."""
    alter = "ALTER TABLE tradingbot_order"
    with connection.cursor() as cursor:
        cursor.execute(f"{alter} DROP CONSTRAINT order_client_id_once")
        cursor.execute(f"{alter} ADD CONSTRAINT order_client_id_once UNIQUE (id, client_order_id)")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"{alter} DROP CONSTRAINT order_client_id_once")
            cursor.execute("DELETE FROM tradingbot_order")
            cursor.execute(f"{alter} ADD CONSTRAINT order_client_id_once UNIQUE (account_id, client_order_id)")


def test_sixty_four_posts_of_one_id_reach_the_broker_once(gateway, broker):
    gateway.tick()
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: gateway.order("race", type="limit", limit_price="90.00"), range(64)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 201, 202}
    assert statuses.count(201) == 1
    assert broker.ids().count(f"{gateway.prefix}-race") == 1
    order = Order.objects.get()
    assert {answer.json()["broker_order_id"] for answer in answers} <= {order.broker_order_id, None}
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 450
    assert journal.verify("account:main").intact


def test_sixty_four_posts_of_one_id_with_two_bodies_place_one_of_them(gateway, broker):
    gateway.tick()
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda number: gateway.order("race", qty=str(1 + number % 2)), range(64)))
    codes = {answer.json().get("code") for answer in answers if answer.status_code == 422}
    assert codes == {"client_order_id_reused"}
    assert [answer.status_code for answer in answers].count(422) == 32
    assert broker.ids().count(f"{gateway.prefix}-race") == 1


def test_sixty_four_orders_at_once_never_take_more_than_the_account_may_risk(gateway, broker):
    """Half of the equity of 10,000 may lie in one name, and each order risks 500: ten fit, whoever comes first."""
    gateway.tick()
    with ThreadPoolExecutor(64) as pool:
        answers = list(
            pool.map(lambda number: gateway.order(f"o{number}", type="limit", limit_price="90.00"), range(64))
        )
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(201), statuses.count(422)) == (10, 54)
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 10 * 450
    assert AccountExposure.objects.get(account__code="main").gross == 10 * 500
    assert journal.verify("account:main").intact


def test_without_the_referee_the_race_makes_several_orders(gateway, broker):
    gateway.tick()
    with no_referee():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: gateway.order("race"), range(8)))
        assert Order.objects.count() == 8
    refused = [order["refused_duplicates"] for order in broker.ledger()["orders"] if gateway.prefix in str(order)]
    assert refused[0] > 0  # only the broker's own check stood between this and eight executions
