"""The whole stack against a broker on another host: nothing of it is the stack's own, neither process nor keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ops import processes, servers
from tests.integration.paper_process import Broker, Start

ROOT = Path(__file__).resolve().parents[2]


class Stack:
    """`make up BROKER=alpaca ALPACA_BASE_URL=...`, as a child."""

    def __init__(self, state: Path, broker: Broker, secret: str = "secret") -> None:
        self.port, self.state, self.log = servers.free_port(), state, state.with_suffix(".log")
        keys = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": secret, "ALPACA_BASE_URL": broker.url}
        unset = ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL", "FAILPOINTS", "SECRET_KEY")
        inherited = {name: value for name, value in os.environ.items() if name not in unset}
        environment = {**inherited, **keys, "BROKER": "alpaca", "PORT": str(self.port), "STATE_DIR": str(state),
                       "ENVIRONMENT": "development"}  # fmt: skip
        with open(self.log, "w") as output:
            self.process = processes.spawn([sys.executable, "ops/stack.py"], env=environment, cwd=ROOT, output=output)

    def wait(self, condition: Callable[[], bool], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def manage(self, *arguments: str) -> str:
        lines = (self.state / "stack.env").read_text().splitlines()
        environment = {**os.environ, **{n: v.strip("'") for n, v in (line.split("=", 1) for line in lines)}}
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip().splitlines()[-1]

    def call(self, method: str, path: str, token: str, body: Any = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(method, f"http://127.0.0.1:{self.port}/{path}", json=body, headers=headers, timeout=20)

    def stop(self) -> None:
        processes.stop(self.process, signal.SIGTERM, 60.0)


Begin = Callable[..., Stack]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    running: list[Stack] = []

    def starting(broker: Broker, **settings: Any) -> Stack:
        running.append(Stack(tmp_path / "state", broker, **settings))
        return running[-1]

    yield starting
    for stack in running:
        stack.stop()


@pytest.mark.stack
@pytest.mark.timeout(240)
def test_an_order_is_placed_and_filled_at_a_broker_elsewhere(start: Start, begin: Begin) -> None:
    broker = start()
    stack = begin(broker)
    stack.wait(lambda: "The stack is ready" in stack.log.read_text())
    stack.manage("account", "create", "main", "--from-broker", "--symbols", "AAPL", "--session-calendar", "24/7")
    stack.manage("strategy", "create", "mean", "--mode", "live")
    bound = ["--account", "main", "--strategy", "mean", "--capability", "feed", "--feed", "AAPL"]
    token = stack.manage("key", "create", "bot", "--role", "trader", *bound)
    order = {"account": "main", "strategy": "mean", "symbol": "AAPL", "side": "buy", "qty": "5", "type": "market"}

    def placed() -> bool:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        tick = {"symbol": "AAPL", "price": "100.00", "bid": "99.99", "ask": "100.01", "time": now}
        stack.call("POST", "api/v1/market-data/ticks", token, {"ticks": [tick]})
        name = f"far-{time.monotonic_ns()}"
        answer = stack.call("POST", "api/v1/orders", token, {**order, "client_order_id": name})
        placed.name = name  # type: ignore[attr-defined]
        return answer.status_code == 201

    stack.wait(placed)  # until the worker has marked the new account, orders are denied
    broker.quote("99.99", "100.01")
    path = f"api/v1/orders/{placed.name}?account=main"  # type: ignore[attr-defined]
    stack.wait(lambda: stack.call("GET", path, token).json()["status"] == "filled")
    assert [o["client_order_id"] for o in broker.ledger()["orders"]] == [placed.name]  # type: ignore[attr-defined]
    stack.wait(lambda: requests.get(f"http://127.0.0.1:{stack.port}/readyz", timeout=5).json()["trade_updates"]
               == "listening")  # fmt: skip


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_wrong_keys_are_said_at_the_start(start: Start, begin: Begin) -> None:
    broker = start()
    stack = begin(broker, secret="wrong")
    stack.wait(lambda: stack.process.poll() is not None)
    assert stack.process.returncode == 1
    assert f"the broker at {broker.url} does not accept the keys (HTTP 403)" in stack.log.read_text()
