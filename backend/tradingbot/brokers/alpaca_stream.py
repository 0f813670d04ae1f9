"""Alpaca's trade_updates stream over a websocket: authenticate, listen, and hand the messages over raw.

Invariants: a stream that hands out messages has been authenticated and is listening; silence is told apart from the end
of the connection; there is no snapshot, so that whoever reads this has to ask for what happened before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from backend.tradingbot.core.errors import TradingbotError

LARGEST_MESSAGE = 4 * 1024 * 1024
TRADE_UPDATES = "trade_updates"


class StreamLostError(TradingbotError):
    """The stream could not be opened, or ended. The message says why; nothing is known of what happens from here on."""

    code = "stream_lost"


class StreamRefusedError(StreamLostError):
    """The broker does not accept the keys."""

    code = "stream_refused"


def stream_url(base_url: str) -> str:
    """``https://host`` as ``wss://host/stream``; ``http`` as ``ws``."""
    parts = urlsplit(base_url.rstrip("/").removesuffix("/v2").rstrip("/"))
    scheme = {"https": "wss", "http": "ws"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise StreamLostError(f"{base_url!r} is no http or https address", remedy="mend ALPACA_BASE_URL")
    return urlunsplit((scheme, parts.netloc, f"{parts.path}/stream", "", ""))


class TradeStream:
    """An open stream that is listening to trade updates."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def next(self, timeout: float) -> dict[str, Any] | None:
        """The data of the next trade update; None after ``timeout`` seconds of silence. Raises StreamLostError."""
        message = self._receive(timeout)
        if message is None or message.get("stream") != TRADE_UPDATES or not isinstance(message.get("data"), dict):
            return None
        return dict(message["data"])

    def open(self, api_key: str, secret_key: str, timeout: float) -> None:
        """Authenticate and listen; the answers have to come within ``timeout`` seconds each."""
        self._say({"action": "auth", "key": api_key, "secret": secret_key})
        answer = self._answer("authorization", timeout)
        if answer.get("status") != "authorized":
            raise StreamRefusedError(
                f"the broker's stream does not accept the keys ({answer.get('status')})",
                remedy="check ALPACA_API_KEY and ALPACA_SECRET_KEY",
            )
        self._say({"action": "listen", "data": {"streams": [TRADE_UPDATES]}})
        if TRADE_UPDATES not in (self._answer("listening", timeout).get("streams") or []):
            raise StreamLostError("the broker's stream does not offer trade updates")

    def _answer(self, name: str, timeout: float) -> dict[str, Any]:
        message = self._receive(timeout)
        if message is None or message.get("stream") != name or not isinstance(message.get("data"), dict):
            raise StreamLostError(f"the broker's stream did not answer {name}")
        return dict(message["data"])

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._socket.send(json.dumps(message))
        except (WebSocketException, OSError) as error:
            raise StreamLostError(f"the stream broke ({type(error).__name__})") from error

    def _receive(self, timeout: float) -> dict[str, Any] | None:
        """The next message, an empty one when it cannot be read, None when there was none in time."""
        try:
            frame = self._socket.recv(timeout)
        except TimeoutError:
            return None
        except (WebSocketException, OSError) as error:
            raise StreamLostError(f"the stream ended ({type(error).__name__})") from error
        try:
            message = json.loads(frame)
        except ValueError:
            return {}
        return message if isinstance(message, dict) else {}


@contextmanager
def trade_stream(base_url: str, api_key: str, secret_key: str, timeout: float) -> Iterator[TradeStream]:
    """A listening stream for the block. Raises StreamRefusedError for wrong keys, StreamLostError for all else."""
    url = stream_url(base_url)
    local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
    try:
        with connect(
            url, open_timeout=timeout, close_timeout=1, max_size=LARGEST_MESSAGE, ping_interval=10, ping_timeout=10,
            proxy=None if local else True,
        ) as socket:  # fmt: skip
            stream = TradeStream(socket)
            stream.open(api_key, secret_key, timeout)
            yield stream
    except (WebSocketException, OSError) as error:
        raise StreamLostError(f"the broker's stream cannot be reached ({type(error).__name__})") from error
