"""Files of bars, CSV and Parquet, in pieces of bounded size: the same columns and the same errors for both.

Invariants: at most one piece is in memory; every row of the file is in exactly one piece, in the file's order; what
cannot be understood is an error that names the file, the row and the column, and no piece after it is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.core.parsing import SYMBOL
from backend.tradingbot.data.frames import INTERVALS, VALUES, canonical_names

PIECE_ROWS = 500_000
BLOCK_BYTES = 32 * 1024 * 1024
LONGEST_LINE = 64 * 1024
UTC_TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Reading:
    """How a file is to be read. ``symbol`` and ``interval`` stand for columns that are not there; ``zone`` is the zone
    of times that carry none. With ``strict`` an unknown column is an error."""

    symbol: str | None = None
    interval: str | None = None
    zone: str | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if self.interval is not None and self.interval not in INTERVALS:
            raise _refuse("interval", self.interval, "is not a known interval", "use " + ", ".join(INTERVALS))
        if self.symbol is not None and not SYMBOL.fullmatch(self.symbol):
            raise _refuse("symbol", self.symbol, "is not a symbol", "upper-case letters and digits, for example AAPL")
        try:
            ZoneInfo(self.zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError):
            raise _refuse("zone", self.zone, "is not a time zone", "for example America/New_York") from None


@dataclass(frozen=True)
class Piece:
    """``frame`` has symbol, interval, time (UTC) and the five values, as text where the file was text; ``first_row``
    counts the file's rows of data from 0."""

    frame: pl.DataFrame
    first_row: int


def _refuse(name: str, value: Any, problem: str, remedy: str) -> InvalidInputError:
    return InvalidInputError([FieldError(name, value, problem, remedy)], code="invalid_file")


def file_digest(path: Path) -> str:
    """The SHA-256 of the file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pieces(path: Path, reading: Reading, *, skip: int = 0) -> Iterator[Piece]:
    """The file in pieces, from row ``skip`` on. Raises InvalidInputError, code ``invalid_file``."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise _refuse("file", str(path), "is not a file", "name a CSV or a Parquet file")
    except OSError as error:
        raise _refuse("file", str(path), f"cannot be read: {error.strerror}", "check the path") from None
    if size == 0:
        raise _refuse("file", path.name, "is empty", "a header and one bar are the least")
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    raw = _parquet(path, skip) if parquet else _csv(path, skip)
    total = skip
    for frame in raw:
        yield Piece(_canonical(frame, reading, path.name, total), total)
        total += len(frame)
    if total == 0:
        raise _refuse("file", path.name, "has no rows", "a header and one bar are the least")


def _parquet(path: Path, skip: int) -> Iterator[pl.DataFrame]:
    try:
        rows = pl.scan_parquet(path).select(pl.len()).collect().item()
        for start in range(skip, rows, PIECE_ROWS):
            yield pl.scan_parquet(path).slice(start, PIECE_ROWS).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        told = str(error).splitlines()[0][:200]
        raise _refuse("file", path.name, f"is not a whole Parquet file: {told}", "fetch it again") from None


def _csv(path: Path, skip: int) -> Iterator[pl.DataFrame]:
    with path.open("rb") as file:
        header = file.readline(LONGEST_LINE)
        if not header.endswith(b"\n") and len(header) >= LONGEST_LINE:
            raise _refuse("file", path.name, "has no header line", "is it a CSV file?")
        header = header.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n") + b"\n"
        seen = 0
        for block in _blocks(file, path.name):
            frame = _parse_block(header + block, path.name, seen)
            wanted = frame[max(skip - seen, 0) :]
            seen += len(frame)
            for start in range(0, len(wanted), PIECE_ROWS):
                yield wanted[start : start + PIECE_ROWS]


def _blocks(file: IO[bytes], name: str) -> Iterator[bytes]:
    """Whole lines, about 32 MB at a time."""
    rest = b""
    while block := file.read(BLOCK_BYTES):
        end = block.rfind(b"\n")
        if end < 0:
            rest += block
            if len(rest) > BLOCK_BYTES:
                raise _refuse("file", name, f"has a line longer than {BLOCK_BYTES} bytes", "is it a CSV file?")
            continue
        yield rest + block[: end + 1]
        rest = block[end + 1 :]
    if rest.strip():
        yield rest


def _parse_block(block: bytes, name: str, row: int) -> pl.DataFrame:
    """``block`` begins with the header. A row that is cut short is an error, and no row of empty values."""
    try:
        frame = pl.read_csv(block, infer_schema=False, null_values=[""])
        if b'"' not in block and block.count(b",") != (frame.width - 1) * (len(frame) + 1):
            _refuse_short_rows(block, frame.width, name, row)
        return frame
    except pl.exceptions.PolarsError as error:
        told = str(error).splitlines()[0][:200]
        problem = f"cannot be read as CSV after row {row}: {told}"
        raise _refuse("file", name, problem, "one bar a line, as many fields as the header has") from None


def _refuse_short_rows(block: bytes, width: int, name: str, row: int) -> None:
    """Raises for the first line that has not as many fields as the header; blank lines are none."""
    lines = (line for line in block.splitlines()[1:] if line.strip())
    for number, line in enumerate(lines):
        if line.count(b",") != width - 1:
            problem = f"has {line.count(b',') + 1} fields and not {width} in row {row + number} of {name}"
            raise _refuse("file", line[:80].decode(errors="replace"), problem, "is the file whole? Fetch it again")


