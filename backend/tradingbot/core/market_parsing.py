"""Ticks and bars as they come in, row by row: each becomes values or a list of what is wrong with it, never both.

Numbers are decimal strings, times RFC 3339 with a zone. A row is told apart by its place in the batch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from datetime import time as clock_time
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.errors import FieldError, FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_decimal, parse_symbol, parse_time

MAX_ROWS = 10_000
TICK_FIELDS = frozenset({"symbol", "price", "size", "bid", "ask", "time"})
TICK_PRICES = ("price", "bid", "ask")
BAR_VALUES = ("open", "high", "low", "close", "volume")
BAR_FIELDS = frozenset({"symbol", "interval", "time", *BAR_VALUES})
MIDNIGHT = clock_time(0)
INTERVALS = ("1m", "5m", "15m", "30m", "1h", "1d")


@dataclass(frozen=True, slots=True)
class TickRow:
    row: int
    symbol: str
    price: Decimal
    bid: Decimal | None
    ask: Decimal | None
    time: datetime
    size: Decimal | None = None


@dataclass(frozen=True, slots=True)
class BarRow:
    row: int
    symbol: str
    interval: str
    time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that was not taken. ``symbol`` is known when the row named one that may be fed; ``bad_price`` says that one
    of its prices, and nothing else, was wrong."""

    row: int
    errors: tuple[FieldError, ...]
    symbol: str = ""
    bad_price: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"row": self.row, "errors": [error.as_dict() for error in self.errors]}


def rows_of(body: Any, name: str) -> list[Any]:
    """The list ``name`` of a batch, of 1 to 10,000 rows. Raises InvalidInputError."""
    rows = body.get(name) if isinstance(body, dict) else None
    unknown = sorted(body.keys() - {name}) if isinstance(body, dict) else []
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS:
        problem = f"must be a list of 1 to {MAX_ROWS} {name}"
        shown = len(rows) if isinstance(rows, list) else rows
        raise InvalidInputError([FieldError(name, shown, problem, f'send {{"{name}": [...]}}')])
    if unknown:
        raise InvalidInputError([FieldError(unknown[0], body[unknown[0]], "is not a known field", f"send only {name}")])
    return rows


def parse_tick(raw: Any, row: int, may_feed: Collection[str]) -> TickRow | RefusedRow:
    """``{symbol, price, bid?, ask?, size?, time}``."""
    errors, where = FieldErrors(), f"ticks[{row}]"
    symbol = _start(raw, where, TICK_FIELDS, may_feed, errors)
    if not isinstance(raw, dict):
        return RefusedRow(row, tuple(errors.errors))
    time = parse_time(raw.get("time"), f"{where}.time", errors)
    size = None if raw.get("size") is None else parse_decimal(raw["size"], f"{where}.size", errors)
    sound = not errors
    price = parse_decimal(raw.get("price"), f"{where}.price", errors)
    bid = None if raw.get("bid") is None else parse_decimal(raw["bid"], f"{where}.bid", errors)
    ask = None if raw.get("ask") is None else parse_decimal(raw["ask"], f"{where}.ask", errors)
    if price is None or time is None or errors:
        return RefusedRow(row, tuple(errors.errors), symbol, sound)
    return TickRow(row, symbol, price, bid, ask, time, size)


def parse_bar(raw: Any, row: int, may_feed: Collection[str]) -> BarRow | RefusedRow:
    """``{symbol, interval, time, open, high, low, close, volume}``; a daily bar's time is midnight UTC of its date."""
    errors, where = FieldErrors(), f"bars[{row}]"
    symbol = _start(raw, where, BAR_FIELDS, may_feed, errors)
    if not isinstance(raw, dict):
        return RefusedRow(row, tuple(errors.errors))
    interval = raw.get("interval")
    if interval not in INTERVALS:
        errors.add(f"{where}.interval", interval, "is not a known interval", "use " + ", ".join(INTERVALS))
    time = parse_time(raw.get("time"), f"{where}.time", errors)
    if (
        time is not None
        and interval == "1d"
        and (time.hour, time.minute, time.second, time.microsecond) != (0, 0, 0, 0)
    ):
        errors.add(f"{where}.time", raw.get("time"), "is not midnight UTC", "a daily bar bears its trading date")
    sound = not errors
    values = {name: parse_decimal(raw.get(name), f"{where}.{name}", errors, positive=False) for name in BAR_VALUES}
    for name, value in values.items():
        if value is not None and (value < 0 or (value == 0 and name != "volume")):
            least = "zero or more" if name == "volume" else "greater than zero"
            errors.add(f"{where}.{name}", raw[name], f"must be {least}", "look at the source")
    exact = {name: value for name, value in values.items() if value is not None}
    if len(exact) == len(BAR_VALUES) and not errors:
        _check_shape(exact, where, errors)
    if time is None or errors:
        return RefusedRow(row, tuple(errors.errors), symbol, sound)
    return BarRow(row, symbol, str(interval), time, **exact)


def _start(raw: Any, where: str, known: frozenset[str], may_feed: Collection[str], errors: FieldErrors) -> str:
    """What ticks and bars have in common: an object, known fields, a symbol that this key may feed."""
    if not isinstance(raw, dict):
        errors.add(where, raw, "must be an object", "one object a row")
        return ""
    if not raw.keys() <= known:
        for name in sorted(raw.keys() - known):
            errors.add(f"{where}.{name}", raw[name], "is not a known field", "known: " + " ".join(sorted(known)))
    symbol = parse_symbol(raw.get("symbol"), f"{where}.symbol", errors)
    if symbol and symbol not in may_feed:
        shown = ", ".join(sorted(may_feed)[:10]) or "nothing"
        errors.add(f"{where}.symbol", symbol, "is not yours to feed", f"this key feeds {shown}")
        return ""
    return symbol


def _check_shape(values: dict[str, Decimal], where: str, errors: FieldErrors) -> None:
    body = (values["open"], values["close"])
    if values["low"] > min(body):
        errors.add(f"{where}.low", str(values["low"]), "is above the open or the close", "look at the source")
    if values["high"] < max(body):
        errors.add(f"{where}.high", str(values["high"]), "is below the open or the close", "look at the source")
