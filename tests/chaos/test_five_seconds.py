"""From a trip, an order in doubt and a critical break to the hand-over at a webhook: in five seconds on the real stack.

MiFID II RTS 6 article 16 asks for alerts within five seconds. The time of a fact is the one that its journal entry has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from tests.chaos.house import House
from tests.integration.paper_process import start
from tests.integration.receiver import Receiver, receiving

__all__ = ["start"]
BOUND = 5.0
PATIENCE = 60.0


@pytest.fixture
def far_side() -> Iterator[Receiver]:
    with receiving() as seen:
        yield seen


@pytest.fixture
def told_house(tmp_path: Any, far_side: Receiver) -> Iterator[House]:
    """A stack whose notifications go to ``far_side``; an order is told of as soon as it is in doubt."""
    settings = {
        "NOTIFY_WEBHOOK_URL": f"{far_side.url}/hook", "NOTIFY_IN_DOUBT_SECONDS": "0", "BROKER_READ_TIMEOUT": "1",
        "QUIET_WINDOW_SECONDS": "60",
    }  # fmt: skip
    house = House(tmp_path, settings=settings)
    try:
        house.start()
        yield house
    finally:
        house.close()


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_people_are_told_within_five_seconds(
    told_house: House, far_side: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    house = told_house

    def call(path: str, body: Any, who: str = "TRADER") -> requests.Response:
        headers = {"Authorization": f"Bearer {house.demo[f'TRADINGBOT_{who}_TOKEN']}"}
        return requests.post(f"{house.url}/api/v1/{path}", json=body, headers=headers, timeout=30)

    def order(name: str) -> requests.Response:
        body = {"client_order_id": name, "account": "demo", "strategy": "demo", "symbol": "AAPL", "side": "buy"}
        return call("orders", {**body, "qty": "5", "type": "limit", "limit_price": "180", "time_in_force": "gtc"})

    now = datetime.now(UTC).isoformat()
    tick = {"symbol": "AAPL", "price": "190", "bid": "189.99", "ask": "190.01", "time": now}
    call("market-data/ticks", {"ticks": [tick]}).raise_for_status()
    assert order("over-1").status_code == 201
    for target, mode in (("submit", "drop_before"), ("lookup", "error_500")):
        armed = {"mode": mode, "target": target, "times": 1 if target == "submit" else 50}
        house.broker("POST", "/control/faults", armed).raise_for_status()
    assert order("doubt-1").json()["status"] == "in_doubt"
    call("breakers/symbol:MSFT/trip", {"reason": "five seconds"}, "RISK").raise_for_status()
    filled = {"client_order_id": "over-1", "qty": "9", "price": "180"}
    house.broker("POST", "/control/execute", filled).raise_for_status()

    facts = {
        "a trip": ("TRIPPED symbol:MSFT", "kind = 'breaker_trip' AND subject = 'symbol:MSFT'"),
        "an order in doubt": ("IN DOUBT", "data->>'after' = 'in_doubt' AND subject = 'doubt-1'"),
        "a critical break": ("CRITICAL BREAK qty: over-1", "kind = 'break_opened' AND subject = 'over-1'"),
    }
    house.wait_until(
        lambda: all(far_side.moment_of(words) for words, _ in facts.values()), PATIENCE,
        f"not all of {list(facts)} were told",
    )  # fmt: skip
    took = {}
    with house.database() as database:
        for name, (words, where) in facts.items():
            row = database.execute(f"SELECT min(at) AS at FROM tradingbot_journalentry WHERE {where}").fetchone()
            assert row is not None
            took[name] = (far_side.moment_of(words) or time.time()) - row["at"].timestamp()
    with capsys.disabled():  # the figures are shown by a run that passes, too
        print()
        for name, span in took.items():
            print(f"from {name} to the notification handed over: {span:.2f} s")
    assert all(0 <= span <= BOUND for span in took.values()), took
    keys = [key for _, _, key in far_side.got]
    assert len(keys) == len(set(keys))
