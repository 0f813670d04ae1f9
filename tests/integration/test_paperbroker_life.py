"""What time brings at the paper broker, and what goes wrong there: expiry, fees, replacements, refused cancels."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from websockets.sync.client import connect

from tests.integration.paper_process import Broker, Start


def control(broker: Broker, name: str, **body: Any) -> Any:
    answer = broker.call("POST", f"/control/{name}", body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def close_of_next_session(broker: Broker) -> datetime:
    return datetime.fromisoformat(broker.call("GET", "/v2/clock").json()["next_close"])


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Listener:
    """A client of the trading stream."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.say({"action": "auth", "key": "key", "secret": "secret"})
        self.say({"action": "listen", "data": {"streams": ["trade_updates"]}})

    def say(self, message: Any) -> None:
        self.socket.send(json.dumps(message))
        self.socket.recv(5)

    def hear(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(self.socket.recv(5))["data"] for _ in range(count)]


@contextmanager
def listening(broker: Broker) -> Iterator[Listener]:
    with connect(broker.url.replace("http", "ws") + "/stream") as socket:
        yield Listener(socket)


def test_a_day_order_expires_at_the_close_and_others_do_not(start: Start) -> None:
    broker = start()
    broker.order("day")
    broker.order("gtc", time_in_force="gtc")
    closes = close_of_next_session(broker)
    assert datetime.fromisoformat(broker.lookup("day").json()["expires_at"]) == closes
    control(broker, "clock", at=(closes - timedelta(seconds=2)).isoformat())
    assert broker.lookup("day").json()["status"] == "new"
    control(broker, "clock", advance_seconds=3)
    found = broker.lookup("day").json()
    assert (found["status"], datetime.fromisoformat(found["expired_at"]) >= closes) == ("expired", True)
    assert broker.lookup("gtc").json()["status"] == "new"


def test_the_clock_that_was_moved_stays_moved_after_kill_9_until_it_is_set_right(start: Start) -> None:
    first = start()
    control(first, "clock", advance_seconds=86_400)
    first.kill()
    second = start()
    told = datetime.fromisoformat(second.call("GET", "/v2/clock").json()["timestamp"])
    assert told - datetime.now(UTC) > timedelta(hours=23)
    told = datetime.fromisoformat(control(second, "clock")["timestamp"])
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=5)


def sell_a_thousand(broker: Broker) -> None:
    broker.quote("100", "100")
    broker.order("buy", qty="1000", type="market")
    broker.order("sell", qty="1000", type="market", side="sell")
    eventually(lambda: broker.lookup("sell").json()["status"] == "filled")


def fees_of(broker: Broker) -> list[tuple[str, str]]:
    rows = broker.call("GET", "/v2/account/activities/FEE?direction=asc").json()
    return [(row["description"][:3], row["net_amount"]) for row in rows]


def test_the_fees_of_a_day_are_posted_on_the_next_session(start: Start) -> None:
    broker = start()
    sell_a_thousand(broker)
    assert fees_of(broker) == []
    closes = close_of_next_session(broker)
    control(broker, "clock", at=(closes + timedelta(days=5)).isoformat())
    for _ in range(12):  # a session day comes within a long weekend
        control(broker, "clock", advance_seconds=86_400)
    assert fees_of(broker) == [("REG", "-2.78"), ("TAF", "-0.17")]
    assert Decimal(broker.ledger()["cash"]) == Decimal("1000000") - Decimal("2.95")


def test_fees_are_posted_on_request_and_once(start: Start) -> None:
    broker = start()
    sell_a_thousand(broker)
    assert [control(broker, "fees")["posted"] for _ in range(2)] == [2, 0]
    assert fees_of(broker) == [("REG", "-2.78"), ("TAF", "-0.17")]


def test_an_order_on_its_way_arrives_although_the_broker_was_killed(start: Start) -> None:
    first = start()
    first.fault("late_arrival", seconds=0.5)
    with pytest.raises(requests.ConnectionError):
        first.order("late")
    first.kill()
    second = start()
    eventually(lambda: second.lookup("late").status_code == 200)
    assert [(o["client_order_id"], o["refused_duplicates"]) for o in second.ledger()["orders"]] == [("late", 0)]


