"""Many clients post the same ids at once: the broker gets one order an id, and every answer shows that order."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import requests

from tests.chaos.books import sends, their_books
from tests.chaos.clients import Feed, Tally
from tests.chaos.house import House
from tests.chaos.prepare import SYMBOLS

CLIENTS, TIMES = 64, 4


@pytest.mark.stack
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("ids", [100, pytest.param(2_000, marks=pytest.mark.soak)])
def test_each_id_posted_four_times_at_once_is_one_order_at_the_broker(house: House, ids: int) -> None:
    token, tally, over = house.demo["TRADINGBOT_TRADER_TOKEN"], Tally(), threading.Event()
    feed = Feed(SYMBOLS, house.url, token, tally, "once")
    for _ in range(2):  # the second confirms the first: a jump from where the prices of another test ended
        house.wait_until(feed.tick, 30.0, "no tick was taken")
    ticking = threading.Thread(target=feed.run, args=(over, 2.0))
    ticking.start()
    local = threading.local()
    prefix = f"once-{time.time_ns()}"
    told: defaultdict[str, set[str | None]] = defaultdict(set)
    statuses: defaultdict[str, list[int]] = defaultdict(list)

    def post(number: int) -> None:
        """Repeat the same body, as a strategy does, until it is settled what became of it."""
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.headers["Authorization"] = f"Bearer {token}"
        name = f"{prefix}-{number}"
        symbol = SYMBOLS[number % 200]
        price = feed.first_prices[symbol] * Decimal("0.7") + Decimal("0.01") * (number // 200)  # rests, each at its own
        body = {"client_order_id": name, "account": "demo", "strategy": "demo", "symbol": symbol}
        body |= {"side": "buy", "qty": "1", "type": "limit", "limit_price": f"{price:.2f}", "time_in_force": "gtc"}
        for _ in range(100):
            answer = local.session.post(f"{house.url}/api/v1/orders", json=body, timeout=60)
            statuses[name].append(answer.status_code)
            if answer.status_code in (200, 201):
                told[name].add(answer.json()["broker_order_id"])
                return
            assert answer.status_code in (202, 503), answer.text
            time.sleep(0.2)
        raise AssertionError(f"{name} was never settled: {statuses[name]}")

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(post, [number for number in range(ids) for _ in range(TIMES)]))
    finally:
        over.set()
        ticking.join()
    sent = sends(house)
    there = [order for order in their_books(house).orders if order.client_order_id.startswith(prefix)]
    assert len(there) == ids
    assert told == {order.client_order_id: {order.broker_order_id} for order in there}
    assert [order.client_order_id for order in there if order.refused_duplicates] == []
    assert {sent[order.client_order_id] for order in there} == {1}
    assert {found.count(201) for found in statuses.values()} <= {0, 1}
