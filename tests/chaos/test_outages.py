"""A store that is gone: PostgreSQL stops everything at once and says so; Valkey stops new risk and lets people out."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests

from tests.chaos.books import their_books
from tests.chaos.house import House

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


class Desk:
    """A trader of the demo account, and the ids that this test has used."""

    def __init__(self, house: House, prefix: str) -> None:
        self._house, self._prefix = house, f"{prefix}-{time.time_ns()}"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {house.demo['TRADINGBOT_TRADER_TOKEN']}"

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self._session.request(method, f"{self._house.url}/api/v1/{path}", json=body, timeout=30)

    def tick(self, symbol: str, price: str) -> requests.Response:
        now = datetime.now(UTC).isoformat()
        tick = {"symbol": symbol, "price": price, "bid": price, "ask": price, "time": now}
        return self.call("POST", "market-data/ticks", {"ticks": [tick]})

    def order(self, name: str, symbol: str, side: str, qty: str, limit: str | None = None) -> requests.Response:
        body = {"client_order_id": self.id(name), "account": "demo", "strategy": "demo", "symbol": symbol}
        body |= {"side": side, "qty": qty, "type": "limit" if limit else "market", "time_in_force": "gtc"}
        return self.call("POST", "orders", body | ({"limit_price": limit} if limit else {}))

    def cancel(self, name: str) -> requests.Response:
        return self.call("DELETE", f"orders/{self.id(name)}?account=demo")

    def read(self, name: str) -> requests.Response:
        return self.call("GET", f"orders/{self.id(name)}?account=demo")

    def id(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def placed(self, name: str, symbol: str, side: str, qty: str, limit: str | None = None) -> str:
        """Place an order that must pass, feeding the symbol until it does; its name. A try that was denied used an id
        up; one whose answer is late (202) is repeated as it is, so that it is never a second order."""
        deadline, tried = time.monotonic() + 60, name
        while True:
            self.tick(symbol, "50.00")
            answer = self.order(tried, symbol, side, qty, limit)
            if answer.status_code in (200, 201):
                return tried
            assert time.monotonic() < deadline, answer.text
            if answer.status_code == 422:
                tried = f"{name}-{time.monotonic_ns()}"
            time.sleep(0.3)


def held(house: House, symbol: str) -> Decimal:
    """The position here; other tests in the same house may have left one."""
    with house.database() as connection:
        found = connection.execute("SELECT qty FROM tradingbot_position WHERE symbol = %s", [symbol]).fetchone()
    return found["qty"] if found else Decimal(0)


def wait_for_position(house: House, symbol: str, qty: Decimal) -> None:
    house.wait_until(lambda: held(house, symbol) == qty, 30.0, f"{held(house, symbol)} {symbol} did not become {qty}")


def at_the_broker(house: House) -> set[str]:
    return {order.client_order_id for order in their_books(house).orders}


def test_with_postgres_stopped_orders_get_503_and_nothing_reaches_the_broker(house: House) -> None:
    desk = Desk(house, "pg")
    desk.placed("before", "S190", "buy", "1")
    masters, workers = house.processes("web"), house.processes("web-worker")
    house.stop_postgres()
    try:
        began = time.monotonic()
        answers = [desk.order(f"during-{number}", "S190", "buy", "1") for number in range(6)]
        took = time.monotonic() - began
    finally:
        house.start_postgres()
    for answer in answers:
        assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
        assert answer.json()["code"] == "unavailable"
        assert answer.json()["remedy"] == "repeat the same request later"
        assert answer.headers["Retry-After"] == "2"
    assert took < 6 * 3.5  # the connect timeout is 3 s
    assert not {desk.id(f"during-{number}") for number in range(6)} & at_the_broker(house)

    house.wait_until(lambda: desk.tick("S190", "50.00").status_code == 200, 30.0, "ticks were not taken again")
    house.wait_until(
        lambda: desk.order("during-0", "S190", "buy", "1").status_code in (200, 201, 422), 30.0, "orders stayed out"
    )
    desk.placed("after", "S190", "buy", "1")
    assert (house.processes("web"), house.processes("web-worker")) == (masters, workers)


def test_with_valkey_stopped_new_risk_is_denied_and_people_get_out(house: House) -> None:
    desk, before = Desk(house, "vk"), held(house, "S191")
    long = desk.placed("long", "S191", "buy", "4")
    wait_for_position(house, "S191", before + 4)
    rest = desk.placed("rest", "S192", "buy", "1", "45.00")
    house.stop_valkey()
    try:
        denied = desk.order("more", "S191", "buy", "1")
        market = desk.order("out-market", "S191", "sell", "1")
        limit = desk.order("out-limit", "S191", "sell", "2", "45.00")
        canceled, read = desk.cancel(rest), desk.read(long)
    finally:
        house.start_valkey()
    checks = denied.json()["order"]["decision"]["checks"]
    failed = {check["gate"]: check for check in checks if not check["passed"]}
    assert (denied.status_code, denied.json()["code"]) == (422, "order_denied")
    assert failed["data_quality"]["code"] == "market_data_unavailable"
    assert failed["data_quality"]["remedy"] == "retry when market data is back"
    assert (market.status_code, market.json()["code"]) == (422, "order_denied")
    assert limit.status_code == 201
    assert (canceled.status_code, canceled.json()["status"]) == (202, "pending_cancel")
    assert (read.status_code, read.json()["status"]) == (200, "filled")
    assert not {desk.id("more"), desk.id("out-market")} & at_the_broker(house)
    wait_for_position(house, "S191", before + 2)