def test_a_cancel_is_refused_and_the_order_works_on(start: Start) -> None:
    broker = start()
    order_id = broker.order("a").json()["id"]
    broker.fault("cancel_refused")
    with listening(broker) as listener:
        assert broker.call("DELETE", f"/v2/orders/{order_id}").status_code == 422
        assert listener.hear(1)[0]["event"] == "order_cancel_rejected"
    assert broker.lookup("a").json()["status"] == "new"
    assert broker.call("DELETE", f"/v2/orders/{order_id}").status_code == 204


@pytest.mark.parametrize(
    ("mode", "status", "event"),
    [("cancel_pending", "canceled", "canceled"), ("cancel_kept", "new", "order_cancel_rejected")],
)
def test_a_cancel_that_was_taken_is_done_or_refused_later(start: Start, mode: str, status: str, event: str) -> None:
    broker = start()
    order_id = broker.order("a").json()["id"]
    broker.fault(mode, seconds=0.2)
    with listening(broker) as listener:
        assert broker.call("DELETE", f"/v2/orders/{order_id}").status_code == 204
        assert broker.call("DELETE", f"/v2/orders/{order_id}").status_code == 422
        assert broker.lookup("a").json()["status"] == "pending_cancel"
        assert [told["event"] for told in listener.hear(2)] == ["pending_cancel", event]
    assert broker.lookup("a").json()["status"] == status


def test_an_order_still_fills_while_its_cancel_is_on_its_way(start: Start) -> None:
    broker = start()
    order_id = broker.order("a").json()["id"]
    broker.fault("cancel_pending", seconds=30)
    broker.call("DELETE", f"/v2/orders/{order_id}")
    broker.quote("99", "100", ask_size="4")
    assert (broker.lookup("a").json()["status"], broker.lookup("a").json()["filled_qty"]) == ("pending_cancel", "4")
    broker.quote("99", "100")
    assert broker.lookup("a").json()["status"] == "filled"


def test_a_replacement_is_a_new_order_and_points_both_ways(start: Start) -> None:
    broker = start()
    old = broker.order("a").json()["id"]
    broker.quote("99", "100", ask_size="4")
    with listening(broker) as listener:
        new = broker.call("PATCH", f"/v2/orders/{old}", {"limit_price": "98"}).json()
        assert [told["event"] for told in listener.hear(2)] == ["replaced", "new"]
    assert (new["replaces"], new["qty"], new["filled_qty"], new["limit_price"]) == (old, "6", "0", "98")
    found = broker.lookup("a").json()
    assert (found["status"], found["replaced_by"], found["filled_qty"]) == ("replaced", new["id"], "4")
    assert broker.call("PATCH", f"/v2/orders/{old}", {"qty": "1"}).status_code == 422
    assert broker.call("PATCH", f"/v2/orders/{new['id']}", {"qty": "-1"}).status_code == 422


def test_a_broker_can_execute_too_much_and_after_the_end(start: Start) -> None:
    broker = start()
    order_id = broker.order("a").json()["id"]
    broker.call("DELETE", f"/v2/orders/{order_id}")
    control(broker, "execute", client_order_id="a", qty="4", price="100")
    assert (broker.lookup("a").json()["status"], broker.lookup("a").json()["filled_qty"]) == ("canceled", "4")
    control(broker, "execute", order_id=order_id, qty="9", price="100")
    assert (broker.lookup("a").json()["status"], broker.lookup("a").json()["filled_qty"]) == ("filled", "13")
    assert broker.ledger()["positions"] == {"AAPL": "13"}


def test_pages_can_be_cut_short_and_executions_filed_late(start: Start) -> None:
    broker = start()
    for name in "abc":
        broker.order(name, qty="1")
    broker.quote("99", "100")
    broker.fault("short_pages", size=2, times=2)
    path = "/v2/account/activities/FILL?direction=asc"
    assert [len(broker.call("GET", path).json()) for _ in range(3)] == [2, 2, 3]
    broker.fault("lag_activities", symbol="AAPL", seconds=3600, times=None)
    assert broker.call("GET", path).json() == []
    broker.call("DELETE", "/control/faults")
    assert len(broker.call("GET", path).json()) == 3
