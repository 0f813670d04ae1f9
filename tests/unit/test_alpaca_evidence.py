"""What the adapter keeps of the broker's answers, and what it no longer sends once the time to send is over."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import (
    BrokerInDoubtError,
    BrokerRejectedError,
    BrokerTooLateError,
    BrokerUnreachableError,
)
from backend.tradingbot.core.clock import Deadline, FixedClock
from backend.tradingbot.core.values import OrderRequest
from tests.unit.scripted_broker import Broker, order_json

REQUEST = OrderRequest("id-1", "AAPL", Decimal("10.50"), "buy", "limit", "day", Decimal("190.10"))
ORDERS = ("POST", "/v2/orders")


@pytest.fixture
def broker() -> Iterator[Broker]:
    running = Broker()
    yield running
    running.stop()


@pytest.fixture
def client(broker: Broker) -> AlpacaClient:
    return AlpacaClient("key", "secret", broker.url, 0.5, 0.4)


@dataclass
class ImpatientClock(FixedClock):
    """Says that the time is over at its ``last``-th reading, as after a pause of the process."""

    last: int = 1
    readings: int = 0

    def monotonic(self) -> float:
        self.readings += 1
        return self.ticks + (100 if self.readings > self.last else 0)


def test_an_order_in_time_is_sent(broker: Broker, client: AlpacaClient) -> None:
    broker.script[ORDERS] = (200, order_json())
    assert client.place_order(REQUEST, Deadline.after(5, FixedClock())).broker_order_id == "b-1"


@pytest.mark.parametrize("step", ["advance", "step_wall"])
def test_nothing_reaches_the_broker_once_the_time_is_over(broker: Broker, client: AlpacaClient, step: str) -> None:
    clock = FixedClock()
    deadline = Deadline.after(5, clock)
    getattr(clock, step)(5)
    with pytest.raises(BrokerTooLateError) as raised:
        client.place_order(REQUEST, deadline)
    assert (raised.value.code, broker.seen) == ("send_by_passed", [])
    assert isinstance(raised.value, BrokerUnreachableError)  # a definite no, like a connection that was never made


def test_a_request_whose_body_would_come_too_late_stays_without_one() -> None:
    """The headers are out when the process is paused; the body is never written, and the connection is closed."""
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def read_all() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(4096):
                    received.extend(data)

        reader = threading.Thread(target=read_all)
        reader.start()
        client = AlpacaClient("key", "secret", f"http://127.0.0.1:{server.getsockname()[1]}", 0.5, 0.4)
        deadline = Deadline.after(5, ImpatientClock(last=2))  # one reading sets it, one lets the headers pass
        with pytest.raises(BrokerTooLateError):
            client.place_order(REQUEST, deadline)
        reader.join(5)
    assert b"content-length: " in received.lower() and received.endswith(b"\r\n\r\n")


def test_the_deadline_of_an_order_does_not_outlive_it(broker: Broker, client: AlpacaClient) -> None:
    clock = FixedClock()
    deadline = Deadline.after(5, clock)
    clock.advance(6)
    with pytest.raises(BrokerTooLateError):
        client.place_order(REQUEST, deadline)
    broker.script["GET", "/v2/orders/b-1"] = (200, order_json())
    assert client.get_order("b-1") is not None


def test_the_brokers_id_of_a_request_is_kept_as_evidence(broker: Broker, client: AlpacaClient) -> None:
    broker.script[ORDERS] = (200, order_json())
    assert client.place_order(REQUEST).request_id == "request-1"
    broker.script["GET", "/v2/orders/b-1"] = (200, order_json())
    found = client.get_order("b-1")
    assert found is not None and found.request_id == "request-2"
    broker.script[ORDERS] = (403, {"code": 40310000, "message": "insufficient buying power"})
    with pytest.raises(BrokerRejectedError) as refused:
        client.place_order(REQUEST)
    assert refused.value.evidence["request_id"] == "request-3"
    for body in ("not json", order_json(client_order_id="other"), order_json(status=None)):
        broker.script[ORDERS] = (200, body)
        with pytest.raises(BrokerInDoubtError) as doubtful:
            client.place_order(REQUEST)
        assert doubtful.value.evidence.get("request_id", "").startswith("request-") or body == "not json"


def test_the_calendar_is_read_in_utc(broker: Broker, client: AlpacaClient) -> None:
    days = [{"date": "2026-11-27", "open": "09:30", "close": "13:00"}]
    broker.script["GET", "/v2/calendar"] = (200, days)
    (session,) = client.calendar(date(2026, 11, 26), date(2026, 11, 27))
    assert session.date == date(2026, 11, 27)
    assert (session.opens_at, session.closes_at) == (
        datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 18, 0, tzinfo=UTC),
    )  # fmt: skip
    assert broker.seen[0][2] == {"start": "2026-11-26", "end": "2026-11-27"}


def test_a_multi_leg_order_does_not_hide_the_others_of_a_listing(broker: Broker, client: AlpacaClient) -> None:
    parent = order_json(id="b-0", client_order_id="legs", symbol=None, side="", order_class="mleg")
    broker.script["GET", "/v2/orders"] = (200, [parent, order_json()])
    listed = client.list_open_orders()
    assert [(order.broker_order_id, order.side) for order in listed] == [("b-0", ""), ("b-1", "buy")]


def test_a_replacement_names_what_it_replaces(broker: Broker, client: AlpacaClient) -> None:
    chain = {"b-1": order_json(status="replaced", replaced_by="b-2"), "b-2": order_json(id="b-2", replaces="b-1")}
    for name, body in chain.items():
        broker.script["GET", f"/v2/orders/{name}"] = (200, body)
    first = client.get_order("b-1")
    assert first is not None
    latest = client.latest_of(first)
    assert (latest.broker_order_id, latest.replaces) == ("b-2", "b-1")


def test_fees_and_dividends_are_read_with_the_deposits(broker: Broker, client: AlpacaClient) -> None:
    def activity(number: int, **changes: Any) -> dict[str, Any]:
        return {"id": f"20260302000000000::{number}", "date": "2026-03-02", "net_amount": "-0.05", **changes}

    rows = [activity(1, activity_type="FEE"), activity(2, activity_type="DIV", net_amount="12.5", symbol="AAPL")]
    broker.script["GET", "/v2/account/activities"] = lambda _, query: (200, [] if "page_token" in query else rows)
    found = client.cash_flows(datetime(2026, 3, 1, tzinfo=UTC))
    assert [(flow.kind, flow.amount, flow.symbol) for flow in found] == [
        ("FEE", Decimal("-0.05"), ""), ("DIV", Decimal("12.5"), "AAPL"),
    ]  # fmt: skip
    asked = broker.seen[0][2]["activity_types"].split(",")
    assert {"FEE", "DIV", "INT", "CSD", "CSW"} <= set(asked)
