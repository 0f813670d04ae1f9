"""A file of bars into the database: first read through whole, then stored in pieces, each with how far it has come.

Invariants: a file with anything in it that cannot be understood stores nothing; a run that broke off goes on behind its
last piece; the same file again, or an overlapping one, adds only what is new; memory is that of one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import structlog
from django.db import transaction
from numpy.typing import NDArray

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldError, InvalidInputError
from backend.tradingbot.data.bar_files import Piece, Reading, file_digest, read_pieces
from backend.tradingbot.data.frames import DAY, INTERVALS, VALUES, datetime_of, micros
from backend.tradingbot.data.session_checks import daily_bar_over, trading_days
from backend.tradingbot.models import BarFile, Feed
from backend.tradingbot.services.bars import KEPT_ROWS, PutAside, store
from backend.tradingbot.services.second_sources import second_feed

log = structlog.get_logger(__name__)

STORE_ROWS = 100_000
CLOCK_SKEW = timedelta(seconds=2)
LARGEST = 1e12
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Ingested:
    """What became of the file's rows; ``resumed_at`` is the row from which this run went on."""

    rows: int
    stored: int
    unchanged: int
    conflicts: int
    refused: int
    resumed_at: int


def ingest_file(
    path: Path,
    reading: Reading,
    *,
    actor: str,
    clock: Clock,
    progress: Progress = lambda stage, rows: None,
    feed: str | None = None,
) -> Ingested:
    """Store the bars of ``path``. ``progress(stage, rows)`` is told as ``checking`` and ``storing`` go on.

    ``feed`` names a second source, whose bars are only compared. Raises InvalidInputError, code ``invalid_file``,
    before anything is stored.
    """
    second = second_feed(feed)
    digest = file_digest(path) if path.is_file() else ""
    read_as = [reading.symbol, reading.interval, reading.zone, *([f"feed {feed}"] if second else [])]
    key = {"sha256": digest, "reading": "|".join(str(part) for part in read_as)}
    row = BarFile.objects.filter(**key).first()
    if row is None:
        _read_through(path, reading, progress)
        if file_digest(path) != digest:
            raise ConflictError(f"{path.name} changed while it was read", code="file_changed", remedy="try again")
        row, _ = BarFile.objects.get_or_create(**key, defaults={"name": path.name[:255], "started_at": clock.now()})
    resumed_at = row.rows_done
    for piece in read_pieces(path, reading, skip=resumed_at) if row.finished_at is None else ():
        for start in range(0, len(piece.frame), STORE_ROWS):
            part = Piece(piece.frame[start : start + STORE_ROWS], piece.first_row + start)
            _store_part(row.pk, part, f"file:{path.name}"[:80], actor, clock, second)
            progress("storing", part.first_row + len(part.frame))
    BarFile.objects.filter(pk=row.pk, finished_at__isnull=True).update(finished_at=clock.now())
    row.refresh_from_db()
    return Ingested(row.rows_done, row.stored, row.unchanged, row.conflicts, row.refused, resumed_at)


def _read_through(path: Path, reading: Reading, progress: Progress) -> None:
    """Everything that would stop the run half-way stops it here."""
    for piece in read_pieces(path, reading):
        for name in ("symbol", "interval"):
            if piece.frame[name].null_count():
                remedy = f"add a column {name}, or name it with --{name}"
                raise InvalidInputError([FieldError(name, None, f"is not in {path.name}", remedy)], code="invalid_file")
        progress("checking", piece.first_row + len(piece.frame))


def _store_part(file_id: int, part: Piece, source: str, actor: str, clock: Clock, second: Feed | None) -> None:
    """One part and the note of it, committed together."""
    frame = _dated(part.frame.with_row_index("row", offset=part.first_row))
    frame = frame.with_columns(check=pl.Series(_faults(frame, clock), dtype=pl.String))
    good, bad = frame.filter(pl.col("check") == ""), frame.filter(pl.col("check") != "")
    aside = [
        PutAside(
            str(symbol), str(check), len(rows), rows.head(KEPT_ROWS).select(pl.all().cast(pl.String)).to_dicts(),
            datetime_of(int(rows["time"].dt.epoch("us").to_numpy().min())), tuple(sorted(rows["interval"].unique())),
        )
        for (symbol, check), rows in bad.group_by(["symbol", "check"], maintain_order=True)
    ]  # fmt: skip
    lines = good.select(["row", "symbol", "interval", "time", *VALUES]).write_csv(include_header=False).encode()
    with transaction.atomic():
        row = BarFile.objects.select_for_update().get(pk=file_id)
        if row.rows_done != part.first_row:
            raise ConflictError(f"{row.name} is being stored by another run", code="file_busy", remedy="wait for it")
        result = store(lines, len(good), source=source, actor=actor, clock=clock, aside=aside, second=second)
        row.rows_done = part.first_row + len(part.frame)
        row.stored += result.stored
        row.unchanged += result.unchanged
        row.conflicts += len(result.conflicts)
        row.refused += len(bad)
        row.save()


def _dated(frame: pl.DataFrame) -> pl.DataFrame:
    """Daily bars bear their trading date as midnight UTC, however the file wrote it."""
    if not (frame["interval"] == "1d").any():
        return frame
    midnight = pl.Series(trading_days(frame["time"].dt.epoch("us").to_numpy()) * DAY)
    placed = midnight.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return frame.with_columns(time=pl.when(pl.col("interval") == "1d").then(placed).otherwise(pl.col("time")))


def _days_over(frame: pl.DataFrame) -> NDArray[np.int64]:
    """When the day of each row is over, in microseconds since 1970; 0 for what is no daily bar."""
    days = frame.select("symbol", day=pl.when(pl.col("interval") == "1d").then(pl.col("time").dt.date()))
    found = {
        (symbol, day): micros(daily_bar_over(symbol, day)) for symbol, day in days.drop_nulls().unique().iter_rows()
    }
    if not found:
        return np.zeros(len(frame), dtype=np.int64)
    return np.array([found.get(pair, 0) for pair in days.iter_rows()], dtype=np.int64)


def _faults(frame: pl.DataFrame, clock: Clock) -> list[str]:
    """By row, the check that refuses it, or nothing. The rules are those of ``row_checks``, row by row."""
    columns = {name: frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in VALUES}
    opened, high, low, close, volume = (columns[name] for name in VALUES)
    with np.errstate(invalid="ignore"):
        lowest = np.minimum(np.minimum(opened, close), np.minimum(high, low))
        highest = np.maximum(np.maximum(opened, close), np.maximum(high, low))
        priced = (lowest > 0) & (highest < LARGEST) & (np.abs(volume) < LARGEST)
        shaped = (low <= np.minimum(opened, close)) & (high >= np.maximum(opened, close))
        traded = ~(volume < 0)
    length = frame["interval"].replace_strict(INTERVALS, return_dtype=pl.Int64).to_numpy()
    over_at = np.where(length >= DAY, _days_over(frame), frame["time"].dt.epoch("us").to_numpy() + length)
    limit = int((clock.now() + CLOCK_SKEW).timestamp() * 1_000_000)
    verdicts = [("future_time", over_at <= limit), ("negative_volume", traded), ("bar_shape", shaped)]
    found = np.full(len(frame), "", dtype=object)
    for check, good in [*verdicts, ("bad_price", priced)]:
        found[~good] = check
    return found.tolist()
