"""Strategies, a price feed and a risk officer, over HTTP, as they would be in real life.

A strategy repeats a request that got no usable answer (a timeout, a broken connection, a 5xx) with the SAME id until
it has one; it never invents a new id for an order whose fate it does not know. All that it was told is kept for the
judge.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import requests

from tests.chaos.judge import Answer

PATIENCE_SECONDS = 120.0
TIMEOUT = (2.0, 6.0)
FORCE_AFTER_SECONDS = 4.0


@dataclass
class Tally:
    """What all clients together saw; every method is safe from any thread."""

    answers: list[Answer] = field(default_factory=list)
    denials: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)
    unanswered: set[str] = field(default_factory=set)
    in_flight: Counter[str] = field(default_factory=Counter)
    twins: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, name: str) -> None:
        """A request about the order ``name`` leaves."""
        with self._lock:
            self.in_flight[name] += 1

    def end(self, name: str) -> None:
        """It is over, one way or the other."""
        with self._lock:
            self.in_flight[name] -= 1
            if not self.in_flight[name]:
                del self.in_flight[name]

    def now_in_flight(self) -> set[str]:
        """The ids that somebody waits for at this moment."""
        with self._lock:
            return set(self.in_flight)

    def answered(self, answer: Answer, body: dict[str, Any]) -> None:
        """Keep an answer; of a denial also the codes of the gates that failed."""
        with self._lock:
            self.answers.append(answer)
            if answer.status == "denied" and answer.http_status == 422:
                checks = body.get("order", {}).get("decision", {}).get("checks", [])
                self.denials.update({f"{check['gate']}: {check['code']}" for check in checks if not check["passed"]})

    def trouble(self, what: str) -> None:
        """A request got no usable answer."""
        with self._lock:
            self.troubles[what] += 1

    def reset(self, scope: str, reason: str) -> None:
        """The officer re-armed a breaker."""
        with self._lock:
            self.resets[f"{scope}: {reason}"] += 1


class Caller:
    """One client's HTTP session: a key, a base address and the timeouts of somebody who does not wait for ever."""

    def __init__(self, url: str, token: str) -> None:
        self._base = f"{url}/api/v1/"
        self._session = requests.Session()
        self._session.headers.update({"Authorization": f"Bearer {token}"})

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        """One request. Raises requests.RequestException."""
        return self._session.request(method, self._base + path, json=body, timeout=TIMEOUT)


