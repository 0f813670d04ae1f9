"""The Alpaca adapter against a real HTTP server that misbehaves by script: every silence and every odd answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from backend.tradingbot.brokers import alpaca, registry
from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.alpaca_transport import SEND_BY_PASSED, NeverSentError
from backend.tradingbot.brokers.answers import (
    BrokerInDoubtError,
    BrokerQueryError,
    BrokerRejectedError,
    BrokerUnreachableError,
)
from backend.tradingbot.core.cash_kinds import CASH_KINDS
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.values import OrderRequest
from tests.unit.scripted_broker import Broker, cut_short, fill_json, hang, order_json, reset

READ_TIMEOUT = 0.4
REQUEST = OrderRequest("id-1", "AAPL", Decimal("10.50"), "buy", "limit", "day", Decimal("190.10"))
BY_ID = "/v2/orders:by_client_order_id"
DUPLICATE = (422, {"code": 40010001, "message": "client_order_id must be unique"})
ABSENT = (404, {"code": 40410000, "message": "order not found for id-1"})


@pytest.fixture
def broker() -> Iterator[Broker]:
    running = Broker()
    yield running
    running.stop()


@pytest.fixture
def client(broker: Broker) -> AlpacaClient:
    return AlpacaClient("key", "secret", broker.url, 0.5, READ_TIMEOUT)


def test_an_accepted_order_is_sent_once_as_strings_and_read_exactly(broker: Broker, client: AlpacaClient) -> None:
    broker.script["POST", "/v2/orders"] = (200, order_json())
    placed = client.place_order(REQUEST)
    assert (placed.broker_order_id, placed.qty, placed.limit_price) == ("b-1", Decimal("10.5"), Decimal("190.1"))
    assert placed.submitted_at == datetime(2026, 3, 2, 14, 30, 0, 123456, tzinfo=UTC)
    assert [seen[3] for seen in broker.seen] == [
        {
            "client_order_id": "id-1",
            "symbol": "AAPL",
            "qty": "10.5",
            "side": "buy",
            "type": "limit",
            "time_in_force": "day",
            "limit_price": "190.1",
        }  # fmt: skip
    ]


def test_an_unknown_status_and_a_null_submitted_at_are_still_a_yes(broker: Broker, client: AlpacaClient) -> None:
    broker.script["POST", "/v2/orders"] = (200, order_json(status="brand_new_word", submitted_at=None))
    placed = client.place_order(REQUEST)
    assert (placed.status, placed.submitted_at) == ("brand_new_word", None)
    assert (placed.accepted, placed.reason) == (True, None)
    broker.script["POST", "/v2/orders"] = (200, order_json(status="rejected"))
    refused = client.place_order(REQUEST)
    assert (refused.accepted, refused.reason, refused.avg_price) == (False, "broker_rejected", None)


def test_a_read_timeout_after_the_send_is_in_doubt_and_not_repeated(broker: Broker, client: AlpacaClient) -> None:
    broker.script["POST", "/v2/orders"] = hang(broker)
    with pytest.raises(BrokerInDoubtError) as raised:
        client.place_order(REQUEST)
    assert (raised.value.reason, broker.count("POST", "/v2/orders")) == ("read_timeout", 1)


@pytest.mark.parametrize(("act", "reason"), [(reset, "connection_lost"), (cut_short, None)])
def test_a_connection_lost_after_the_send_is_in_doubt(
    broker: Broker, client: AlpacaClient, act: Any, reason: str | None
) -> None:
    broker.script["POST", "/v2/orders"] = act
    with pytest.raises(BrokerInDoubtError) as raised:
        client.place_order(REQUEST)
    assert broker.count("POST", "/v2/orders") == 1
    assert reason is None or raised.value.reason == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((500, "<html>oops</html>"), "http_500"),
        ((504, {"code": 50410000, "message": "timeout"}), "http_504"),
        ((301, ""), "http_301"),
        ((408, ""), "http_408"),
        ((200, "<html>welcome</html>"), "unreadable_answer"),
        ((200, ""), "unreadable_answer"),
        ((200, [1]), "unreadable_answer"),
        ((200, order_json(filled_qty="NaN")), "unreadable_answer"),
        ((200, order_json(client_order_id="other")), "answer_of_another_order"),
    ],
)
def test_an_answer_that_settles_nothing_is_in_doubt_after_one_post(
    broker: Broker, client: AlpacaClient, answer: Any, reason: str
) -> None:
    broker.script["POST", "/v2/orders"] = answer
    with pytest.raises(BrokerInDoubtError) as raised:
        client.place_order(REQUEST)
    assert (raised.value.reason, broker.count("POST", "/v2/orders")) == (reason, 1)


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_is_not_followed_so_that_nothing_is_posted_twice(
    broker: Broker, client: AlpacaClient, status: int
) -> None:
    def elsewhere(handler: Any, query: Any) -> None:
        handler.send_response(status)
        handler.send_header("Location", "/v2/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    broker.script["POST", "/v2/orders"] = elsewhere
    broker.script["POST", "/v2/elsewhere"] = broker.script["GET", "/v2/elsewhere"] = (200, order_json())
    with pytest.raises(BrokerInDoubtError) as raised:
        client.place_order(REQUEST)
    assert (raised.value.reason, len(broker.seen)) == (f"http_{status}", 1)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((400, "<html>bad</html>"), "broker_rejected"),
        ((401, {"message": "unauthorized."}), "broker_unauthorized"),
        ((403, {"code": 40310000, "message": "insufficient buying power"}), "broker_forbidden"),
        ((422, {"code": 42210000, "message": "asset not tradable"}), "broker_rejected"),
        ((429, {"code": 42910000, "message": "rate limit exceeded"}), "broker_rate_limited"),
    ],
)
def test_a_definite_no_is_a_rejection_after_exactly_one_post(
    broker: Broker, client: AlpacaClient, answer: Any, code: str
) -> None:
    broker.script["POST", "/v2/orders"] = answer
    with pytest.raises(BrokerRejectedError) as raised:
        client.place_order(REQUEST)
    assert (raised.value.code, raised.value.evidence["http_status"]) == (code, answer[0])
    assert len(broker.seen) == 1


def test_a_refused_port_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connect is refused
        client = AlpacaClient("key", "secret", f"http://127.0.0.1:{taken.getsockname()[1]}", 0.5, READ_TIMEOUT)
        with pytest.raises(BrokerUnreachableError):
            client.place_order(REQUEST)
        with pytest.raises(BrokerQueryError):
            client.get_order_by_client_id("id-1")


def test_a_connect_timeout_is_unreachable() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # fills the queue, so that the next connect gets no answer
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        client = AlpacaClient("key", "secret", f"http://127.0.0.1:{port}", 0.2, READ_TIMEOUT)
        with pytest.raises(BrokerUnreachableError) as raised:
            client.place_order(REQUEST)
        assert raised.value.evidence["reason"] == "connect_timeout"
        for one in waiting:
            one.close()


def test_a_duplicate_of_the_same_order_is_that_order(broker: Broker, client: AlpacaClient) -> None:
    broker.script |= {("POST", "/v2/orders"): DUPLICATE, ("GET", BY_ID): (200, order_json(status="filled"))}
    assert client.place_order(REQUEST).status == "filled"
    assert broker.count("POST", "/v2/orders") == 1


@pytest.mark.parametrize(
    "changed", [{"qty": "11"}, {"side": "sell"}, {"symbol": "MSFT"}, {"limit_price": None}, {"time_in_force": "gtc"}]
)
def test_a_duplicate_of_another_order_says_the_id_is_taken(
    broker: Broker, client: AlpacaClient, changed: dict[str, Any]
) -> None:
    broker.script |= {("POST", "/v2/orders"): DUPLICATE, ("GET", BY_ID): (200, order_json(**changed))}
    with pytest.raises(BrokerRejectedError) as raised:
        client.place_order(REQUEST)
    assert (raised.value.code, raised.value.evidence["differing"]) == ("client_order_id_taken", list(changed))


@pytest.mark.parametrize(
    ("lookup", "reason"), [((500, "x"), "duplicate_lookup_failed"), (ABSENT, "duplicate_not_found")]
)
def test_a_duplicate_that_cannot_be_looked_up_is_in_doubt(
    broker: Broker, client: AlpacaClient, lookup: Any, reason: str
) -> None:
    broker.script |= {("POST", "/v2/orders"): DUPLICATE, ("GET", BY_ID): lookup}
    with pytest.raises(BrokerInDoubtError) as raised:
        client.place_order(REQUEST)
    assert raised.value.reason == reason


def test_the_duplicate_code_for_another_fault_is_a_rejection(broker: Broker, client: AlpacaClient) -> None:
    refused = (422, {"code": 40010001, "message": "qty must be positive"})
    broker.script |= {("POST", "/v2/orders"): refused, ("GET", BY_ID): ABSENT}
    with pytest.raises(BrokerRejectedError) as raised:
        client.place_order(REQUEST)
    assert (raised.value.code, raised.value.message) == ("broker_rejected", "qty must be positive")


def test_only_the_brokers_own_404_means_absent(broker: Broker, client: AlpacaClient) -> None:
    broker.script["GET", BY_ID] = ABSENT
    assert client.get_order_by_client_id("id-1") is None
    for answer in [(404, "<html>"), (404, {"message": "endpoint not found."}), (500, ""), (429, {}), (200, "x")]:
        broker.script["GET", BY_ID] = answer
        with pytest.raises(BrokerQueryError):
            client.get_order_by_client_id("id-1")
    broker.script["GET", BY_ID] = (200, order_json(client_order_id="other"))
    with pytest.raises(BrokerQueryError):
        client.get_order_by_client_id("id-1")


def test_fills_are_paged_until_an_empty_page(broker: Broker, client: AlpacaClient) -> None:
    everything = [fill_json(1), fill_json(2, side="sell_short"), fill_json(3)]

    def page(handler: Any, query: dict[str, str]) -> tuple[int, Any]:
        ids = [fill["id"] for fill in everything]
        start = ids.index(query["page_token"]) + 1 if "page_token" in query else 0
        return 200, everything[start : start + 2]

    broker.script["GET", "/v2/account/activities/FILL"] = page
    fills = client.fills(since=datetime(2026, 3, 2, tzinfo=UTC))
    assert [fill.execution_id for fill in fills] == ["exec-1", "exec-2", "exec-3"]
    assert (fills[1].side, fills[1].price) == ("sell", Decimal("190.05"))
    assert [fill.execution_id for fill in client.fills(fills[1].activity_id)] == ["exec-3"]
    assert broker.seen[0][2]["after"] == "2026-03-02T00:00:00Z"


def test_a_repeating_page_of_fills_is_an_error_and_not_a_loop(broker: Broker, client: AlpacaClient) -> None:
    broker.script["GET", "/v2/account/activities/FILL"] = (200, [fill_json(1)])
    with pytest.raises(BrokerQueryError):
        client.fills()
    assert len(broker.seen) == 2


def cash_json(number: int, kind: str, amount: str, **changes: Any) -> dict[str, Any]:
    identity = f"20260302000000000::cash-{number}"
    return {"id": identity, "activity_type": kind, "date": "2026-03-02", "net_amount": amount, **changes}


def test_cash_flows_are_read_by_time_with_the_sign_of_their_kind(broker: Broker, client: AlpacaClient) -> None:
    told = [
        cash_json(1, "CSD", "-20000.50", created_at="2026-03-02T16:00:00Z", description="ACH", status="executed"),
        cash_json(2, "CSW", "300"),
        cash_json(3, "JNLC", "-7", status="canceled"),
    ]
    broker.script["GET", "/v2/account/activities"] = lambda handler, query: (200, [] if "page_token" in query else told)
    flows = client.cash_flows(datetime(2026, 3, 1, tzinfo=UTC))
    assert [(flow.kind, flow.amount, flow.status) for flow in flows] == [
        ("CSD", Decimal("20000.50"), "executed"),
        ("CSW", Decimal(-300), "executed"),
        ("JNLC", Decimal(-7), "canceled"),
    ]
    assert (flows[0].occurred_at, flows[1].occurred_at) == (datetime(2026, 3, 2, 16, 0, tzinfo=UTC), None)
    assert flows[1].occurred_on == date(2026, 3, 2)
    asked = broker.seen[0][2]
    assert (asked["after"], asked["activity_types"]) == ("2026-03-01T00:00:00Z", ",".join(CASH_KINDS))


@pytest.mark.parametrize("wrong", [{"date": "soon"}, {"net_amount": "NaN"}, {"net_amount": None}, {"id": ""}])
def test_a_cash_flow_that_cannot_be_read_is_an_unknown_and_not_none(
    broker: Broker, client: AlpacaClient, wrong: dict[str, Any]
) -> None:
    broker.script["GET", "/v2/account/activities"] = (200, [cash_json(1, "CSD", "5") | wrong])
    with pytest.raises(BrokerQueryError):
        client.cash_flows(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.mark.parametrize(("said", "day"), [("2026-03-02", date(2026, 3, 2)), (None, None), ("yesterday", None)])
def test_the_equity_at_the_close_is_dated_or_the_day_is_unknown(
    broker: Broker, client: AlpacaClient, said: str | None, day: date | None
) -> None:
    amounts = {"cash": "1", "equity": "2", "last_equity": "3.5", "buying_power": "4"}
    answer = {"account_number": "A1", "status": "ACTIVE", **amounts, "balance_asof": said}
    broker.script["GET", "/v2/account"] = (200, answer)
    assert (client.account().last_equity, client.account().last_equity_on) == (Decimal("3.5"), day)


def test_orders_of_one_instant_are_not_lost_between_pages(
    broker: Broker, client: AlpacaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alpaca, "ORDERS_PAGE", 3)
    seconds = {"b-1": 1, "b-2": 2, "b-3": 3, "b-4": 3, "b-5": 4}
    book = [order_json(id=name, submitted_at=f"2026-03-02T14:30:0{at}Z") for name, at in seconds.items()]

    def page(handler: Any, query: dict[str, str]) -> tuple[int, Any]:
        after = datetime.fromisoformat(query.get("after", "2000-01-01T00:00:00Z"))
        return 200, [o for o in book if datetime.fromisoformat(o["submitted_at"]) > after][: int(query["limit"])]

    broker.script["GET", "/v2/orders"] = page
    assert [order.broker_order_id for order in client.list_orders("all")] == list(seconds)


def test_a_cancel_is_requested_refused_or_in_doubt(broker: Broker, client: AlpacaClient) -> None:
    path = ("DELETE", "/v2/orders/b-1")
    broker.script[path] = (204, "")
    assert client.cancel_order("b-1") == "requested"
    for answer, code in [(ABSENT, "order_not_found"), ((422, {"code": 42210000}), "order_not_cancelable")]:
        broker.script[path] = answer
        with pytest.raises(BrokerRejectedError) as raised:
            client.cancel_order("b-1")
        assert raised.value.code == code
    broker.script[path] = (502, "<html>")
    with pytest.raises(BrokerInDoubtError):
        client.cancel_order("b-1")


def test_cancel_all_reads_each_item(broker: Broker, client: AlpacaClient) -> None:
    broker.script["DELETE", "/v2/orders"] = (207, [{"id": "b-1", "status": 200}, {"id": "b-2", "status": 500}])
    results = client.cancel_all()
    assert [(item.broker_order_id, item.requested) for item in results] == [("b-1", True), ("b-2", False)]


def test_a_replaced_order_is_followed_to_its_successor(broker: Broker, client: AlpacaClient) -> None:
    broker.script["GET", "/v2/orders/b-1"] = (200, order_json(status="replaced", replaced_by="b-2"))
    broker.script["GET", "/v2/orders/b-2"] = (200, order_json(id="b-2", client_order_id="x"))
    first = client.get_order("b-1")
    assert first is not None and client.latest_of(first).broker_order_id == "b-2"
    broker.script["GET", "/v2/orders/b-2"] = (200, order_json(id="b-2", replaced_by="b-1"))
    with pytest.raises(BrokerQueryError):
        client.latest_of(first)


def test_account_positions_and_clock_are_read_exactly(broker: Broker, client: AlpacaClient) -> None:
    account = {"account_number": "A1", "status": "ACTIVE", "cash": "1.10", "equity": "2", "last_equity": "3"}
    broker.script["GET", "/v2/account"] = (200, account | {"buying_power": "4"})
    short = {"symbol": "AAPL", "qty": "-5", "side": "short", "avg_entry_price": "190.10"}
    broker.script["GET", "/v2/positions"] = (200, [short, short | {"symbol": "MSFT", "qty": "5"}])
    opening = "2026-03-03T09:30:00-05:00"
    times = {"timestamp": "2026-03-02T10:00:00-05:00", "next_open": opening, "next_close": "2026-03-02T16:00:00-05:00"}
    broker.script["GET", "/v2/clock"] = (200, times | {"is_open": True})
    assert client.validate_connection() is True
    assert client.account().cash == Decimal("1.10")
    assert [item.qty for item in client.positions()] == [Decimal(-5), Decimal(-5)]
    assert client.clock().next_open == datetime(2026, 3, 3, 14, 30, tzinfo=UTC)
    broker.script["GET", "/v2/account"] = (200, account)
    with pytest.raises(BrokerQueryError):
        client.account()


def test_the_registry_gives_one_client_an_address_and_key(broker: Broker) -> None:
    config = SimpleNamespace(
        broker="paper", alpaca_api_key="k", alpaca_secret_key="s", alpaca_base_url=broker.url + "/v2/",
        broker_connect_timeout=1, broker_read_timeout=2,
    )  # fmt: skip
    first = registry.execution_client(config)
    assert (registry.execution_client(config), first._transport.base_url) == (first, broker.url)
    config.alpaca_api_key = "other"
    assert registry.execution_client(config) is not first
    config.broker = "nobody"
    with pytest.raises(UnavailableError) as raised:
        registry.execution_client(config)
    assert raised.value.code == "broker_unknown"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((200, []), "ok"),
        ((404, {"message": "no"}), "refused"),
        ((429, {"message": "slow down"}), "throttled"),
        ((401, {"message": "unauthorized"}), "key_refused"),
        ((500, "<html>"), "server_error"),
        (hang, "no_answer"),
    ],
)
def test_a_broker_that_breaks_is_counted_apart_from_one_that_says_no(
    broker: Broker, client: AlpacaClient, answer: Any, outcome: str
) -> None:
    """BrokerFailing asks for these words: a broker that answered 500 to everything once counted as refusals."""

    def counted() -> float:
        labels = {"operation": "GET /orders", "outcome": outcome}
        return REGISTRY.get_sample_value("tradingbot_broker_calls_total", labels) or 0.0

    broker.script["GET", "/v2/orders"] = answer
    before = counted()
    with suppress(BrokerQueryError):
        client.list_open_orders()
    assert counted() == before + 1


def test_a_broker_that_cannot_be_connected_to_is_counted_as_never_sent_and_our_own_lateness_is_not() -> None:
    assert (NeverSentError("connect_timeout").outcome, NeverSentError(SEND_BY_PASSED).outcome) == (
        "never_sent", "too_late")  # fmt: skip
