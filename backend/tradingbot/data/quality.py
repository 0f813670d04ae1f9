"""Market data you can trust, or an exception: staleness, jumps, missing and corrupted bars stop, they are never mended.

Works in plain Python. Invariants: the age of a tick is the greater of its wall clock and its monotonic age, so that a
clock step never makes old data fresh; construction counts as one tick, a grace of ``max_staleness_sec``; a refused
price never becomes the reference and makes nothing fresh. Every refusal is a TradingBlockedError whose message begins
with its code: DATA_STALE, DATA_EMPTY, DATA_INCOMPLETE, DATA_CORRUPTED, DATA_OUTLIER, PRICE_OUTLIER. Thread-safe.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import TradingBlockedError, TradingbotError
from backend.tradingbot.core.values import Verdict
from backend.tradingbot.data import frame_quality
from backend.tradingbot.data.frame_quality import DataBlockedError
from backend.tradingbot.data.price_jump import JumpRule, Outcome, PriceTrack, judge
from backend.tradingbot.data.robust import FEW, NORMAL_MAD, center_and_mad, tick_of

__all__ = ["DataBlockedError", "DataQualityMonitor", "OutlierDetector", "QualityCheckResult"]

LONGEST_STALENESS_SEC = 1e6
KEPT_PRICES = 150


class BadPriceError(DataBlockedError, ValueError):
    """A price that is no finite number above zero."""


@dataclass(frozen=True)
class QualityCheckResult:
    """One price and what was wrong with it."""

    symbol: str
    price: float
    timestamp: datetime
    is_valid: bool
    issues: list[str] = field(default_factory=list)


class OutlierDetector:
    """Whether a price is out of line with the last ``window_size`` prices, by the robust z of its return."""

    def __init__(self, window_size: int = 20, z_threshold: float = 3.0) -> None:
        if isinstance(window_size, bool) or not isinstance(window_size, int) or window_size < FEW:
            raise ValueError(f"window_size must be a whole number from {FEW} up, not {window_size!r}")
        self.window_size = window_size
        self.z_threshold = _positive("z_threshold", z_threshold)
        self.prices: deque[float] = deque(maxlen=window_size)

    def add_price(self, price: float) -> None:
        """Take ``price`` into the window. Raises BadPriceError for what is no price."""
        self.prices.append(_price("UNKNOWN", price))

    def is_outlier(self, price: float) -> bool:
        """False while fewer than five prices are known; True for what is no price at all."""
        try:
            value = _price("UNKNOWN", price)
        except (TypeError, ValueError):
            return True
        if len(self.prices) < FEW:
            return False
        last = self.prices[-1]
        center, mad = center_and_mad(self._returns())
        z = NORMAL_MAD * abs(value / last - 1 - center) / max(mad, tick_of(last) / last)
        return z > self.z_threshold

    def get_statistics(self) -> dict[str, float]:
        """``mean_return`` and ``std_return`` (sample) of the window's simple returns, ``sample_size`` in returns."""
        returns = self._returns()
        size = len(returns)
        mean = math.fsum(returns) / size if size else 0.0
        variance = math.fsum((value - mean) ** 2 for value in returns) / (size - 1) if size > 1 else 0.0
        return {"mean_return": mean, "std_return": math.sqrt(variance), "sample_size": size}

    def _returns(self) -> list[float]:
        prices = list(self.prices)
        return [after / before - 1 for before, after in zip(prices, prices[1:], strict=False)]