class Strategy:
    """Posts orders in its own symbols, sells what it holds, cancels what rests; stops when told."""

    def __init__(self, name: str, symbols: list[str], house_url: str, token: str, tally: Tally, seed: str) -> None:
        self.name, self.symbols, self.tally = name, symbols, tally
        self._url, self._token = house_url, token
        self._caller = Caller(house_url, token)
        self._random = random.Random(f"{seed}/{name}")
        self._twins = ThreadPoolExecutor(2, thread_name_prefix=f"{name}-twin")
        self._held: Counter[str] = Counter()
        self._resting: list[tuple[str, str]] = []  # id and symbol
        self._sent: list[dict[str, Any]] = []
        self._count = 0

    def run(self, stop: threading.Event, prices: dict[str, Decimal], pause: float) -> None:
        """Trade until ``stop``; ``pause`` is the mean number of seconds between two orders."""
        while not stop.is_set():
            self.trade(prices)
            stop.wait(self._random.expovariate(1 / pause))
        self._twins.shutdown()

    def trade(self, prices: dict[str, Decimal]) -> None:
        """One order; now and then twice at once, and now and then the cancel of an older one."""
        body = self._next_order(prices)
        name = body["client_order_id"]
        twice = self.tally.twins.is_set() or self._random.random() < 0.1
        twin = self._twins.submit(self.post, Caller(self._url, self._token), body) if twice else None
        shown = self.post(self._caller, body)
        if twin is not None:
            twin.result()
        if shown and shown.get("status") not in (None, "denied", "rejected"):
            if body["type"] == "market":
                self._held[body["symbol"]] += int(body["qty"]) * (1 if body["side"] == "buy" else -1)
            else:
                self._resting.append((name, body["symbol"]))
        self._sent.append(body)
        if self._random.random() < 0.05:
            self.post(self._caller, self._random.choice(self._sent))  # as after a restart that lost its memory
        if len(self._resting) > 3:
            self.cancel(self._resting.pop(self._random.randrange(len(self._resting)))[0])

    def _next_order(self, prices: dict[str, Decimal]) -> dict[str, Any]:
        self._count += 1
        pick = self._random
        symbol = pick.choice(self.symbols)
        held, qty = self._held[symbol], pick.randint(1, 5)
        # Its own resting purchase would stop the sale: the gateway lets nobody trade with himself.
        selling = held > 0 and pick.random() < 0.6 and all(resting != symbol for _, resting in self._resting)
        body = {
            "client_order_id": f"{self.name}-{self._count:05d}",
            "account": "demo",
            "strategy": "demo",
            "symbol": symbol,
            "side": "sell" if selling else "buy",
            "qty": str(min(qty, held) if selling else qty),
            "type": "market",
        }
        if not selling and pick.random() < 0.3:
            away = Decimal("0.98") if pick.random() < 0.6 else Decimal("1.001")
            price = (prices[symbol] * away).quantize(Decimal("0.01"))
            body |= {"type": "limit", "limit_price": str(price), "time_in_force": "gtc"}
        return body

    def post(self, caller: Caller, body: dict[str, Any]) -> dict[str, Any] | None:
        """Post until there is an answer; the order as it was shown, None when patience ran out."""
        name, deadline = body["client_order_id"], time.monotonic() + PATIENCE_SECONDS
        self.tally.begin(name)
        try:
            while time.monotonic() < deadline:
                shown = self._try(caller, "POST", "orders", body, name)
                if shown is not None:
                    return shown
                time.sleep(self._random.uniform(0.2, 0.8))
        finally:
            self.tally.end(name)
        self.tally.unanswered.add(name)
        return None

    def _try(self, caller: Caller, method: str, path: str, body: Any, name: str) -> dict[str, Any] | None:
        """One request; the order it shows (empty when it shows none), None when it has to be repeated."""
        try:
            response = caller.call(method, path, body)
            told = response.json()
        except requests.RequestException as error:
            self.tally.trouble(type(error).__name__)
            return None
        if response.status_code >= 500 or response.status_code == 429:
            self.tally.trouble(f"{response.status_code} {told.get('code', '')}")
            return None
        order: dict[str, Any] = told.get("order", told)
        if "client_order_id" not in order:
            self.tally.trouble(f"{response.status_code} {told.get('code', '')}")
            return {}
        answer = Answer(name, response.status_code, str(order["status"]), order.get("broker_order_id"))
        self.tally.answered(answer, told)
        return order

    def cancel(self, name: str) -> None:
        """Ask for a cancel until there is an answer."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self.tally.begin(name)
        try:
            while time.monotonic() < deadline:
                if self._try(self._caller, "DELETE", f"orders/{name}?account=demo", None, name) is not None:
                    return
                time.sleep(self._random.uniform(0.2, 0.8))
        finally:
            self.tally.end(name)


class Feed:
    """Posts a tick of every symbol again and again; the prices wander by a seed."""

    def __init__(self, symbols: list[str], url: str, token: str, tally: Tally, seed: str) -> None:
        self.prices = {symbol: Decimal(20 + index % 50) for index, symbol in enumerate(symbols)}
        self.first_prices = dict(self.prices)
        self._caller, self._tally = Caller(url, token), tally
        self._random = random.Random(f"{seed}/feed")

    def run(self, stop: threading.Event, every: float) -> None:
        """Tick until ``stop``."""
        while not stop.is_set():
            self.tick()
            stop.wait(every)

    def tick(self) -> bool:
        """Move every price a little and post it. False when the gateway did not take it."""
        for symbol, price in self.prices.items():
            self.prices[symbol] = max(price + Decimal(self._random.randint(-2, 2)) / 100, Decimal(5))
        now = datetime.now(UTC).isoformat()
        cent = Decimal("0.01")
        ticks = [
            {"symbol": symbol, "price": str(p), "bid": str(p - cent), "ask": str(p + cent), "time": now}
            for symbol, p in self.prices.items()
        ]
        try:
            return self._caller.call("POST", "market-data/ticks", {"ticks": ticks}).status_code == 200
        except requests.RequestException as error:
            self._tally.trouble(f"feed {type(error).__name__}")
            return False


class Officer:
    """A risk officer: looks at the breakers and re-arms what tripped, with a reason, when the cooldown is over."""

    def __init__(self, url: str, token: str, tally: Tally) -> None:
        self._caller, self._tally = Caller(url, token), tally
        self._open_since: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop``."""
        while not stop.is_set():
            self.look()
            stop.wait(1.0)

    def look(self) -> int:
        """Reset what can be reset; how many breakers are open."""
        try:
            found = self._caller.call("GET", "breakers").json().get("breakers", [])
            tripped = [breaker for breaker in found if breaker["tripped"]]
            self._open_since = {b["scope"]: self._open_since.get(b["scope"], time.monotonic()) for b in tripped}
            for breaker in tripped:
                self._reset(breaker)
        except (requests.RequestException, ValueError) as error:
            self._tally.trouble(f"officer {type(error).__name__}")
            return -1
        return len(tripped)

    def _reset(self, breaker: dict[str, Any]) -> None:
        """Not inside the cooldown; and by force only when the cause has been looked at for a while and still counts."""
        if breaker["cooldown_remaining_sec"]:
            return
        force = time.monotonic() - self._open_since[breaker["scope"]] > FORCE_AFTER_SECONDS
        body = {"reason": "looked at: the fault is known", "force": force}
        answer = self._caller.call("POST", f"breakers/{breaker['scope']}/reset", body)
        if answer.status_code == 200:
            self._tally.reset(breaker["scope"], f"{breaker['reason']}{' (forced)' if force else ''}")
