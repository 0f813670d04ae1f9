"""A synthetic feed for the laptop: posts one batch of ticks a second through the API, as a real feed handler would.

Prices are a geometric random walk from a stated start, two hundredths of a percent a batch, so that a minute shows
movement; bid and ask stand one cent around the price. A batch that is refused is said and never resent: a
tick that is late is worth nothing. Only for BROKER=paper. Environment: STATE_DIR, and FEED_SECONDS (1) between batches.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

START = {"AAPL": Decimal("190.00"), "MSFT": Decimal("420.00"), "SPY": Decimal("560.00")}
CENT = Decimal("0.01")
STEP = 0.0002


def demo_env(path: Path) -> dict[str, str]:
    """The assignments of ``demo.env`` as a dictionary."""
    lines = (line.strip().partition("=") for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, _, value in lines if name}


def walk(price: Decimal, chance: random.Random) -> Decimal:
    """The next price: a step of two hundredths of a percent's standard deviation, never below a cent."""
    return max((price * Decimal(str(1 + chance.gauss(0, STEP)))).quantize(CENT), CENT)


def batch(prices: dict[str, Decimal], now: datetime) -> dict[str, list[dict[str, str]]]:
    """The body of one post: a tick a symbol, one cent wide on each side, 500 shares a tick."""
    moment = now.isoformat()
    rows = []
    for symbol, price in prices.items():
        quote = {"bid": str(max(price - CENT, CENT)), "ask": str(price + CENT)}
        rows.append({"symbol": symbol, "price": str(price), **quote, "size": "500", "time": moment})
    return {"ticks": rows}


def post(url: str, token: str, body: object) -> str | None:
    """Post once. What went wrong, or None."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as response:
            refused = json.load(response).get("refused")
            return f"refused: {refused}" if refused else None
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read()[:300].decode(errors='replace')}"
    except (OSError, ValueError) as error:
        return str(error)


def main() -> int:
    state = Path(os.environ.get("STATE_DIR") or ".state")
    seconds = float(os.environ.get("FEED_SECONDS") or 1)
    settings = demo_env(state / "demo.env")
    url, token = f"{settings['TRADINGBOT_URL']}/api/v1/market-data/ticks", settings["TRADINGBOT_TRADER_TOKEN"]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    chance, prices, failing = random.Random(), dict(START), False
    print(f"posting {', '.join(prices)} every {seconds:g} s", flush=True)
    while not stop.wait(seconds):
        prices = {symbol: walk(price, chance) for symbol, price in prices.items()}
        problem = post(url, token, batch(prices, datetime.now(UTC)))
        if problem and not failing:
            print(f"a batch was not taken: {problem}", flush=True)
        elif failing and not problem:
            print("batches are taken again", flush=True)
        failing = problem is not None
    return 0


if __name__ == "__main__":
    sys.exit(main())
