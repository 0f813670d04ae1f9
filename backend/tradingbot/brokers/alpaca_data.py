"""Alpaca's market data stream as rows of ticks and bars: what it says, exactly, and nothing made up.

Numbers stay the decimals that were sent. A trade carries the last quote of its symbol; a quote carries the last
trade's price, or its own middle before there was one. What is not understood is counted and passed over; an error ends
the session.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.core.values import plain

CENT_OF_A_CENT = Decimal("0.0001")


class StreamRefusedError(TradingbotError):
    """The stream said no: wrong keys, no subscription, too many connections."""

    code = "data_stream_refused"


def hello(key: str, secret: str) -> str:
    return json.dumps({"action": "auth", "key": key, "secret": secret})


def subscription(symbols: list[str]) -> str:
    return json.dumps({"action": "subscribe", "trades": symbols, "quotes": symbols, "bars": symbols})


@dataclass
class Heard:
    """What one session has heard and not handed on yet. ``authenticated`` once the keys were taken."""

    authenticated: bool = False
    ticks: list[dict[str, Any]] = field(default_factory=list)
    bars: list[dict[str, Any]] = field(default_factory=list)
    unknown: int = 0
    _trades: dict[str, Decimal] = field(default_factory=dict)
    _quotes: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)

    def hear(self, text: str | bytes) -> None:
        """Take one frame in. Raises StreamRefusedError when the stream says so."""
        try:
            messages = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        except ValueError:
            self.unknown += 1
            return
        for message in messages if isinstance(messages, list) else [messages]:
            try:
                self._take(message)
            except (KeyError, TypeError, AttributeError, ArithmeticError):
                self.unknown += 1

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["T"]
        if kind == "error":
            raise StreamRefusedError(f"{message.get('code')}: {message.get('msg')}", remedy="see the keys and the plan")
        if kind == "success":
            self.authenticated |= message.get("msg") == "authenticated"
        elif kind == "t":
            self._trades[message["S"]] = message["p"]
            self._tick(message["S"], message["p"], message["t"], message.get("s"))
        elif kind == "q":
            self._quote(message)
        elif kind == "b":
            names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
            values = {name: plain(message[short]) for name, short in names.items()}
            self.bars.append({"symbol": message["S"], "interval": "1m", "time": message["t"], **values})
        elif kind != "subscription":
            self.unknown += 1

    def _quote(self, message: dict[str, Any]) -> None:
        """One side can be empty (price 0): such a quote is no quote."""
        symbol, bid, ask = message["S"], message["bp"], message["ap"]
        if bid <= 0 or ask <= 0:
            self._quotes.pop(symbol, None)
            return
        self._quotes[symbol] = (bid, ask)
        middle = ((bid + ask) / 2).quantize(CENT_OF_A_CENT)
        self._tick(symbol, self._trades.get(symbol, middle), message["t"], None)

    def _tick(self, symbol: str, price: Decimal, time: str, size: Decimal | None) -> None:
        row: dict[str, Any] = {"symbol": symbol, "price": plain(price), "time": time}
        if size is not None and size > 0:
            row["size"] = plain(size)
        if symbol in self._quotes:
            bid, ask = self._quotes[symbol]
            row |= {"bid": plain(bid), "ask": plain(ask)}
        self.ticks.append(row)