class DataQualityMonitor:
    """Hard stops for staleness, jumps, and missing or corrupted bars.

    ``max_staleness_sec`` in seconds, above 0 and below 1e6; ``max_return_z`` is the robust z (see ``robust``).
    Bars are judged against XNYS, those of a pair such as BTC/USD round the clock.
    """

    def __init__(
        self, max_staleness_sec: float = 20, max_return_z: float = 6.0, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.max_staleness_sec = _positive("max_staleness_sec", max_staleness_sec)
        if self.max_staleness_sec >= LONGEST_STALENESS_SEC:
            raise ValueError("max_staleness_sec too large")
        self.max_return_z = _positive("max_return_z", max_return_z)
        self.last_prices: dict[str, float] = {}
        self.price_history: dict[str, list[float]] = {}
        self.outliers_detected = 0
        self._clock = clock
        self._lock = threading.RLock()
        self._rule = JumpRule(z_limit=self.max_return_z)
        self._tracks: dict[str, PriceTrack] = {}
        self._started = self._now()
        self._last_tick = self._started
        self._ticks: dict[str, tuple[float, float]] = {}

    def mark_tick(self, symbol: str | None = None) -> None:
        """A tick arrived. Without a symbol it speaks for the feed as a whole."""
        with self._lock:
            self._last_tick = self._now()
            if symbol is not None:
                self._ticks[symbol] = self._last_tick

    def assert_fresh(self, symbol: str | None = None) -> None:
        """Raises DATA_STALE when the last tick (of ``symbol``, once any symbol was named) is older than the limit."""
        age = self.get_staleness_seconds(symbol)
        if age > self.max_staleness_sec:
            whose = f"the last tick of {symbol}" if symbol else "the last tick"
            message = f"{whose} is {age:.1f} s old; the limit is {self.max_staleness_sec:g} s"
            raise _blocked("DATA_STALE", message, "wait for a fresh tick", age_seconds=age)

    def get_staleness_seconds(self, symbol: str | None = None) -> float:
        """Seconds since the last tick: of any symbol, or of ``symbol`` once ticks came with their symbols."""
        with self._lock:
            since = self._last_tick
            if symbol is not None and self._ticks:
                since = self._ticks.get(symbol, self._started)
            now = self._now()
            return max(now[0] - since[0], now[1] - since[1], 0.0)

    def status(self) -> dict[str, Any]:
        age = self.get_staleness_seconds()
        return {
            "staleness_sec": age,
            "max_staleness_sec": self.max_staleness_sec,
            "max_return_z": self.max_return_z,
            "is_fresh": age <= self.max_staleness_sec,
        }

    def check_all(self, bars: Any, symbol: str, *, session: date | None = None) -> None:
        """Freshness, then completeness, integrity and returns of ``bars``; raises for the first that fails.

        ``bars``: a pandas or polars frame, or a dict of columns, with Open High Low Close Volume; times are the
        DatetimeIndex or a column ``time``. ``session``: the only trading date that the bars may be from.
        """
        self.assert_fresh(symbol)
        self.assert_complete_bars(bars, symbol)
        self.assert_price_continuity(bars, symbol, session=session)
        self.assert_sane_returns(bars, symbol)

    def assert_complete_bars(self, bars: Any, symbol: str = "UNKNOWN") -> None:
        """DATA_EMPTY without a row; DATA_INCOMPLETE for a missing column, a NaN, or a gap against the calendar."""
        frame_quality.assert_complete(bars, symbol)

    def assert_price_continuity(self, bars: Any, symbol: str = "UNKNOWN", *, session: date | None = None) -> None:
        """DATA_CORRUPTED for impossible prices, shapes and volumes; times repeated, reversed, in the future, or of a
        day that is not ``session`` or has no session."""
        frame_quality.assert_intact(bars, symbol, now=self._clock.now(), session=session)

    def assert_sane_returns(self, bars: Any, symbol: str = "UNKNOWN") -> None:
        """DATA_OUTLIER when a close jumps by more than ``max_return_z`` and the next does not confirm it;
        DATA_CORRUPTED for a close that is no price.

        ``bars`` may also be the closes alone.
        """
        outliers = frame_quality.outliers(bars, symbol, self.max_return_z)
        if outliers:
            with self._lock:
                self.outliers_detected += sum(verdict.rows for verdict in outliers)
            raise _outlier(symbol, outliers[0])

    def validate_price(self, symbol: str, price: float) -> QualityCheckResult:
        """Take one price in; it counts as a tick when it is good.

        Raises BadPriceError (a ValueError) for what is no price, and PRICE_OUTLIER for a jump. A second price near
        the refused one confirms a gap and is accepted.
        """
        value = _price(symbol, price)
        with self._lock:
            track = self._tracks.get(symbol, PriceTrack())
            judged = judge(track, value, self._rule)
            self._tracks[symbol] = judged.track
            if judged.outcome is Outcome.REFUSED:
                self.outliers_detected += 1
                evidence = judged.evidence(track.reference, value)
                message = f"{symbol} {value:g} after {track.reference:g} is a move of {evidence['move']:+.2%}"
                remedy = "send the next tick: it confirms a gap or shows a bad print; or release the symbol"
                raise _blocked("PRICE_OUTLIER", f"{message}; the limit is {evidence['limit']:.2%}", remedy, **evidence)
            self.last_prices[symbol] = value
            history = self.price_history.setdefault(symbol, [])
            history.append(value)
            del history[:-KEPT_PRICES]
            self.mark_tick(symbol)
        return QualityCheckResult(symbol, value, self._clock.now(), True)

    def stopped_symbols(self) -> dict[str, float]:
        """The symbols whose last price was refused, with that price."""
        with self._lock:
            return {symbol: track.pending for symbol, track in self._tracks.items() if track.pending is not None}

    def release(self, symbol: str, actor: str, reason: str) -> None:
        """An operator lets ``symbol`` go on: what was known of its prices is forgotten, the next price is the first."""
        if not actor.strip() or not reason.strip():
            raise ValueError("release needs the actor's name and a reason")
        with self._lock:
            self._tracks.pop(symbol, None)

    def get_quality_report(self) -> dict[str, Any]:
        with self._lock:
            status = self.status()
            return {
                "symbols_tracked": len(self.last_prices),
                "total_price_points": sum(map(len, self.price_history.values())),
                "freshness_status": "FRESH" if status["is_fresh"] else "STALE",
                "outliers_detected": self.outliers_detected,
                "stopped_symbols": self.stopped_symbols(),
                **status,
            }

    def _now(self) -> tuple[float, float]:
        return self._clock.time(), self._clock.monotonic()


def _blocked(code: str, message: str, remedy: str, **details: Any) -> TradingBlockedError:
    return DataBlockedError(f"{code}: {message}", code=code, remedy=remedy, **details)


def _outlier(symbol: str, verdict: Verdict) -> TradingbotError:
    seen = verdict.evidence
    message = f"{symbol} moved {seen['worst_return']:+.2%} at {seen['worst']}; the limit is {seen['limit_return']:.2%}"
    return _blocked("DATA_OUTLIER", message, "look at the bar, and fetch it again from its source", **seen)


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        if isinstance(value, float) and value == math.inf:
            raise ValueError(f"{name} too large")
        raise ValueError(f"{name} must be positive")
    return value


def _price(symbol: str, price: Any) -> float:
    if price is None or isinstance(price, bool | str | bytes):
        raise TypeError(f"the price of {symbol} must be a number, not {price!r}")
    try:
        value = float(price)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"the price of {symbol} must be a number, not {price!r}") from None
    if not math.isfinite(value) or value <= 0:
        message = f"DATA_CORRUPTED: the price of {symbol} is {value!r}, not a finite number above zero"
        raise BadPriceError(message, code="DATA_CORRUPTED", remedy="look at the feed")
    return value
