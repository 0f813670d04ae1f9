"""Clean market data by construction, for the tests of the checks: sessions of bars and ticks, from a seed."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from backend.tradingbot.data import calendar
from backend.tradingbot.data.checks import Context, Sessions
from backend.tradingbot.data.frames import MINUTE, micros

VALUES = ["open", "high", "low", "close", "volume"]


def some_sessions(seed: int, count: int = 1) -> list[calendar.Session]:
    """``count`` sessions in a row, from a day between 2015 and 2026 that the seed picks."""
    first = date(2015, 1, 2) + timedelta(days=seed % 4_000)
    return calendar.sessions_between(first, first + timedelta(days=count * 2 + 12))[:count]


def minutes(sessions: list[calendar.Session]) -> np.ndarray[Any, Any]:
    return np.concatenate([micros(s.opens_at) + np.arange(s.minutes, dtype=np.int64) * MINUTE for s in sessions])


def clean_bars(seed: int, sessions: list[calendar.Session], symbol: str = "AAPL") -> pl.DataFrame:
    """One-minute bars of whole sessions: prices in cents that move in each bar, and in none by much."""
    rng = np.random.default_rng(seed)
    times = minutes(sessions)
    steps = rng.integers(1, 6, len(times)) * rng.choice([-1, 1], len(times))
    close = 200_000 + np.cumsum(steps)
    opened = np.concatenate(([close[0]], close[:-1]))
    edge = rng.integers(0, 3, (2, len(times)))
    columns = {
        "open": opened / 100,
        "high": (np.maximum(opened, close) + edge[0]) / 100,
        "low": (np.minimum(opened, close) - edge[1]) / 100,
        "close": close / 100,
        "volume": rng.integers(1, 10_000, len(times)).astype(float),
    }
    return pl.DataFrame({"symbol": [symbol] * len(times), "time": as_utc(times), **columns})


def as_utc(times: np.ndarray[Any, Any]) -> pl.Series:
    return pl.Series("time", times, dtype=pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def clean_ticks(seed: int, session: calendar.Session, count: int = 400, symbol: str = "AAPL") -> pl.DataFrame:
    """Ticks one second apart from the open, with quotes around them that are 2 to 6 cents wide."""
    rng = np.random.default_rng(seed)
    times = micros(session.opens_at) + np.arange(count, dtype=np.int64) * 1_000_000
    price = 10_000 + np.cumsum(rng.integers(-3, 4, count))
    half = rng.integers(1, 4, count)
    columns = {"price": price / 100, "bid": (price - half) / 100, "ask": (price + half) / 100}
    return pl.DataFrame({"symbol": [symbol] * count, "time": as_utc(times), **columns})


def context(bars: pl.DataFrame, **changes: Any) -> Context:
    times = bars["time"].dt.epoch("us").to_numpy()
    sessions = Sessions.between(int(times.min()), int(times.max()))
    return Context(**{"sessions": sessions, "interval": MINUTE, **changes})


def changed(frame: pl.DataFrame, row: int, **values: Any) -> pl.DataFrame:
    """The frame with other values in one row."""
    picked = pl.int_range(pl.len()) == row
    return frame.with_columns(pl.when(picked).then(pl.lit(v)).otherwise(pl.col(k)).alias(k) for k, v in values.items())
