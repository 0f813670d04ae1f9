"""A canary over the death of a real server process: what it places, and the day's counters, are those of a run that
nothing interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from backend.tradingbot.infra.failpoints import Action, Failpoints
from backend.tradingbot.models import Account, CanaryDay, Order, Strategy, StrategyBuild
from backend.tradingbot.services.accounts import create_strategy
from backend.tradingbot.services.keys import create_key
from tests.integration.conftest import KEY, SECRET, Broker, Gateway
from tests.integration.recon_house import own_database

ROOT = Path(__file__).resolve().parents[2]
ASKED = (25, 9, 10, 39, 7, 40, 12, 100, 30, 18, 50, 21)
KILLED_AFTER, MIDST = 4, 8  # between two orders; and inside of one, before it is committed


class Server:
    """Gunicorn with one worker, on this test's database, store and broker; a group of its own, so that -9 gets all."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        (folder / "static").mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / "web.log"
        self.environment = own_database() | {
            "BROKER": "paper", "ALPACA_BASE_URL": broker.url, "ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": SECRET,
            "STATE_DIR": str(folder), "WEB_WORKERS": "1", "MARK_SECONDS": "60", "FAILPOINTS": str(folder / "points"),
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "python:backend.web_server", "backend.wsgi:application"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--bind", f"127.0.0.1:{self.port}"], cwd=ROOT, env=self.environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/healthz", timeout=1).status_code == 200
        return False


@pytest.fixture
def server(broker: Broker, tmp_path: Path) -> Iterator[Server]:
    made = Server(broker, tmp_path)
    yield made
    made.kill()


def canary(code: str) -> str:
    """A strategy in canary that places a tenth of each order, in lots of one, and its own key."""
    strategy = Strategy.objects.filter(code=code).first() or create_strategy(code=code, mode="canary")
    strategy.canary_allocation, strategy.canary_max_orders = Decimal("0.1"), 8
    strategy.canary_max_notional = Decimal(100_000)
    strategy.save()
    StrategyBuild.objects.filter(strategy=strategy).update(mode="canary")
    about: dict[str, Any] = {"account": Account.objects.get(), "strategy": strategy}
    return create_key(name=code, role="trader", capabilities=["feed"], feed_symbols=["AAPL", "MSFT"], **about)[1]


def post(gateway: Gateway, strategy: str, symbol: str, number: int) -> dict[str, Any]:
    """One order, right after a tick, at a limit that nothing fills: what is placed rests at the broker."""
    gateway.tick(symbol=symbol, price="10.00")
    body: dict[str, Any] = {"strategy": strategy, "symbol": symbol, "type": "limit", "limit_price": "9.99"}
    answer = gateway.order(f"{strategy}-{number}", qty=str(ASKED[number]), **body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def told(strategy: str, orders: list[dict[str, Any]]) -> tuple[list[str], list[str], tuple[int, Decimal]]:
    """What was placed, why where it was not, and the day's counters."""
    codes = [
        next(check["code"] for check in order["decision"]["checks"] if check["gate"] == "strategy_mode")
        for order in orders
    ]
    day = CanaryDay.objects.get(strategy__code=strategy)
    return [order["placed_qty"] for order in orders], codes, (day.orders, day.notional)


@pytest.mark.stack
@pytest.mark.timeout(180)
@pytest.mark.django_db(transaction=True)
def test_a_killed_canary_goes_on_as_one_that_was_never_killed(
    gateway: Gateway, broker: Broker, server: Server, tmp_path: Path
) -> None:
    unbroken = Gateway(gateway.url, canary("whole"), gateway.risk, gateway.prefix)
    expected = told("whole", [post(unbroken, "whole", "MSFT", number) for number in range(len(ASKED))])

    points = Failpoints(tmp_path / "points")
    killed = Gateway(server.url, canary("killed"), gateway.risk, gateway.prefix)
    server.start()
    made = [post(killed, "killed", "AAPL", number) for number in range(KILLED_AFTER)]
    server.kill()
    server.start()
    made += [post(killed, "killed", "AAPL", number) for number in range(KILLED_AFTER, MIDST)]
    before = CanaryDay.objects.values().get(strategy__code="killed")
    points.arm("submit.before_intent_commit", Action.KILL)
    with pytest.raises(requests.RequestException):
        post(killed, "killed", "AAPL", MIDST)
    server.kill()
    assert CanaryDay.objects.values().get(strategy__code="killed") == before  # counted with its order, or not at all
    server.start()
    made += [post(killed, "killed", "AAPL", number) for number in range(MIDST, len(ASKED))]

    assert told("killed", made) == expected
    assert expected[0] == ["2", "0", "1", "3", "0", "4", "1", "10", "3", "1", "0", "0"]  # eight orders, then the cap
    assert expected[1][-3:] == ["canary", "cap_reached", "cap_reached"] and expected[2][0] == 8
    again = [post(killed, "killed", "AAPL", number)["placed_qty"] for number in range(len(ASKED))]
    assert again == expected[0] and CanaryDay.objects.get(strategy__code="killed").orders == 8  # a replay counts not
    orders = {row["client_order_id"]: Decimal(row["qty"]) for row in broker.ledger()["orders"]}
    for strategy in ("whole", "killed"):
        sent = {name: qty for name, qty in orders.items() if name.startswith(f"{gateway.prefix}-{strategy}-")}
        wanted = {f"{gateway.prefix}-{strategy}-{n}": Decimal(q) for n, q in enumerate(expected[0]) if q != "0"}
        assert sent == wanted
    assert Order.objects.filter(strategy__code="killed").count() == len(ASKED)
