"""The last tick of each symbol and the rate windows, in Valkey: one round trip a read, a batch or an order; no answer
is an error, never a guess.

A rate window is a hash of whole seconds to counts, so it forgets up to a second late, never early. One script reads the
ticks and the windows and counts the order, at most once for its id; a look without counting writes nothing and answers
as if the order had been counted.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings

from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.risk.gates import Quote

RATE_WINDOW_SECONDS = 60
REMEMBER_IDS_SECONDS = 86_400
KEYS_USED = "keys:used"
MARKET_SCRIPT = """
local ticks = tonumber(ARGV[1])
local second, window, consume = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local last = #KEYS
local first_time = redis.call('EXISTS', KEYS[last]) == 0
if consume and first_time then
  redis.call('SET', KEYS[last], 1, 'EX', ARGV[5])
end
local answer = {}
for i = 1, ticks do
  answer[i] = redis.call('GET', KEYS[i])
end
for i = ticks + 1, last - 1 do
  local flat, kept = redis.call('HGETALL', KEYS[i]), {}
  local here = 0
  for j = 1, #flat, 2 do
    local at, count = tonumber(flat[j]), tonumber(flat[j + 1])
    if at < second - window then
      if consume then redis.call('HDEL', KEYS[i], flat[j]) end
    elseif at == second then
      here = count
    else
      kept[#kept + 1] = flat[j] .. ':' .. flat[j + 1]
    end
  end
  if first_time then
    here = here + 1
    if consume then
      redis.call('HSET', KEYS[i], ARGV[2], here)
      redis.call('EXPIRE', KEYS[i], 2 * window)
    end
  end
  if here > 0 then kept[#kept + 1] = ARGV[2] .. ':' .. here end
  answer[i] = table.concat(kept, ' ')
end
return answer
"""


@dataclass(frozen=True)
class Market:
    """One round trip's answer: the last tick by symbol, each window's (second, count) pairs, oldest first, and what
    could not be read."""

    quotes: dict[str, Quote | None]
    windows: tuple[tuple[tuple[int, int], ...], ...]
    problems: tuple[str, ...]


# A track is "<16 hex digits of a token>:<state>". Both keys of a symbol change together, and only when the caller had
# met the track that is there; else the caller is told what is there.
EXCHANGE_SCRIPT = """
local met_others = {}
for i = 1, #KEYS / 2 do
  local track, tick = KEYS[2 * i - 1], KEYS[2 * i]
  local held = redis.call('GET', track) or ''
  if string.sub(held, 1, 16) == ARGV[3 * i - 2] then
    redis.call('SET', track, ARGV[3 * i - 1])
    if ARGV[3 * i] ~= '' then redis.call('SET', tick, ARGV[3 * i]) end
  else
    met_others[#met_others + 1] = i
    met_others[#met_others + 1] = held
  end
end
return met_others
"""
TOKEN_LENGTH, MET_TRACKS = 16, 20_000


@dataclass(frozen=True)
class MetTrack:
    """A track as it was met: the token that it bore, and the state; both empty when there was none."""

    token: str = ""
    state: str = ""


NO_TRACK = MetTrack()
_met: dict[tuple[str, str], MetTrack] = {}  # by (store, symbol), as this process met it last


@dataclass(frozen=True)
class TrackUpdate:
    """``state`` replaces the track that bore the token ``met``; ``shown`` is what a reader of the last tick sees, None
    leaves it."""

    met: str
    state: str
    shown: dict[str, Any] | None


@lru_cache(maxsize=4)
def _client(url: str, timeout: float) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, decode_responses=True, health_check_interval=0
    )


def hot_state() -> HotState:
    """The store of this installation."""
    config = settings.TRADINGBOT
    return HotState(config.redis_url.get_secret_value(), config.store_timeout_seconds)


class HotState:
    """Ticks by symbol in the store at ``url``; every call is bounded by ``timeout`` seconds."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
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

    def market(
        self, symbols: Sequence[str], windows: Sequence[str], order: str, now: Decimal, *, consume: bool
    ) -> Market:
        """The last ticks of ``symbols`` and the orders of the last 60 s in each of ``windows``, ``order`` included.

        ``order`` is counted when ``consume`` and its id comes for the first time. Raises UnavailableError.
        """
        keys = [f"tick:{symbol}" for symbol in symbols] + [f"rate:{name}" for name in windows] + [f"seen:{order}"]
        arguments = [len(symbols), int(now), RATE_WINDOW_SECONDS, int(consume), REMEMBER_IDS_SECONDS]
        script = _script(self._redis)
        found: Any = self._call(lambda: script(keys=keys, args=arguments))
        quotes, problems = {}, []
        for symbol, raw in zip(symbols, found, strict=False):
            quotes[symbol] = None if raw is None else _read(raw)
            if raw is not None and quotes[symbol] is None:
                problems.append(f"the stored tick of {symbol} cannot be read")
        return Market(quotes, tuple(_pairs(text) for text in found[len(symbols) :]), tuple(problems))

    def met_track(self, symbol: str) -> MetTrack:
        """The track of ``symbol`` as this process met it last, without asking."""
        return _met.get((self._url, symbol), NO_TRACK)

    def exchange(self, updates: Mapping[str, TrackUpdate]) -> list[str]:
        """Write each state whose track still bears the token that was met, all in one round trip.

        Returns the symbols that somebody else wrote in between: nothing was written for them, their tracks as they are
        now have been met, and the caller judges again. Raises UnavailableError.
        """
        if not updates:
            return []
        symbols, met, arguments = list(updates), {}, []
        for symbol, update in updates.items():
            met[symbol] = MetTrack(secrets.token_hex(TOKEN_LENGTH // 2), update.state)
            shown = "" if update.shown is None else json.dumps(update.shown)
            arguments += [update.met, f"{met[symbol].token}:{update.state}", shown]
        keys = [key for symbol in symbols for key in (f"track:{symbol}", f"tick:{symbol}")]
        answer: Any = self._call(lambda: _exchange_script(self._redis)(keys=keys, args=arguments))
        others = {symbols[int(at) - 1]: held for at, held in zip(answer[::2], answer[1::2], strict=True)}
        met |= {symbol: MetTrack(held[:TOKEN_LENGTH], held[TOKEN_LENGTH + 1 :]) for symbol, held in others.items()}
        if len(_met) > MET_TRACKS:
            _met.clear()
        _met.update({(self._url, symbol): track for symbol, track in met.items()})
        return list(others)

    def forget(self, symbol: str) -> None:
        """Remove the last tick and the track of ``symbol``: the next tick is its first."""
        self._call(lambda: self._redis.delete(f"track:{symbol}", f"tick:{symbol}"))

    def counted(self, window: str, now: Decimal) -> int:
        """How many orders a window holds now; nothing is written. Raises UnavailableError."""
        found: Any = self._call(lambda: self._redis.hgetall(f"rate:{window}"))
        oldest = int(now) - RATE_WINDOW_SECONDS
        return sum(int(count) for second, count in found.items() if int(second) >= oldest)

    def store(self, ticks: Iterable[tuple[str, dict[str, str | None]]]) -> None:
        """Write ``(symbol, {price, bid, ask, as_of})`` in one round trip."""
        mapping = {f"tick:{symbol}": json.dumps(row) for symbol, row in ticks}
        if mapping:
            self._call(lambda: self._redis.mset(mapping))

    def waiting(self, queues: Sequence[str]) -> dict[str, int]:
        """How many tasks wait in each of ``queues``, in one round trip. Raises UnavailableError."""

        def count() -> Any:
            with self._redis.pipeline(transaction=False) as pipe:
                for name in queues:
                    pipe.llen(name)
                return pipe.execute()

        return dict(zip(queues, self._call(count), strict=True))

    def note_key_use(self, key_id: int, at: str) -> None:
        """Remember when a key was last seen, until ``take_key_uses``."""
        self._call(lambda: self._redis.hset(KEYS_USED, str(key_id), at))

    def take_key_uses(self) -> dict[int, str]:
        """What was noted since the last time, by the key's id; it is forgotten here."""

        def take() -> Any:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(KEYS_USED)
                pipe.delete(KEYS_USED)
                return pipe.execute()[0]

        found: Any = self._call(take)
        return {int(key_id): str(at) for key_id, at in found.items()}

    def _call(self, action: Any) -> Any:
        try:
            return action()
        except redis.RedisError as error:
            raise UnavailableError(
                f"the market data store does not answer ({type(error).__name__})",
                code="market_data_unavailable",
                remedy="retry when the store is back",
            ) from None


@lru_cache(maxsize=4)
def _script(client: redis.Redis) -> Any:
    return client.register_script(MARKET_SCRIPT)


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (pair.partition(":") for pair in text.split())
    return tuple(sorted((int(second), int(count)) for second, _, count in pairs))


def _exchange_script(client: redis.Redis) -> Any:
    return client.register_script(EXCHANGE_SCRIPT)


def _read(raw: str) -> Quote | None:
    """A stored tick; None when it cannot be read."""
    try:
        row = json.loads(raw)
        stop = row.get("stop")
        return Quote(
            price=Decimal(row["price"]),
            bid=Decimal(row["bid"]) if row["bid"] else None,
            ask=Decimal(row["ask"]) if row["ask"] else None,
            as_of=datetime.fromisoformat(row["as_of"]),
            stopped_by=None if stop is None else str(stop["check"]),
        )
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None
