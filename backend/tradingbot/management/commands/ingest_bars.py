"""``manage.py ingest_bars FILE...``: bars from CSV and Parquet files; the same file twice adds nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.data.frames import INTERVALS
from backend.tradingbot.management.speaking import operator, refusals
from backend.tradingbot.services.bar_files import ingest_file

WIDTH = 30


class ProgressBar:
    """One line that is written over in a terminal; elsewhere nothing but the end."""

    def __init__(self, name: str) -> None:
        self.name, self.total, self.began, self.shown = name, 0, time.monotonic(), 0.0

    def __call__(self, stage: str, rows: int) -> None:
        if stage == "checking":
            self.total = rows
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self.shown < 0.1:
            return
        self.shown = now
        share = min(rows / self.total, 1) if stage == "storing" and self.total else 0
        bar = "#" * int(share * WIDTH)
        percent = f" {share:4.0%}" if share else ""
        print(
            f"\r{self.name} {stage} [{bar:<{WIDTH}}]{percent} {rows:,} rows", end="\033[K", file=sys.stderr, flush=True
        )

    def end(self) -> float:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        return max(time.monotonic() - self.began, 1e-6)


class Command(BaseCommand):
    help = "Store bars from CSV and Parquet files. A run that broke off goes on where it was; nothing is overwritten."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--symbol", help="the symbol of a file without such a column")
        parser.add_argument("--interval", choices=list(INTERVALS), help="the interval of a file without such a column")
        parser.add_argument("--timezone", help="the zone of times without one, for example America/New_York")
        parser.add_argument(
            "--feed", help="a second source: its bars are kept apart and compared with those that count"
        )
        parser.add_argument("--strict", action="store_true", help="refuse a file with unknown columns")

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            reading = Reading(options["symbol"], options["interval"], options["timezone"], options["strict"])
            for path in options["files"]:
                bar = ProgressBar(path.name)
                try:
                    done = ingest_file(
                        path, reading, actor=operator(), clock=SYSTEM_CLOCK, progress=bar, feed=options["feed"]
                    )
                finally:
                    seconds = bar.end()
                speed = f"{(done.rows - done.resumed_at) / seconds:,.0f} rows/s"
                resumed = f", went on from row {done.resumed_at:,}" if done.resumed_at else ""
                self.stdout.write(
                    f"{path.name}: {done.rows:,} rows: {done.stored:,} stored, {done.unchanged:,} there already, "
                    f"{done.conflicts:,} in conflict, {done.refused:,} refused ({speed}{resumed})"
                )
                if done.conflicts or done.refused:
                    self.stderr.write(f"{path.name}: see GET data-quality for the symbols that this stopped")
