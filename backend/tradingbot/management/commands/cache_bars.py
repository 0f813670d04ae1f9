"""``manage.py cache_bars SYMBOL...``: keeps stored bars as Parquet files with manifests, for research and backtests."""

from __future__ import annotations

from datetime import UTC, datetime, time
from datetime import date as Date
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.data.frames import INTERVALS
from backend.tradingbot.management.speaking import refusals
from backend.tradingbot.services.bar_cache import cache_bars, cache_folder


def day(text: str) -> datetime:
    return datetime.combine(Date.fromisoformat(text), time(0), UTC)


class Command(BaseCommand):
    help = "Write the bars of each symbol to the cache; bars that a hard check refuses are not written."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("symbols", nargs="+", metavar="SYMBOL")
        parser.add_argument("--interval", choices=list(INTERVALS), default="1m")
        parser.add_argument("--since", type=day, default=day("1990-01-02"), metavar="YYYY-MM-DD")
        parser.add_argument(
            "--until", type=day, default=None, metavar="YYYY-MM-DD", help="not included; now by default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        until = options["until"] or SYSTEM_CLOCK.now()
        with refusals():
            for symbol in options["symbols"]:
                manifest = cache_bars(symbol, options["interval"], options["since"], until, clock=SYSTEM_CLOCK)
                self.stdout.write(f"{cache_folder() / manifest.file}: {manifest.rows:,} bars")
