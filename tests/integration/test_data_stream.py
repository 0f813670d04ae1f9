"""Alpaca's data stream against a server of our own: judged ticks and kept bars, and again after a break."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from backend.tradingbot.brokers.alpaca_data import Heard, StreamRefusedError
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Bar
from backend.tradingbot.services import data_stream
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.feeds import declare_feed


def heard(*messages):
    found = Heard()
    found.hear(json.dumps(list(messages)))
    return found


def test_a_trade_and_a_quote_become_ticks_with_exact_numbers():
    found = Heard()
    found.hear('[{"T":"t","S":"AAPL","p":190.10,"s":5,"t":"2026-01-05T15:00:00.123456789Z"}]')
    found.hear('[{"T":"q","S":"AAPL","bp":190.09,"ap":190.11,"t":"2026-01-05T15:00:01Z"}]')
    assert found.ticks == [
        {"symbol": "AAPL", "price": "190.1", "size": "5", "time": "2026-01-05T15:00:00.123456789Z"},
        {"symbol": "AAPL", "price": "190.1", "time": "2026-01-05T15:00:01Z", "bid": "190.09", "ask": "190.11"},
    ]


def test_a_quote_before_any_trade_stands_at_its_middle_and_an_empty_side_is_no_quote():
    assert heard({"T": "q", "S": "A", "bp": 10, "ap": 10.01, "t": "x"}).ticks[0]["price"] == "10.005"
    assert heard({"T": "q", "S": "A", "bp": 0, "ap": 10.01, "t": "x"}).ticks == []


def test_an_error_ends_the_session_and_what_is_not_understood_is_counted():
    with pytest.raises(StreamRefusedError, match="402: auth failed"):
        heard({"T": "error", "code": 402, "msg": "auth failed"})
    found = heard({"T": "t", "S": "A"}, {"T": "status"}, 7, {"T": "success", "msg": "connected"})
    found.hear("{broken")
    assert (found.unknown, found.authenticated, found.ticks) == (4, False, [])


@pytest.mark.django_db(transaction=True)
def test_the_stream_feeds_ticks_and_bars_and_is_begun_again_after_a_break(settings):
    ensure_firm()
    hot_state()._redis.flushdb()
    now = datetime.now(UTC)
    declare_feed(code="alpaca", symbols=["AAPL"], max_silence_seconds=30, actor="t", reason="test", clock=SYSTEM_CLOCK)
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"broker": "alpaca"})
    sessions, stop = [], threading.Event()

    def alpaca(stream):
        stream.send('[{"T":"success","msg":"connected"}]')
        sessions.append([json.loads(stream.recv()), None])
        stream.send('[{"T":"success","msg":"authenticated"}]')
        sessions[-1][1] = json.loads(stream.recv())
        price = 189 + len(sessions) / 100
        stream.send(json.dumps([{"T": "t", "S": "AAPL", "p": price, "s": 1, "t": datetime.now(UTC).isoformat()}]))
        bar = {"T": "b", "S": "AAPL", "o": 1, "h": 2, "l": 0.5, "c": 1.5, "v": 10}
        stream.send(
            json.dumps([{**bar, "t": (now - timedelta(minutes=3)).replace(second=0, microsecond=0).isoformat()}])
        )
        if len(sessions) == 1:
            return  # the first session breaks off
        with pytest.raises(ConnectionClosed):
            stream.recv()

    def run():
        try:
            data_stream.run_stream(f"ws://127.0.0.1:{port}", stop, clock=SYSTEM_CLOCK)
        finally:
            connection.close()

    with serve(alpaca, "127.0.0.1", 0) as server:
        port = server.socket.getsockname()[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        worker = threading.Thread(target=run)
        worker.start()
        try:
            for _ in range(400):
                quote = hot_state().quote("AAPL")
                if quote is not None and quote.price == Decimal("189.02"):
                    break
                stop.wait(0.05)
        finally:
            stop.set()
            worker.join(20)
            server.shutdown()
    assert (quote.price, Bar.objects.count(), len(sessions)) == (Decimal("189.02"), 1, 2)
    login, wanted = sessions[1]
    assert (login["action"], wanted["trades"], wanted["bars"]) == ("auth", ["AAPL"], ["AAPL"])
