"""Every check over a file of bars of any size: one piece at a time, each judged with the rows before it in view.

Invariants: memory is that of one piece and of the last rows of each symbol; what is said of a row is what the checks
say of the whole file, as far as the last ``TAIL`` rows of its symbol tell; nothing of the file is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data import calendar
from backend.tradingbot.data.bar_files import Reading, read_pieces
from backend.tradingbot.data.check_context import BAR_CHECKS, SHOWN, Context, Sessions, run
from backend.tradingbot.data.frames import DAY, INTERVALS, VALUES, Bars, Floats, SymbolBars, Times, moment
from backend.tradingbot.data.session_checks import trading_days

TAIL = 256
BUCKETS = 600
FLAGS = 400
MOST_OUTLINES = 50


@dataclass
class Outline:
    """A symbol's closes in at most ``2 * BUCKETS`` buckets of first time, low, high and last close."""

    per_bucket: int = 1
    buckets: list[tuple[int, float, float, float]] = field(default_factory=list)
    flags: list[tuple[int, float, str, str]] = field(default_factory=list)

    def add(self, times: Times, closes: Floats) -> None:
        known = np.isfinite(closes)
        times, closes = times[known], closes[known]
        if not len(closes):
            return
        starts = np.arange(0, len(closes), self.per_bucket)
        ends = np.append(starts[1:], len(closes)) - 1
        low, high = np.minimum.reduceat(closes, starts), np.maximum.reduceat(closes, starts)
        columns = (times[starts].tolist(), low.tolist(), high.tolist(), closes[ends].tolist())
        self.buckets += zip(*columns, strict=True)
        while len(self.buckets) > 2 * BUCKETS:
            pairs = [self.buckets[at : at + 2] for at in range(0, len(self.buckets), 2)]
            self.buckets = [(p[0][0], min(b[1] for b in p), max(b[2] for b in p), p[-1][3]) for p in pairs]
            self.per_bucket *= 2


@dataclass
class FileReport:
    """What was found. ``verdicts`` has one a check, severity and symbol, with the first evidence and all rows."""

    name: str
    rows: int = 0
    symbols: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    intervals: set[str] = field(default_factory=set)
    verdicts: dict[tuple[str, str, str], Verdict] = field(default_factory=dict)
    outlines: dict[str, Outline] = field(default_factory=dict)

    @property
    def found(self) -> list[Verdict]:
        """The hard ones first, then by symbol and check."""
        return sorted(self.verdicts.values(), key=lambda v: (v.severity is not Severity.HARD, v.symbol, v.check))

    @property
    def worst(self) -> Severity | None:
        found = self.found
        return found[0].severity if found else None

    def take(self, verdict: Verdict) -> None:
        key = (verdict.check, verdict.severity.value, verdict.symbol)
        before = self.verdicts.get(key)
        if before is None:
            self.verdicts[key] = verdict
            return
        at = [*before.evidence.get("at", ()), *verdict.evidence.get("at", ())][:SHOWN]
        self.verdicts[key] = replace(before, rows=before.rows + verdict.rows, evidence={**before.evidence, "at": at})


@dataclass(frozen=True)
class Checking:
    """``calendar`` is XNYS, 24/7, or None for no session checks; ``as_of`` as in :class:`Context`."""

    context: Context = field(default_factory=Context)
    calendar: str | None = calendar.XNYS
    outlines: bool = False


def check_file(
    path: Path, reading: Reading, checking: Checking, progress: Callable[[int], None] = lambda rows: None
) -> FileReport:
    """Check every bar of ``path``. Raises InvalidInputError, code ``invalid_file``, for what cannot be understood."""
    report = FileReport(path.name)
    tails: dict[tuple[str, str], pl.DataFrame] = {}
    for piece in read_pieces(path, reading):
        frame = piece.frame.with_columns(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in VALUES)
        frame = frame.with_columns(symbol=pl.col("symbol").fill_null("UNKNOWN"), interval=pl.col("interval"))
        _note(report, frame)
        for key, rows in _by_series(frame):
            tails[key] = _judge(report, key, tails.get(key), rows, checking, last=False)
        progress(report.rows)
    for key, tail in tails.items():
        _judge(report, key, tail, tail[:0], checking, last=True)
    return report


def _note(report: FileReport, frame: pl.DataFrame) -> None:
    report.rows += len(frame)
    for symbol, count in frame["symbol"].value_counts().rows():
        report.symbols[symbol] = report.symbols.get(symbol, 0) + count
    times = frame["time"].dt.epoch("us")
    low, high = int(times.min()), int(times.max())  # type: ignore[arg-type]
    report.first = low if report.first is None else min(low, report.first)
    report.last = high if report.last is None else max(high, report.last)
    report.intervals |= {name for name in frame["interval"].unique().to_list() if name}