def _canonical(frame: pl.DataFrame, reading: Reading, file: str, row: int) -> pl.DataFrame:
    """The piece with canonical columns and times; every value that cannot be read is an error with its row."""
    try:
        names, unknown = canonical_names(frame.columns, VALUES, ())
    except InvalidInputError as error:
        raise InvalidInputError(error.errors, code="invalid_file") from None
    if unknown and reading.strict:
        known = "time, symbol, interval, open, high, low, close, volume"
        raise _refuse(unknown[0], list(unknown), f"is not a known column of {file}", f"known: {known}")
    if "time" not in names:
        raise _refuse("time", frame.columns[:12], f"is missing in {file}", "send a column time")
    columns = [
        _text_column(frame, names.get("symbol"), "symbol", reading.symbol, file, row),
        _text_column(frame, names.get("interval"), "interval", reading.interval, file, row),
        _time_column(frame[names["time"]], reading, file, row),
    ]
    columns += [_value_column(frame[names[name]], name, file, row) for name in VALUES]
    found = pl.DataFrame(columns)
    _check_words(found, file, row)
    return found


def _text_column(frame: pl.DataFrame, own: str | None, name: str, given: str | None, file: str, row: int) -> pl.Series:
    if own is None:
        return pl.Series(name, [given], dtype=pl.String).new_from_index(0, len(frame))
    column = frame[own].cast(pl.String)
    if column.null_count():
        at = int(column.is_null().arg_max() or 0)
        raise _refuse(name, None, f"is empty in row {row + at} of {file}", f"name the {name} in every row")
    return column.rename(name)


def _check_words(frame: pl.DataFrame, file: str, row: int) -> None:
    """Symbols and intervals are known words; a column without any (None) is left to the caller."""
    for symbol in frame["symbol"].unique().to_list():
        if symbol is not None and not SYMBOL.fullmatch(symbol):
            at = row + int((frame["symbol"] == symbol).arg_max() or 0)
            raise _refuse("symbol", symbol, f"is not a symbol, in row {at} of {file}", "upper-case, for example AAPL")
    for interval in frame["interval"].unique().to_list():
        if interval is not None and interval not in INTERVALS:
            at = row + int((frame["interval"] == interval).arg_max() or 0)
            problem = f"is not a known interval, in row {at} of {file}"
            raise _refuse("interval", interval, problem, "use " + ", ".join(INTERVALS))


def _value_column(column: pl.Series, name: str, file: str, row: int) -> pl.Series:
    """Numbers stay what they are; text must be a number, and stays the text that was written."""
    if column.dtype == pl.String:
        stripped = column.str.strip_chars()
        wrong = stripped.cast(pl.Float64, strict=False).is_null() & stripped.is_not_null()
        if wrong.any():
            at = int(wrong.arg_max() or 0)
            raise _refuse(name, column[at], f"is not a number, in row {row + at} of {file}", "look at the source")
        return stripped.rename(name)
    if not column.dtype.is_numeric():
        raise _refuse(name, str(column.dtype), f"is not a column of numbers in {file}", "write numbers")
    return column.rename(name)


def _time_column(column: pl.Series, reading: Reading, file: str, row: int) -> pl.Series:
    if column.null_count():
        at = int(column.is_null().arg_max() or 0)
        raise _refuse("time", None, f"is empty in row {row + at} of {file}", "give every bar its time")
    if column.dtype == pl.String:
        return _parse_times(column, reading, file, row)
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").rename("time")
    if not isinstance(column.dtype, pl.Datetime):
        raise _refuse("time", str(column.dtype), f"is not a column of times in {file}", "write datetimes with a zone")
    if column.dtype.time_zone is not None:
        return column.cast(pl.Datetime("us", column.dtype.time_zone)).dt.convert_time_zone("UTC").rename("time")
    return _placed(column.cast(pl.Datetime("us")), reading, file, row)


def _parse_times(column: pl.Series, reading: Reading, file: str, row: int) -> pl.Series:
    text = column.str.strip_chars()
    exact = text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    rest = exact.is_null()
    if not rest.any():
        return exact.rename("time")
    dates = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    exact = exact.fill_null(dates)
    plain = text.str.replace("T", " ").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    naive = exact.is_null() & plain.is_not_null()
    if naive.any():
        at = int(naive.arg_max() or 0)
        zoned = _placed(plain.filter(naive), reading, file, row + at)
        exact = exact.scatter(naive.arg_true(), zoned)
    if exact.null_count():
        at = int(exact.is_null().arg_max() or 0)
        problem = f"is not a time, in row {row + at} of {file}"
        raise _refuse("time", column[at], problem, 'write RFC 3339, for example "2026-01-05T14:30:00Z"')
    return exact.rename("time")


def _placed(column: pl.Series, reading: Reading, file: str, row: int) -> pl.Series:
    """Times without a zone, in the zone that was said; an hour that happened twice or never is an error."""
    if reading.zone is None:
        problem = f"has no time zone, in row {row} of {file}"
        raise _refuse("time", str(column[0]), problem, 'end it with "Z" for UTC, or say the zone')
    try:
        return column.dt.replace_time_zone(reading.zone).dt.convert_time_zone("UTC").rename("time")
    except pl.exceptions.PolarsError as error:
        told = str(error).splitlines()[0][:160]
        raise _refuse("time", told, f"is not one moment in {reading.zone}", "write the times in UTC") from None
