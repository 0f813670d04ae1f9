"""The last tick of each symbol, in Valkey: one round trip a read or a batch; no answer is an error, never a guess."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import redis

from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.risk.gates import Quote


@lru_cache(maxsize=4)
def _client(url: str, timeout: float) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, decode_responses=True, health_check_interval=0
    )


class HotState:
    """Ticks by symbol in the store at ``url``; every call is bounded by ``timeout`` seconds."""

    def __init__(self, url: str, timeout: float) -> None:
        self._redis = _client(url, timeout)

    def ping(self) -> None:
        self._call(self._redis.ping)

    def quote(self, symbol: str) -> Quote | None:
        """The last tick, None when there never was one; :class:`UnavailableError` when the store cannot say."""
        raw: Any = self._call(lambda: self._redis.get(f"tick:{symbol}"))
        if raw is None:
            return None
        quote = _read(raw)
        if quote is None:
            raise UnavailableError(f"the stored tick of {symbol} cannot be read", code="market_data_unreadable")
        return quote

    def quotes(self, symbols: Iterable[str]) -> dict[str, Quote | None]:
        """The last tick of each of ``symbols`` in one round trip; None for one never seen or not to be read.

        Raises UnavailableError when the store cannot say.
        """
        names = sorted(set(symbols))
        if not names:
            return {}
        found: Any = self._call(lambda: self._redis.mget([f"tick:{name}" for name in names]))
        return {name: None if raw is None else _read(raw) for name, raw in zip(names, found, strict=True)}

    def store(self, ticks: Iterable[tuple[str, dict[str, str | None]]]) -> None:
        """Write ``(symbol, {price, bid, ask, as_of})`` in one round trip."""
        mapping = {f"tick:{symbol}": json.dumps(row) for symbol, row in ticks}
        if mapping:
            self._call(lambda: self._redis.mset(mapping))

    def _call(self, action: Any) -> Any:
        try:
            return action()
        except redis.RedisError as error:
            raise UnavailableError(
                f"the market data store does not answer ({type(error).__name__})",
                code="market_data_unavailable",
                remedy="retry when the store is back",
            ) from None


def _read(raw: str) -> Quote | None:
    """A stored tick; None when it cannot be read."""
    try:
        row = json.loads(raw)
        return Quote(
            price=Decimal(row["price"]),
            bid=Decimal(row["bid"]) if row["bid"] else None,
            ask=Decimal(row["ask"]) if row["ask"] else None,
            as_of=datetime.fromisoformat(row["as_of"]),
        )
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None
