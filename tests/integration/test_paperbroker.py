"""The paper broker as a real process, spoken to over HTTP and its websocket."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests
from websockets.sync.client import connect

from tests.integration.paper_process import KEYS, Start


def test_an_order_rests_fills_in_parts_by_size_and_reaches_the_books(start: Start) -> None:
    broker = start()
    answer = broker.order("a")
    assert (answer.status_code, answer.json()["status"], len(answer.headers["X-Request-ID"])) == (200, "new", 32)
    broker.quote("99", "99.50", ask_size="4")
    part = broker.lookup("a").json()
    assert (part["status"], part["filled_qty"], part["filled_avg_price"]) == ("partially_filled", "4", "99.5")
    broker.quote("99.90", "100", ask_size="50")
    full = broker.call("GET", f"/v2/orders/{part['id']}").json()
    assert (full["status"], full["filled_qty"], full["filled_avg_price"]) == ("filled", "10", "99.8")
    assert broker.call("GET", "/v2/positions").json()[0]["qty"] == "10"
    account = broker.call("GET", "/v2/account").json()
    assert (account["cash"], account["equity"]) == ("999002.00", "1000001.50")


def test_a_market_order_waits_for_the_first_quote(start: Start) -> None:
    broker = start()
    broker.order("m", type="market")
    assert broker.lookup("m").json()["status"] == "new"
    broker.quote("9", "10")
    assert broker.lookup("m").json()["filled_avg_price"] == "10"


def test_an_ioc_order_takes_what_is_there_and_cancels_the_rest(start: Start) -> None:
    broker = start()
    broker.quote("9", "10", ask_size="3")
    broker.order("i", time_in_force="ioc")
    found = broker.lookup("i").json()
    assert (found["status"], found["filled_qty"]) == ("canceled", "3")


def test_a_client_order_id_is_taken_for_ever(start: Start) -> None:
    broker = start()
    broker.order("a")
    again = broker.order("a", qty="1")
    assert (again.status_code, again.json()) == (
        422, {"code": 40010001, "message": "client_order_id must be unique"})  # fmt: skip
    orders = broker.ledger()["orders"]
    assert [(o["client_order_id"], o["qty"], o["refused_duplicates"]) for o in orders] == [("a", "10", 1)]


def test_buying_power_counts_open_orders_and_refuses_what_exceeds_it(start: Start) -> None:
    broker = start(cash="1500")
    assert broker.order("a").status_code == 200
    refused = broker.order("b")
    assert (refused.status_code, refused.json()["code"]) == (403, 40310000)
    assert broker.lookup("b").status_code == 404


def test_cancel_answers_204_then_422_and_cancel_all_answers_207(start: Start) -> None:
    broker = start()
    first = broker.order("a").json()["id"]
    broker.order("b")
    assert broker.call("DELETE", f"/v2/orders/{first}").status_code == 204
    assert broker.call("DELETE", f"/v2/orders/{first}").status_code == 422
    assert broker.call("DELETE", "/v2/orders/none").status_code == 404
    every = broker.call("DELETE", "/v2/orders")
    assert (every.status_code, [item["status"] for item in every.json()]) == (207, [200])
    assert broker.call("GET", "/v2/orders").json() == []


def test_activities_page_without_gap_or_repeat(start: Start) -> None:
    broker = start()
    for name in "abcde":
        broker.order(name, qty="1")
    broker.quote("99", "100")
    seen: list[str] = []
    path = "/v2/account/activities/FILL?direction=asc&page_size=2"
    token = ""
    while page := broker.call("GET", path + token).json():
        seen += [row["id"] for row in page]
        token = f"&page_token={seen[-1]}"
    assert seen == [row["id"] for row in broker.ledger()["executions"]]
    assert len(set(seen)) == 5


def test_cash_activities_move_cash_and_page_apart_from_executions(start: Start) -> None:
    broker = start(cash="1000")
    for kind, amount in (("CSD", "250.50"), ("CSW", "-50"), ("FEE", "-0.01"), ("JNLC", "5")):
        assert broker.call("POST", "/control/cash", {"kind": kind, "amount": amount}).status_code == 201
    assert broker.call("GET", "/v2/account").json()["cash"] == "1205.49"
    assert broker.call("POST", "/control/cash", {"kind": "CSW", "amount": "-1206"}).status_code == 422
    assert broker.call("POST", "/control/cash", {"kind": "csd", "amount": "1"}).status_code == 422
    seen: list[dict[str, Any]] = []
    path = "/v2/account/activities?activity_types=CSD,CSW,JNLC&direction=asc&page_size=2"
    token = ""
    while page := broker.call("GET", path + token).json():
        seen += page
        token = f"&page_token={page[-1]['id']}"
    assert [(row["activity_type"], row["net_amount"]) for row in seen] == [
        ("CSD", "250.5"),
        ("CSW", "-50"),
        ("JNLC", "5"),
    ]
    assert broker.call("GET", path + "&page_token=nobody").status_code == 422
    assert broker.call("GET", path + "&after=2100-01-01T00:00:00Z").json() == []
    assert broker.call("GET", "/v2/account/activities/FILL").json() == []


def test_keys_are_checked_and_the_control_routes_do_not_exist_when_off(start: Start) -> None:
    broker = start(faults=False)
    assert requests.get(broker.url + "/v2/account", timeout=10).status_code == 401
    wrong = {**KEYS, "APCA-API-SECRET-KEY": "wrong"}
    assert requests.get(broker.url + "/v2/account", headers=wrong, timeout=10).status_code == 403
    assert broker.call("POST", "/control/faults", {"mode": "slow"}).status_code == 404
    assert broker.call("GET", "/control/ledger").status_code == 404


def test_the_ledger_survives_kill_9(start: Start) -> None:
    first = start()
    first.order("a")
    first.quote("99", "100")
    before = first.ledger()
    first.kill()
    second = start()
    assert second.ledger() == before
    assert second.order("a").status_code == 422


@pytest.mark.parametrize("mode", ["drop_after_accept", "hang_after_accept", "error_500_after_accept",
                                  "garbage_after_accept"])  # fmt: skip
def test_an_order_is_live_although_its_answer_was_bad(start: Start, mode: str) -> None:
    broker = start()
    broker.fault(mode, seconds=0.1)
    if mode.startswith(("drop", "hang")):
        with pytest.raises(requests.ConnectionError):
            broker.order("a")
    else:
        answer = broker.order("a")
        with pytest.raises(ValueError):
            answer.json()
        assert answer.status_code == (500 if mode.startswith("error") else 200)
    assert broker.lookup("a").status_code == 200
    assert broker.order("b").status_code == 200


@pytest.mark.parametrize(("mode", "status"), [("error_500", 500), ("reject", 422), ("rate_limit", 429)])
def test_an_order_refused_by_a_fault_is_not_in_the_ledger(start: Start, mode: str, status: int) -> None:
    broker = start()
    broker.fault(mode)
    assert broker.order("a").status_code == status
    assert broker.ledger()["orders"] == []
    assert broker.order("a").status_code == 200


def test_lookups_lag_for_the_calls_asked(start: Start) -> None:
    broker = start()
    broker.order("a")
    broker.fault("lag_lookup", times=2)
    assert [broker.lookup("a").status_code for _ in range(3)] == [404, 404, 200]


def test_an_order_arrives_after_the_client_gave_up(start: Start) -> None:
    broker = start()
    broker.fault("late_arrival", seconds=0.3)
    with pytest.raises(requests.ConnectionError):
        broker.order("a")
    assert broker.lookup("a").status_code == 404
    deadline = time.monotonic() + 10
    while broker.lookup("a").status_code != 200:
        assert time.monotonic() < deadline
    assert len(broker.ledger()["orders"]) == 1


def test_a_bust_takes_the_trade_back(start: Start) -> None:
    broker = start()
    broker.order("a")
    broker.quote("99", "100")
    execution = broker.ledger()["executions"][0]["execution_id"]
    assert broker.call("POST", "/control/bust", {"execution_id": execution}).json()["type"] == "trade_bust"
    books = broker.ledger()
    assert (books["cash"], books["positions"]) == ("1000000", {"AAPL": "0"})
    assert broker.call("POST", "/control/bust", {"execution_id": execution}).status_code == 404


def test_the_stream_tells_a_fill_before_the_ack(start: Start) -> None:
    broker = start()
    broker.quote("99", "100")
    broker.fault("fill_before_ack", seconds=0.1)
    with connect(broker.url.replace("http", "ws") + "/stream") as socket:
        socket.send(json.dumps({"action": "auth", "key": "key", "secret": "secret"}))
        assert json.loads(socket.recv(5))["data"]["status"] == "authorized"
        socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
        assert json.loads(socket.recv(5))["data"] == {"streams": ["trade_updates"]}
        assert broker.order("a").json()["status"] == "new"
        events = [json.loads(socket.recv(5))["data"] for _ in range(2)]
    assert [event["event"] for event in events] == ["new", "fill"]
    assert (events[1]["qty"], events[1]["price"], events[1]["order"]["status"]) == ("10", "100", "filled")