def _by_series(frame: pl.DataFrame) -> Iterator[tuple[tuple[str, str], pl.DataFrame]]:
    for key, rows in frame.partition_by(["symbol", "interval"], as_dict=True, maintain_order=True).items():
        yield (str(key[0]), str(key[1] or "")), rows


def _judge(
    report: FileReport,
    key: tuple[str, str],
    tail: pl.DataFrame | None,
    rows: pl.DataFrame,
    checking: Checking,
    *,
    last: bool,
) -> pl.DataFrame:
    """Judge the rows that are new, all but the last of them, which waits for what follows it; gives the new tail."""
    rows = rows.select("time", *VALUES)
    whole = rows if tail is None else pl.concat([tail, rows])
    fresh = 0 if tail is None else max(len(tail) - 1, 0)
    until = len(whole) if last else len(whole) - 1
    symbol, name = key
    bars = _bars(symbol, name, whole, fresh, until)
    interval = INTERVALS.get(name) or _step(bars)
    context = replace(checking.context, interval=interval, sessions=_sessions(bars, checking.calendar))
    verdicts = run(BAR_CHECKS.values(), Bars((bars,), interval, len(whole)), context)
    if last and interval is None and context.sessions is not None:
        told = {"remedy": "say the interval, so that missing bars are looked for"}
        verdicts.append(Verdict("unknown_interval", Severity.WARN, symbol, told, report.symbols.get(symbol, 0)))
    for verdict in verdicts:
        report.take(verdict)
    if checking.outlines and until > fresh:
        _outline(report, bars, verdicts)
    # copied: a slice would keep the whole piece in memory as long as its symbol's last rows are kept
    return whole[-TAIL:].select(pl.all().gather(pl.int_range(pl.len())))


def _bars(symbol: str, interval: str, frame: pl.DataFrame, fresh: int, until: int) -> SymbolBars:
    opened, high, low, close, volume = (frame[name].to_numpy() for name in VALUES)
    times = frame["time"].dt.epoch("us").to_numpy()
    if interval == "1d":
        times = trading_days(times) * DAY
    return SymbolBars(symbol, opened, high, low, close, volume, times, fresh=fresh, until=until)


def _step(bars: SymbolBars) -> int | None:
    if bars.time is None or len(bars) < 3:
        return None
    steps, counts = np.unique(np.diff(bars.time[:4_096]), return_counts=True)
    usual = steps[counts.argmax()]
    return int(usual) if usual > 0 else None


def _sessions(bars: SymbolBars, name: str | None) -> Sessions | None:
    if name is None or bars.time is None or not len(bars):
        return None
    known = calendar.ROUND_THE_CLOCK if "/" in bars.symbol else name
    return Sessions.between(int(bars.time.min()), int(bars.time.max()), known)


def _outline(report: FileReport, bars: SymbolBars, verdicts: list[Verdict]) -> None:
    """The drawing of a symbol; beyond the first symbols only of those where something was found."""
    outline = report.outlines.get(bars.symbol)
    if outline is None:
        if len(report.outlines) >= MOST_OUTLINES and not verdicts:
            return
        outline = report.outlines[bars.symbol] = Outline()
    assert bars.time is not None
    window = slice(bars.fresh, bars.end)
    outline.add(bars.time[window], bars.close[window])
    close_at = {}
    if verdicts:
        close_at = {moment(int(t)): float(c) for t, c in zip(bars.time[window], bars.close[window], strict=True)}
    for verdict in verdicts:
        for at in verdict.evidence.get("at", ()):
            if len(outline.flags) < FLAGS:
                time = int(np.datetime64(at.removesuffix("Z"), "us").astype(np.int64))
                outline.flags.append((time, close_at.get(at, float("nan")), verdict.severity.value, verdict.check))


def as_json(report: FileReport) -> dict[str, Any]:
    """The report as plain JSON."""

    return {
        "file": report.name,
        "rows": report.rows,
        "symbols": len(report.symbols),
        "first": None if report.first is None else moment(report.first),
        "last": None if report.last is None else moment(report.last),
        "intervals": sorted(report.intervals),
        "worst": None if report.worst is None else report.worst.value,
        "verdicts": [
            {"check": v.check, "severity": v.severity.value, "symbol": v.symbol, "rows": v.rows, "evidence": v.evidence}
            for v in report.found
        ],
    }
