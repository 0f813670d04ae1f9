"""Figures of the whole stack over HTTP: orders a second by web workers, and what a scrape of /metrics costs then.

``make bench`` runs both; ``python -m tests.bench --only stack.bench_scaling`` one. Each starts stacks of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import requests

from tests.bench.measuring import Figure
from tests.bench.scrape import scraping
from tests.bench.stack_load import load, quantile, stack, tick

WORKERS = (1, 2, 4)
WARM_SECONDS, SECONDS = 3.0, 15.0
RATE = 20.0
DEMO = ["AAPL", "MSFT", "SPY"]
MANY = [f"T{number:03d}" for number in range(200)]
# 200 symbols that are traded, fed and halted one by one: as many series as they can make
WIDEN = """
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Account, ApiKey
from backend.tradingbot.services.breakers import ensure_breaker
from backend.tradingbot.services.feeds import change_feed
names = [f"T{number:03d}" for number in range(200)]
Account.objects.filter(code="demo").update(symbols=names)
ApiKey.objects.filter(name="demo-trader").update(feed_symbols=names)
change_feed("demo", {"symbols": names}, actor="bench", reason="two hundred symbols", clock=SYSTEM_CLOCK)
for name in names:
    ensure_breaker(f"symbol:{name}")
"""


def bench_scaling() -> Iterator[Figure]:
    for workers in WORKERS:
        with stack(WEB_WORKERS=str(workers)) as running:
            load(running, WARM_SECONDS, DEMO)
            seen = load(running, SECONDS, DEMO)
        if set(seen.statuses) - {201, 202}:
            raise RuntimeError(f"orders were refused: {dict(seen.statuses)}")
        for name, value in seen.as_figures().items():
            yield Figure(f"{workers} web workers: {name}", value, "", 1)


def bench_metrics() -> Iterator[Figure]:
    with stack() as running:
        running.manage("shell", "-c", WIDEN)
        tick(running, requests.Session(), MANY)
        load(running, WARM_SECONDS, MANY)
        with scraping(running.url, SECONDS) as busy:
            load(running, SECONDS, MANY, rate=RATE)
        with scraping(running.url, SECONDS) as idle:
            pass
    yield Figure("/metrics at 200 symbols: series", float(busy.series), "", 1)
    for name, scrapes in ((f"{RATE:.0f} orders/s", busy.seconds), ("idle", idle.seconds)):
        yield Figure(f"/metrics at 200 symbols, {name}: median", median(scrapes) * 1e3, "ms", len(scrapes))
        yield Figure(f"/metrics at 200 symbols, {name}: p90", quantile(scrapes, 0.9) * 1e3, "ms", len(scrapes))
        yield Figure(f"/metrics at 200 symbols, {name}: slowest", max(scrapes) * 1e3, "ms", len(scrapes))
