"""The paper broker as a process of its own, for tests that speak to it directly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}


class Broker:
    """A running broker process and a session that carries its keys."""

    def __init__(self, ledger: Path, faults: bool = True, cash: str = "1000000") -> None:
        environment = {**os.environ, "ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret",
                       "PAPER_FAULTS": "1" if faults else ""}  # fmt: skip
        command = [sys.executable, "-m", "backend.paperbroker", "--port", "0", "--ledger", str(ledger), "--cash", cash]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("paper broker ready on http://127.0.0.1:"), line
        self.url = line.split()[-1]
        self.session = requests.Session()
        self.session.headers.update(KEYS)

    def call(self, method: str, path: str, body: Any = None, timeout: float = 10) -> requests.Response:
        return self.session.request(method, self.url + path, json=body, timeout=timeout)

    def order(self, client_id: str, **changes: Any) -> requests.Response:
        body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "limit", "limit_price": "100",
                "time_in_force": "day", "client_order_id": client_id}  # fmt: skip
        body.update(changes)
        if body["type"] == "market":
            body.pop("limit_price")
        return self.call("POST", "/v2/orders", body)

    def quote(self, bid: str, ask: str, **sizes: str) -> None:
        body = {"quotes": [{"symbol": "AAPL", "bid": bid, "ask": ask, **sizes}]}
        assert self.call("POST", "/paper/quotes", body).status_code == 200

    def fault(self, mode: str, **settings: Any) -> None:
        assert self.call("POST", "/control/faults", {"mode": mode, **settings}).status_code == 201

    def lookup(self, client_id: str) -> requests.Response:
        return self.call("GET", f"/v2/orders:by_client_order_id?client_order_id={client_id}")

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", "/control/ledger").json()
        return found

    def kill(self) -> None:
        self.session.close()
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Broker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Broker] = []

    def begin(**settings: Any) -> Broker:
        running.append(Broker(tmp_path / "paper.sqlite3", **settings))
        return running[-1]

    yield begin
    for broker in running:
        broker.kill()
