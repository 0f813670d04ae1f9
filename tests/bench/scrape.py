"""Scrape /metrics as Prometheus does, from a process of its own: ``python -m tests.bench.scrape URL SECONDS``.

Prints one line of JSON: ``seconds`` of each scrape, from the request to the last byte, and the ``series`` of the last.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]
PAUSE_SECONDS = 0.5


@dataclass
class Scrapes:
    seconds: list[float] = field(default_factory=list)
    series: int = 0


def scrape(url: str, seconds: float) -> Scrapes:
    seen, end = Scrapes(), time.monotonic() + seconds
    while time.monotonic() < end:
        sent = time.perf_counter()
        answer = requests.get(f"{url}/metrics", timeout=30)
        seen.seconds.append(time.perf_counter() - sent)
        answer.raise_for_status()
        seen.series = sum(1 for line in answer.text.splitlines() if line and not line.startswith("#"))
        time.sleep(PAUSE_SECONDS)
    return seen


@contextmanager
def scraping(url: str, seconds: float) -> Iterator[Scrapes]:
    """Scrape for ``seconds`` beside what the block does; the figures are there when the block is left."""
    command = [sys.executable, "-m", "tests.bench.scrape", url, str(seconds)]
    seen = Scrapes()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield seen
        out, _ = process.communicate(timeout=seconds + 60)
    if process.returncode:
        raise RuntimeError(f"the scraper ended with {process.returncode}")
    told = json.loads(out)
    seen.seconds, seen.series = told["seconds"], told["series"]


if __name__ == "__main__":
    found = scrape(sys.argv[1], float(sys.argv[2]))
    print(json.dumps({"seconds": found.seconds, "series": found.series}))
