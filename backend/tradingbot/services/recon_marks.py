"""Closing marks: what the statement values a holding at, else the last tick of about that moment, else unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl

from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.ops.recon_frames import Books

EARLIEST, LATEST = timedelta(days=1), timedelta(hours=1)


def close_marks(theirs: Books, ours: pl.DataFrame, cut: datetime, kept: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """A price a unit for every held symbol that has one; ``kept`` are those that the day was closed with before, which
    stand before newer ticks."""
    marks: dict[str, Decimal] = {}
    held = set(ours["symbol"])
    if theirs.positions is not None:
        held |= set(theirs.positions["symbol"])
        told = theirs.positions.filter(pl.col("mark").is_not_null()).select("symbol", "mark")
        marks |= dict(told.iter_rows())
    marks |= {symbol: kept[symbol] for symbol in held - marks.keys() if symbol in kept}
    return marks | last_prices(held - marks.keys(), cut)


def last_prices(symbols: Iterable[str], cut: datetime) -> dict[str, Decimal]:
    """The last ticks that are of about the time of ``cut``; a store that does not answer knows none."""
    wanted = sorted(symbols)
    if not wanted:
        return {}
    try:
        quotes = hot_state().quotes(wanted)
    except UnavailableError:
        return {}
    return {
        symbol: quote.price
        for symbol, quote in quotes.items()
        if quote is not None and cut - EARLIEST <= quote.as_of <= cut + LATEST
    }
