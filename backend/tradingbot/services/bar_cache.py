"""The cache of bars and what happens when a file in it is not what it was: quarantine, evidence, and stopped symbols.

Invariants: the stop and the record are committed before a file is moved; only bars that pass every hard check are
cached; nothing is fetched again by itself.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import perf_counter

import polars as pl
import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import FieldError, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import SYMBOL
from backend.tradingbot.data import calendar
from backend.tradingbot.data.cache import BarCache, Manifest, Mismatch
from backend.tradingbot.data.check_context import Context, Sessions
from backend.tradingbot.data.checks import check_bars, stops
from backend.tradingbot.data.frames import INTERVALS, micros
from backend.tradingbot.infra import metrics
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import CheckRun, Quarantine
from backend.tradingbot.selectors.bars import read_bars
from backend.tradingbot.selectors.corporate_actions import on_file
from backend.tradingbot.services import data_stops
from backend.tradingbot.services.data_checks import as_dict
from backend.tradingbot.services.data_stops import BY_CHECK, Stopping

log = structlog.get_logger(__name__)


def cache_folder() -> Path:
    return Path(settings.TRADINGBOT.state_dir) / "bar-cache"


def bar_cache() -> BarCache:
    return BarCache(cache_folder())


def check_cache(*, actor: str, clock: Clock) -> CheckRun:
    """Prove every cached file; what differs from its manifest goes into quarantine and stops its symbols."""
    started, began, cache = clock.now(), perf_counter(), bar_cache()
    names = cache.names()
    found = [_named(mismatch) for mismatch in cache.mismatches()]
    for mismatch in found:
        take_out(cache, mismatch, actor=actor, clock=clock)
    verdicts = [verdict for mismatch in found for verdict in mismatch.verdicts()]
    return CheckRun.objects.create(
        kind="cache",
        subject="cache",
        started_at=started,
        seconds=round(perf_counter() - began, 6),
        symbols=len({verdict.symbol for verdict in verdicts}),
        rows=len(names),
        hard=len(verdicts),
        warned=0,
        verdicts=[as_dict(verdict) for verdict in verdicts[:200]],
        build_id=build_id(),
    )


def _named(mismatch: Mismatch) -> Mismatch:
    """With the symbol that its name tells, where neither manifest nor rows can be read any more."""
    return mismatch if mismatch.symbols else replace(mismatch, symbols=tuple(symbols_named(mismatch.name)))


def symbols_named(name: str) -> list[str]:
    """The symbol in a name that ``cache_bars`` has given, or in that of its data file; none in any other."""
    parts = re.fullmatch(rf"(.+)-({'|'.join(INTERVALS)})(\.[0-9a-f]{{16}}\.parquet)?", name)
    symbol = parts[1].replace("_", "/") if parts else ""
    return [symbol] if SYMBOL.fullmatch(symbol) else []


def take_out(cache: BarCache, mismatch: Mismatch, *, actor: str, clock: Clock) -> None:
    """Record and stop first, then move: a crash in between leaves the file to be found again, and the stop standing."""
    now = clock.now()
    verdicts = mismatch.verdicts()
    with transaction.atomic():
        Quarantine.objects.create(
            kind="file",
            name=mismatch.name[:255],
            symbols=list(mismatch.symbols),
            evidence={**verdicts[0].evidence, "files": list(mismatch.files)},
            at=now,
            trace_id=TRACE_ID.get(),
            build_id=build_id(),
        )
        stoppings = [Stopping(v.symbol, v.check, now, v.evidence) for v in verdicts if v.symbol != "*"]
        data_stops.keep(stoppings, data_stops.CACHE, actor=actor, clock=clock, why=BY_CHECK)
    for verdict in verdicts:
        metrics.VERDICTS.labels(verdict.check, verdict.severity.value).inc()
    log.error("cache_mismatch", file=mismatch.name, problem=mismatch.problem, symbols=list(mismatch.symbols))
    cache.set_aside(mismatch)


def cache_bars(symbol: str, interval: str, since: datetime, until: datetime, *, clock: Clock) -> Manifest:
    """Keep the stored bars of one symbol as a file. Raises NotFoundError without any, InvalidInputError for bars that
    a hard check refuses."""
    if interval not in INTERVALS:
        allowed = ", ".join(INTERVALS)
        raise InvalidInputError([FieldError("interval", interval, "is not a known interval", f"use {allowed}")])
    frame = read_bars([symbol], interval, since, until)
    if not len(frame):
        raise NotFoundError(f"there are no {interval} bars of {symbol} in that time", remedy="ingest them first")
    name = calendar.ROUND_THE_CLOCK if "/" in symbol else calendar.XNYS
    first, last = micros(frame["time"][0]), micros(frame["time"][-1])
    sessions = Sessions.between(first, last, name)
    context = Context(sessions=sessions, interval=INTERVALS[interval], actions=on_file([symbol]))
    refused = stops(check_bars(frame, context))
    if refused:
        worst = refused[0]
        problem = f"fail the check {worst.check} in {worst.rows} row(s)"
        raise InvalidInputError([FieldError("bars", symbol, problem, "mend the bars, then cache them")])
    whole = frame.with_columns(interval=pl.lit(interval))
    file = f"{symbol.replace('/', '_')}-{interval}"
    return bar_cache().write(file, whole, source="tradingbot_bar", now=clock.now())
