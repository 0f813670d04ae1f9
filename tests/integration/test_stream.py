"""Trade updates over the broker's websocket: booked as they come, and caught up with after every connect."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pydantic import SecretStr

from backend.tradingbot.brokers.alpaca_stream import StreamLostError, StreamRefusedError, stream_url, trade_stream
from backend.tradingbot.core.clock import SystemClock
from backend.tradingbot.models import Account, Execution, Heartbeat, Order
from backend.tradingbot.services import stream
from backend.tradingbot.services.fills import poll_account
from backend.tradingbot.services.heartbeats import age_of
from backend.tradingbot.services.updates import take_update
from tests.integration.conftest import KEY, SECRET

pytestmark = pytest.mark.django_db(transaction=True)
RESTING = {"type": "limit", "limit_price": "90.00"}
CLOCK = SystemClock()
ROOT = Path(__file__).resolve().parents[2]


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def listener(gateway: Any) -> Iterator[Callable[[], None]]:
    """Starts a listener in a thread of its own; it is stopped, and waited for, at the end."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        try:
            stream.listen(stop, clock=CLOCK)
        finally:
            connection.close()

    def begin() -> None:
        threads.append(threading.Thread(target=work))
        threads[-1].start()
        eventually(lambda: Heartbeat.objects.filter(name=stream.NAME, state="listening").exists())

    yield begin
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def execute(gateway: Any, broker: Any, name: str, qty: str = "5") -> None:
    broker.control("execute", client_order_id=f"{gateway.prefix}-{name}", qty=qty, price="90")


def test_a_fill_is_booked_as_it_happens_and_the_poll_finds_nothing_more(gateway, broker, listener):
    listener()
    gateway.tick()
    gateway.order("a", **RESTING)
    execute(gateway, broker, "a", "2")
    execute(gateway, broker, "a", "3")
    eventually(lambda: gateway.read("a")["status"] == "filled")
    assert [(e.source, e.qty) for e in Execution.objects.order_by("id")] == [("stream", 2), ("stream", 3)]
    assert poll_account(Account.objects.get(code="main"), clock=CLOCK) == 0
    assert Execution.objects.count() == 2


def test_a_cancel_and_its_refusal_are_heard(gateway, broker, listener):
    listener()
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.fault("cancel_kept", seconds=0.1)
    path = f"orders/{gateway.prefix}-a?account=main"
    assert gateway.call("DELETE", path).json()["status"] == "pending_cancel"
    eventually(lambda: gateway.read("a")["status"] == "accepted")
    assert Order.objects.get().cancel_requested_at is None
    gateway.call("DELETE", path)
    eventually(lambda: gateway.read("a")["status"] == "canceled")


@pytest.mark.parametrize("mode", ["duplicate_events", "reorder_events"])
def test_doubled_and_reordered_events_end_in_the_same_book(gateway, broker, listener, mode):
    listener()
    gateway.tick()
    broker.fault(mode, times=None)
    gateway.order("a", **RESTING)
    for _ in range(5):
        execute(gateway, broker, "a", "1")
    broker.heal()
    other = gateway.order("b", type="limit", limit_price="91.00", qty="1")  # pushes out an event that was held back
    assert other.status_code == 201, other.text
    eventually(lambda: gateway.read("a")["status"] == "filled")
    assert (Execution.objects.count(), gateway.read("a")["filled_qty"]) == (5, "5")


def test_what_was_lost_on_the_way_is_caught_up_with_after_the_next_connect(gateway, broker, listener):
    listener()
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.fault("gap_events", times=None)
    execute(gateway, broker, "a")
    broker.heal()
    assert gateway.read("a")["status"] == "accepted"
    broker.control("drop_stream")
    eventually(lambda: gateway.read("a")["status"] == "filled")
    assert Execution.objects.get().source == "activities"


def test_without_a_market_for_the_answer_a_fill_before_the_ack_is_booked(gateway, broker, listener):
    listener()
    gateway.tick()
    broker.fault("fill_before_ack", seconds=0.5)
    answer = gateway.order("a")
    assert answer.status_code == 201
    eventually(lambda: gateway.read("a")["status"] == "filled")
    assert Order.objects.get().strategy.code == "mean"


def test_an_order_placed_elsewhere_is_heard_of(gateway, broker, listener):
    listener()
    body = {"symbol": "AAPL", "qty": "5", "side": "buy", "type": "limit", "limit_price": "80", "time_in_force": "day"}
    broker.call("POST", "/v2/orders", {**body, "client_order_id": f"{gateway.prefix}-hand"})
    eventually(lambda: Order.objects.filter(strategy__code="external", status="accepted").exists())


