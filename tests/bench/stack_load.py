"""A whole stack of its own under load: clients that post orders as fast as they are answered, and what they saw.

The clients run on the same machine as the stack and take their share of it; figures are for comparing settings within
one run. Nothing but 127.0.0.1 is spoken to, and a run ends after its seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import requests

from ops import processes, servers
from ops.feed import demo_env

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 180.0
CLIENTS = 8


@dataclass
class Seen:
    """What the clients saw: the seconds of each answered order, and the statuses."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lasted: float = 0.0

    def as_figures(self) -> dict[str, float]:
        return {
            "orders_per_second": len(self.seconds) / self.lasted,
            "p50_ms": median(self.seconds) * 1e3,
            "p99_ms": quantile(self.seconds, 0.99) * 1e3,
        }


def quantile(of: Sequence[float], share: float) -> float:
    ordered = sorted(of)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


@dataclass
class RunningStack:
    """`make up`, on a port and a directory of its own."""

    url: str
    state: Path
    settings: dict[str, str]

    def manage(self, *arguments: str) -> None:
        """One manage.py command beside it."""
        lines = (self.state / "stack.env").read_text().splitlines()
        environment = {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True, capture_output=True)

    def post(self, session: requests.Session, path: str, body: object) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.settings['TRADINGBOT_TRADER_TOKEN']}"}
        return session.post(f"{self.url}/api/v1/{path}", json=body, headers=headers, timeout=30)


@contextmanager
def stack(**settings: str) -> Iterator[RunningStack]:
    """Start a stack, yield it when it is ready, and take it down with its data."""
    port = servers.free_port()
    with tempfile.TemporaryDirectory(prefix="tradingbot-bench-", ignore_cleanup_errors=True) as directory:
        state = Path(directory)
        environment = {**os.environ, "PORT": str(port), "STATE_DIR": str(state), "LOG_LEVEL": "ERROR", **settings}
        for name in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"):
            environment.pop(name, None)
        log = (state / "log").open("w+")
        process = processes.spawn([sys.executable, "ops/stack.py"], cwd=ROOT, env=environment, output=log)
        try:
            deadline = time.monotonic() + READY_SECONDS
            while "The stack is ready" not in (state / "log").read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the stack did not start:\n" + (state / "log").read_text()[-2_000:])
                time.sleep(0.2)
            yield RunningStack(f"http://127.0.0.1:{port}", state, demo_env(state / "demo.env"))
        finally:
            processes.stop(process, grace_seconds=60.0)
            log.close()


def tick(running: RunningStack, session: requests.Session, symbols: Sequence[str]) -> None:
    now = datetime.now(UTC).isoformat()
    rows = [{"symbol": s, "price": "10.00", "bid": "10.00", "ask": "10.00", "time": now} for s in symbols]
    running.post(session, "market-data/ticks", {"ticks": rows}).raise_for_status()


def load(running: RunningStack, seconds: float, symbols: Sequence[str], rate: float = 0.0) -> Seen:
    """CLIENTS post orders for ``seconds``, each with an id of its own; ticks go on beside.

    ``rate`` is how many orders a second they post together at most, evenly; 0 is as fast as they are answered.
    """
    seen, lock, prefix = Seen(), threading.Lock(), f"load-{time.time_ns() % 10**9}"
    tick(running, requests.Session(), symbols)
    begun = time.monotonic()
    end = begun + seconds

    def trade(number: int) -> None:
        session, mine, statuses, count = requests.Session(), [], Counter[int](), 0
        order = {"account": "demo", "strategy": "demo", "side": "buy", "qty": "1", "type": "market"}
        if rate:
            time.sleep(number / rate)  # evenly, not all at the same instant
        while time.monotonic() < end:
            count += 1
            body = {**order, "client_order_id": f"{prefix}-{number}-{count}", "symbol": symbols[count % len(symbols)]}
            sent = time.perf_counter()
            statuses[running.post(session, "orders", body).status_code] += 1
            mine.append(time.perf_counter() - sent)
            if rate:
                time.sleep(max(begun + (number + count * CLIENTS) / rate - time.monotonic(), 0.0))
        with lock:
            seen.seconds += mine
            seen.statuses += statuses

    def feed() -> None:
        session = requests.Session()
        while time.monotonic() < end:
            tick(running, session, symbols)
            time.sleep(0.5)

    threads = [threading.Thread(target=trade, args=(number,)) for number in range(CLIENTS)]
    threads.append(threading.Thread(target=feed))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.lasted = time.monotonic() - begun
    return seen
