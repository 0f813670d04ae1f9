"""The stream leg: trade updates as they happen, in a process of its own. Polling is the second leg and misses nothing.

Invariants: after every connect what happened before is read by REST, once the stream is listening; a message that could
not be taken in ends the connection, so that the next catch-up brings it; killing this process harms nothing.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.alpaca_stream import StreamLostError, TradeStream, trade_stream
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.brokers.updates import parse_trade_update
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.models import Account
from backend.tradingbot.services.heartbeats import beat
from backend.tradingbot.services.polling import poll_account
from backend.tradingbot.services.updates import take_update

log = structlog.get_logger(__name__)

NAME = "trade_updates"
SILENCE_SECONDS = 2.0  # a sign of life at least this often
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


def listen(stop: threading.Event, *, clock: Clock, rest: Callable[[float], Any] | None = None) -> None:
    """Listen until ``stop`` is set; whatever breaks, come back after a pause that doubles up to half a minute."""
    rest = rest or stop.wait
    pause = SHORTEST_PAUSE
    while not stop.is_set():
        try:
            heard = _listen_once(stop, clock)
            pause = SHORTEST_PAUSE if heard else pause
        except (DatabaseError, InterfaceError) as error:
            log.warning("stream_paused", problem=f"the database does not answer ({type(error).__name__})")
            connection.close()
        except TradingbotError as error:
            pause = SHORTEST_PAUSE if isinstance(error, StreamLostError) and error.details.get("heard") else pause
            log.warning("stream_paused", code=error.code, problem=error.message)
            _tell("waiting", error.message, clock)
        except Exception as error:  # polling goes on; a process that ends again and again would end the house
            log.exception("stream_failed")
            _tell("waiting", f"unexpected {type(error).__name__}, see the log", clock)
        if not stop.is_set():
            rest(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)
    _tell("stopped", "", clock)


def _listen_once(stop: threading.Event, clock: Clock) -> bool:
    """One connection to its end. Raises what ended it; True when it was asked to stop."""
    config = settings.TRADINGBOT
    client = execution_client(config)
    number = client.account_number()
    account = Account.objects.filter(active=True, broker_account=number).first()
    if account is None:
        raise StreamLostError(f"no active account here is the broker's {number}", remedy="set the account up")
    keys = (config.alpaca_api_key.get_secret_value(), config.alpaca_secret_key.get_secret_value())
    with trade_stream(config.alpaca_base_url, *keys, config.broker_read_timeout) as stream:
        poll_account(account, clock=clock)
        log.info("stream_listening", account=account.code)
        try:
            _consume(stop, stream, account, client, clock)
        except StreamLostError as error:
            error.details["heard"] = True
            raise
    return True


def _consume(stop: threading.Event, stream: TradeStream, account: Account, client: AlpacaClient, clock: Clock) -> None:
    beaten = clock.monotonic() - SILENCE_SECONDS
    while not stop.is_set():
        if clock.monotonic() - beaten >= SILENCE_SECONDS / 2:
            beat(NAME, "listening", account.code, clock=clock)
            beaten = clock.monotonic()
        data = stream.next(SILENCE_SECONDS)
        if data is None:
            continue
        try:
            update = parse_trade_update(data)
        except ValueError as error:
            # Somebody's order may have moved and we cannot say whose: ask.
            log.warning("update_unreadable", problem=str(error))
            poll_account(account, clock=clock)
            continue
        take_update(account, client, update, clock=clock)


def _tell(state: str, detail: str, clock: Clock) -> None:
    try:
        beat(NAME, state, detail, clock=clock)
    except (DatabaseError, InterfaceError):
        connection.close()
