"""A gateway over real HTTP, in front of a paper broker that is a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from tests.integration.paper_process import start  # noqa: F401  a fixture for every test here

KEY, SECRET = "test-key", "test-secret"
BROKER_HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}


# tests post the same order over and over; how often is not what they are about
MAY_HAMMER: dict[str, Decimal | None] = {
    "duplicate_orders_max": Decimal(100_000),
    "repeat_orders_max": Decimal(100_000),
    "order_rate_key_per_min": Decimal(100_000),
    "order_rate_strategy_per_min": Decimal(100_000),
    "order_rate_account_per_min": Decimal(100_000),
    "reducing_rate_account_per_min": Decimal(100_000),
}


@dataclass
class Broker:
    """The far side, with its own ledger and its faults."""

    url: str

    def ledger(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/control/ledger", headers=BROKER_HEADERS, timeout=10).json()

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(method, self.url + path, json=body, headers=BROKER_HEADERS, timeout=10)

    def control(self, name: str, **body: Any) -> Any:
        answer = self.call("POST", f"/control/{name}", body)
        answer.raise_for_status()
        return answer.json()

    def account_number(self) -> str:
        return str(self.call("GET", "/v2/account").json()["account_number"])

    def ids(self) -> list[str]:
        return [order["client_order_id"] for order in self.ledger()["orders"]]

    def fault(self, mode: str, **options: Any) -> None:
        body = {"mode": mode, **options}
        requests.post(f"{self.url}/control/faults", json=body, headers=BROKER_HEADERS, timeout=10).raise_for_status()

    def cancel_everything(self) -> None:
        """What an earlier test left resting would be an external order to the next one."""
        requests.delete(f"{self.url}/v2/orders", headers=BROKER_HEADERS, timeout=10).raise_for_status()

    def heal(self) -> None:
        requests.delete(f"{self.url}/control/faults", headers=BROKER_HEADERS, timeout=10).raise_for_status()


@pytest.fixture(scope="session")
def broker_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    ledger = tmp_path_factory.mktemp("broker") / "paper.sqlite3"
    command = [sys.executable, "-m", "backend.paperbroker", "--port", "0", "--ledger", str(ledger)]
    environment = {**os.environ, "ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": SECRET, "PAPER_FAULTS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(text for text in process.stdout if "ready on" in text)
        yield Broker(line.split("ready on ")[1].strip())
        process.terminate()


@pytest.fixture
def broker(broker_process: Broker, settings: Any) -> Iterator[Broker]:
    changes = {
        "broker": "paper",
        "alpaca_base_url": broker_process.url,
        "alpaca_api_key": SecretStr(KEY),
        "alpaca_secret_key": SecretStr(SECRET),
        "broker_read_timeout": 10.0,
        "mark_seconds": 100.0,
    }
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)
    broker_process.heal()
    broker_process.cancel_everything()
    yield broker_process
    broker_process.heal()


@dataclass
class Gateway:
    """A strategy's and a risk officer's view of the API. ``prefix`` keeps ids apart on the shared broker."""

    url: str
    trader: str
    risk: str
    prefix: str

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.trader}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        return requests.request(method, f"{self.url}/api/v1/{path}", data=data, headers=headers, timeout=30)

    def tick(self, symbol: str = "AAPL", price: str = "100.00", at: str | None = None) -> requests.Response:
        moment = at or datetime.now(UTC).isoformat()
        tick = {"symbol": symbol, "price": price, "bid": price, "ask": price, "time": moment}
        return self.call("POST", "market-data/ticks", {"ticks": [tick]})

    def body(self, name: str, **changes: Any) -> dict[str, Any]:
        order = {"client_order_id": f"{self.prefix}-{name}", "account": "main", "strategy": "mean", "symbol": "AAPL"}
        return {**order, "side": "buy", "qty": "5", "type": "market", **changes}

    def order(self, name: str, **changes: Any) -> requests.Response:
        return self.call("POST", "orders", self.body(name, **changes))

    def read(self, name: str) -> dict[str, Any]:
        return self.call("GET", f"orders/{self.prefix}-{name}?account=main").json()


@pytest.fixture
def gateway(live_server: Any, broker: Broker) -> Gateway:
    from backend.tradingbot.hot_state import hot_state
    from backend.tradingbot.services.accounts import create_account, create_strategy
    from backend.tradingbot.services.keys import create_key

    hot_state()._redis.flushdb()  # each test begins with prices of its own
    symbols = ["AAPL", "MSFT"]
    account = create_account(
        code="main",
        cash=Decimal(10_000),
        broker_account=broker.account_number(),
        symbols=symbols,
        session_calendar="24/7",
        limits=MAY_HAMMER,
    )
    strategy = create_strategy(code="mean", mode="live")
    bound = {"account": account, "strategy": strategy}
    _, trader = create_key(name="trader", role="trader", capabilities=["feed"], feed_symbols=symbols, **bound)
    _, risk = create_key(name="risk", role="risk")
    return Gateway(live_server.url, trader, risk, secrets.token_hex(6))


@pytest.fixture
def keys_of_every_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets several accounts trade on the one test broker: as if its keys belonged to each of them."""
    from backend.tradingbot.brokers.registry import execution_client

    monkeypatch.setattr(
        "backend.tradingbot.services.orders.client_for", lambda config, broker_account: execution_client(config)
    )