def test_killing_the_process_harms_nothing(gateway, broker):
    database = connection.settings_dict
    address = f"{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    environment = {
        **os.environ, "DATABASE_URL": f"postgresql://{address}", "BROKER": "paper", "ALPACA_BASE_URL": broker.url,
        "ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": SECRET,
    }  # fmt: skip
    command = [sys.executable, "manage.py", "stream_trade_updates"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: Heartbeat.objects.filter(name=stream.NAME, state="listening").exists(), 60)
            gateway.tick()
            gateway.order("a", **RESTING)
            execute(gateway, broker, "a", "2")
            eventually(lambda: gateway.read("a")["filled_qty"] == "2")
        finally:
            process.kill()
    execute(gateway, broker, "a", "3")
    assert poll_account(Account.objects.get(code="main"), clock=CLOCK) == 1
    assert (gateway.read("a")["status"], Execution.objects.count()) == ("filled", 2)


def test_a_status_that_nobody_knows_drops_no_fill(gateway, broker):
    from backend.tradingbot.brokers.updates import parse_trade_update
    from tests.integration.booked import Book, NoBroker, at, shown

    book = Book()
    order = {**shown(status="a_new_word", filled_qty="4").raw}
    data = {"event": "partial_fill", "execution_id": "e1", "qty": "4", "price": "99", "timestamp": at(1)}
    update = parse_trade_update({**data, "order": order})
    assert take_update(book.account, NoBroker(), update, clock=book.clock) is True
    assert (book.now.filled_qty, book.now.broker_status) == (4, "a_new_word")


@pytest.mark.parametrize("data", [{}, {"event": "fill"}, {"event": "new", "order": {"id": 1}}, {"event": "new"}])
def test_a_message_that_names_no_order_is_not_read(data):
    from backend.tradingbot.brokers.updates import parse_trade_update

    with pytest.raises(ValueError):
        parse_trade_update(data)


def test_wrong_keys_and_an_unreachable_stream_are_told_apart(broker):
    with pytest.raises(StreamRefusedError, match="does not accept the keys"), trade_stream(broker.url, "x", "y", 5):
        pass
    with pytest.raises(StreamLostError, match="cannot be reached"), trade_stream("http://127.0.0.1:1", "x", "y", 1):
        pass


def test_the_address_of_the_stream_follows_the_brokers(broker):
    assert stream_url("https://paper-api.alpaca.markets") == "wss://paper-api.alpaca.markets/stream"
    assert stream_url("http://127.0.0.1:9/v2/") == "ws://127.0.0.1:9/stream"


def test_readiness_says_how_the_stream_goes_and_does_not_fail_by_it(gateway, broker, client, listener):
    assert client.get("/readyz").json()["trade_updates"] == "never started"
    listener()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["trade_updates"]) == (200, "listening")
    call_command("heartbeat", stream.NAME)


def test_a_silent_process_is_named(gateway, client):
    from datetime import timedelta

    now = CLOCK.now() - timedelta(minutes=5)
    Heartbeat.objects.create(name=stream.NAME, state="listening", since=now, at=now)
    assert client.get("/readyz").json()["trade_updates"].startswith("silent for 30")
    with pytest.raises(CommandError, match="silent for 30"):
        call_command("heartbeat", stream.NAME)


class TestTheBroker:
    """Wrong keys and an unreachable host are said in a sentence, at the start and at /readyz."""

    def said(self, client: Any) -> str:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        with pytest.raises(CommandError) as refused:
            call_command("check_broker")
        assert str(refused.value) == answer.json()["faults"]["broker"]
        return str(refused.value)

    def test_wrong_keys_are_said(self, broker, client, settings):
        changes = {"alpaca_secret_key": SecretStr("wrong")}
        settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)
        assert self.said(client) == f"the broker at {broker.url} does not accept the keys (HTTP 403)"

    def test_an_unreachable_host_is_said(self, broker, client, settings):
        changes = {"alpaca_base_url": "http://127.0.0.1:1"}
        settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)
        assert "http://127.0.0.1:1 cannot be reached (connection_refused" in self.said(client)

    def test_the_keys_account_and_strangers_are_named(self, gateway, broker, capsys):
        call_command("check_broker")
        assert f"the keys are account {broker.account_number()}'s" in capsys.readouterr().out
        Account.objects.update(broker_account="PA-OTHER")
        call_command("check_broker")
        assert "main is the broker's PA-OTHER" in capsys.readouterr().out


def test_what_nobody_thought_of_does_not_end_the_process(monkeypatch):
    stop, came = threading.Event(), []

    def breaks_once(*_):
        came.append(age_of(stream.NAME, CLOCK.now()))
        if len(came) == 1:
            raise KeyError("nobody thought of it")
        stop.set()
        return True

    monkeypatch.setattr(stream, "_listen_once", breaks_once)
    stream.listen(stop, clock=CLOCK, rest=lambda _: None)
    assert came[1][0] == "waiting"
