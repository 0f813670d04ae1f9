"""Keeps Alpaca's market data stream flowing into the same doors that the API has: ticks are judged, bars are kept.

Invariants: nothing that the stream says is taken unchecked; a broken session is begun again, ever more patiently; what
was missed in between stays missed, and age, silence and missing bars say so.
"""

from __future__ import annotations

import threading
from time import monotonic

import structlog
from django.conf import settings
from django.db import Error, close_old_connections
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from backend.tradingbot.brokers.alpaca_data import Heard, StreamRefusedError, hello, subscription
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.core.market_parsing import MAX_ROWS
from backend.tradingbot.models import Feed
from backend.tradingbot.services.bars import post_bars
from backend.tradingbot.services.market_data import post_ticks

log = structlog.get_logger(__name__)

ACTOR = "alpaca-stream"
HAND_ON_SECONDS, LONGEST_WAIT, OPEN_SECONDS = 0.25, 30.0, 10.0


def run_stream(url: str, stop: threading.Event, *, clock: Clock) -> None:
    """Stream until ``stop`` is set."""
    wait = 1.0
    while not stop.is_set():
        began = monotonic()
        try:
            _session(url, stop, clock)
        except (OSError, WebSocketException, TradingbotError, Error) as error:
            log.warning("data_stream_broken", problem=f"{type(error).__name__}: {error}"[:300])
            close_old_connections()
        wait = 1.0 if monotonic() - began > LONGEST_WAIT else min(2 * wait, LONGEST_WAIT)
        stop.wait(wait)


def _session(url: str, stop: threading.Event, clock: Clock) -> None:
    config = settings.TRADINGBOT
    symbols = sorted({symbol for feed in Feed.objects.filter(active=True) for symbol in feed.symbols})
    if not symbols:
        log.info("data_stream_waits", problem="no active feed declares a symbol")
        return
    heard = Heard()
    with connect(url, open_timeout=OPEN_SECONDS, max_size=8 * 1024 * 1024) as stream:
        stream.send(hello(config.alpaca_api_key.get_secret_value(), config.alpaca_secret_key.get_secret_value()))
        _wait_for_yes(stream, heard)
        stream.send(subscription(symbols))
        log.info("data_stream_open", symbols=len(symbols))
        while not stop.is_set():
            _listen(stream, heard)
            _hand_on(heard, frozenset(symbols), clock)


def _wait_for_yes(stream: ClientConnection, heard: Heard) -> None:
    until = monotonic() + OPEN_SECONDS
    while not heard.authenticated:
        if monotonic() > until:
            raise StreamRefusedError("no answer to the keys", remedy="see ALPACA_DATA_URL")
        heard.hear(stream.recv(timeout=OPEN_SECONDS))


def _listen(stream: ClientConnection, heard: Heard) -> None:
    """A quarter of a second of frames, or as many as make a batch."""
    until = monotonic() + HAND_ON_SECONDS
    while len(heard.ticks) < MAX_ROWS // 2 and (left := until - monotonic()) > 0:
        try:
            heard.hear(stream.recv(timeout=left))
        except TimeoutError:
            return


def _hand_on(heard: Heard, symbols: frozenset[str], clock: Clock) -> None:
    ticks, heard.ticks = heard.ticks, []
    bars, heard.bars = heard.bars, []
    for start in range(0, len(ticks), MAX_ROWS):
        post_ticks({"ticks": ticks[start : start + MAX_ROWS]}, may_feed=symbols, clock=clock, actor=ACTOR)
    for start in range(0, len(bars), MAX_ROWS):
        post_bars({"bars": bars[start : start + MAX_ROWS]}, may_feed=symbols, clock=clock, actor=ACTOR)
    if heard.unknown:
        log.warning("data_stream_not_understood", frames=heard.unknown)
        heard.unknown = 0
