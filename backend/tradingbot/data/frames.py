"""Frames of bars at the edge: polars, pandas or plain columns in, checked numpy columns by symbol out.

Invariants: columns are float64 and as long as each other; times are microseconds since 1970 in UTC; rows keep the
order in which they came; what is missing is NaN and never filled; a column that is not there or is no number is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.tradingbot.core.errors import FieldError, InvalidInputError

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
TIME_NAMES = ("time", "timestamp", "datetime", "date")
SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
INTERVALS = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "30m": 30 * MINUTE, "1h": HOUR, "1d": DAY}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


def refuse(name: str, value: Any, problem: str, remedy: str) -> InvalidInputError:
    return InvalidInputError([FieldError(name, value, problem, remedy)], code="invalid_frame")


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time, exactly."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def datetime_of(time: int) -> datetime:
    """The UTC time of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=time)


def moment(time: int) -> str:
    """RFC 3339 in UTC of microseconds since 1970."""
    text = np.datetime_as_string(np.datetime64(int(time), "us"), unit="us" if time % SECOND else "s")
    return f"{text}Z"


@dataclass(frozen=True, slots=True)
class SymbolBars:
    """One symbol's bars. ``time`` is None when the frame had none; ``zoned`` is False for times without a zone.

    Only rows from ``fresh`` up to ``until`` are judged; those before are what came earlier, those after what follows.
    """

    symbol: str
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    time: Times | None = None
    zoned: bool = True
    fresh: int = 0
    until: int = -1

    def __len__(self) -> int:
        return len(self.close)

    @property
    def end(self) -> int:
        return len(self) if self.until < 0 else self.until


def no_bars(symbol: str) -> SymbolBars:
    """A symbol without a single bar."""
    nothing = np.zeros(0)
    return SymbolBars(symbol, nothing, nothing, nothing, nothing, nothing, np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class Bars:
    """The bars of one frame by symbol, and their interval in microseconds (None when it cannot be told)."""

    symbols: tuple[SymbolBars, ...]
    interval: int | None = None
    rows: int = 0

    def __iter__(self) -> Iterator[SymbolBars]:
        return iter(self.symbols)


@dataclass(frozen=True)
class Columns:
    """A frame's columns under their canonical names, before they are parted by symbol."""

    values: dict[str, Floats]
    time: Times | None
    zoned: bool
    symbol: pl.Series | None
    interval: str | None = None
    unknown: tuple[str, ...] = ()

    def __len__(self) -> int:
        return min(map(len, self.values.values()))


def as_bars(frame: Any, *, symbol: str = "UNKNOWN", interval: int | None = None, strict: bool = False) -> Bars:
    """``frame`` (polars, pandas, or a mapping of columns) as :class:`Bars`; :class:`Bars` pass through unchanged.

    Column names are matched without regard to case. ``symbol`` names the rows of a frame without such a column.
    ``strict`` refuses unknown columns. Raises InvalidInputError, code ``invalid_frame``, naming the column.
    """
    if isinstance(frame, Bars):
        return frame
    columns = read_columns(frame, VALUES, ())
    if strict and columns.unknown:
        known = "time, symbol, interval, open, high, low, close, volume"
        raise refuse(columns.unknown[0], columns.unknown, "is not a known column", f"known: {known}")
    parts = tuple(
        SymbolBars(name, v["open"], v["high"], v["low"], v["close"], v["volume"], time, columns.zoned)
        for name, v, time in _split(columns, symbol)
    )
    known_interval = interval or (INTERVALS.get(columns.interval) if columns.interval else None)
    return Bars(parts, known_interval or _usual_step(parts), len(columns))


def read_ticks(frame: Any) -> Iterator[tuple[str, Times, dict[str, Floats]]]:
    """(symbol, times, {price, bid, ask}) of a frame of ticks; without quotes, bid and ask are NaN."""
    columns = read_columns(frame, ("price",), ("bid", "ask"))
    if columns.time is None or not columns.zoned:
        raise refuse("time", None, "is missing, or has no zone", "give every tick its time in UTC")
    for name, values, time in _split(columns, "UNKNOWN"):
        absent = np.full(len(values["price"]), np.nan)
        assert time is not None
        yield name, time, {side: values.get(side, absent) for side in ("price", "bid", "ask")}


def read_columns(frame: Any, required: Sequence[str], optional: Sequence[str]) -> Columns:
    """The frame's columns, checked one by one and as long as each other."""
    raw = _raw_columns(frame)
    names, unknown = canonical_names(list(raw), required, optional)
    values = {name: _floats(names[name], raw[names[name]]) for name in (*required, *optional) if name in names}
    time, zoned = (None, True) if "time" not in names else _times(names["time"], raw[names["time"]])
    symbol = _symbols(names["symbol"], raw[names["symbol"]]) if "symbol" in names else None
    lengths = {name: len(column) for name, column in values.items()}
    lengths |= {"time": len(time)} if time is not None else {}
    lengths |= {"symbol": len(symbol)} if symbol is not None else {}
    if len(set(lengths.values())) > 1:
        raise refuse("columns", lengths, "have different lengths", "send one value a row in every column")
    interval = _interval(raw[names["interval"]]) if "interval" in names else None
    return Columns(values, time, zoned, symbol, interval, unknown)


def _raw_columns(frame: Any) -> dict[str, Any]:
    """The frame's own columns by their own names; a pandas DatetimeIndex becomes the column ``time``."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return dict(zip(frame.columns, frame.get_columns(), strict=True))
    if isinstance(frame, Mapping):
        return dict(frame)
    if hasattr(frame, "columns") and hasattr(frame, "index"):
        columns = {str(name): frame[name] for name in frame.columns}
        named = any(name.strip().lower() in TIME_NAMES for name in columns)
        return columns if named or not hasattr(frame.index, "tz") else {**columns, "time": frame.index}
    raise refuse("frame", type(frame).__name__, "is not a frame", "send a polars or pandas frame, or a dict of columns")


def canonical_names(
    names: list[str], required: Sequence[str], optional: Sequence[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Canonical name -> the frame's own name, and the names that mean nothing here."""
    found: dict[str, str] = {}
    unknown = []
    for name in names:
        lowered = str(name).strip().lower()
        key = "time" if lowered in TIME_NAMES else lowered
        if key not in (*required, *optional, "time", "symbol", "interval"):
            unknown.append(str(name))
        elif key in found:
            raise refuse(str(name), name, f"stands for {key}, as {found[key]} does", "send each column once")
        else:
            found[key] = name
    for name in required:
        if name not in found:
            raise refuse(name, names[:12], "is missing", f"send a column {name.capitalize()} or {name}")
    return found, tuple(unknown)


def _symbols(name: str, raw: Any) -> pl.Series:
    if isinstance(raw, pl.Series):
        column = raw.cast(pl.String) if isinstance(raw.dtype, pl.Categorical | pl.Enum) else raw
    else:
        values = list(raw)
        odd = next((value for value in values if not isinstance(value, str)), None)
        if odd is not None:
            raise refuse(name, odd, "must be text", "send symbols as strings")
        column = pl.Series(name, values, dtype=pl.String)
    if column.dtype != pl.String:
        raise refuse(name, str(column.dtype), "must be text", "send symbols as strings")
    if column.null_count() or (column == "").any():
        raise refuse(name, None, "is empty in some rows", "name the symbol in every row")
    return column


def _interval(raw: Any) -> str | None:
    found = sorted({str(value) for value in (raw.unique().to_list() if isinstance(raw, pl.Series) else raw)})
    if not found:
        return None
    if len(found) != 1 or found[0] not in INTERVALS:
        allowed = ", ".join(INTERVALS)
        raise refuse("interval", found[:5], "must be one interval", f"one a frame, of {allowed}")
    return found[0]


def _floats(name: str, raw: Any) -> Floats:
    """Any column as float64. Text is refused even where it looks like a number: nobody knows who wrote it."""
    if isinstance(raw, pl.Series):
        if not raw.dtype.is_numeric():
            kept = raw.drop_nulls()
            shown = kept[0] if len(kept) else None
            raise refuse(name, shown, f"is {raw.dtype}, not a number", "send numbers, not text")
        return raw.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    try:
        column = np.asarray(raw)
        if column.dtype.kind == "O":
            odd = next((value for value in column if isinstance(value, str | bytes | bool)), None)
            if odd is not None:
                raise refuse(name, odd, "is not a number", "send numbers, not text")
            column = np.array([np.nan if value is None else float(value) for value in column], dtype=np.float64)
        if column.ndim != 1 or (column.dtype.kind not in "fiu" and column.size):
            shown = column.flat[0].item() if column.size else None
            raise refuse(name, shown, f"is {column.dtype}, not a column of numbers", "send numbers, not text")
        return np.ascontiguousarray(column, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise refuse(name, type(raw).__name__, "is not a column of numbers", "send numbers") from None


def _times(name: str, raw: Any) -> tuple[Times, bool]:
    """Microseconds since 1970, and whether the times carried a zone."""
    if isinstance(raw, pl.Series):
        if raw.dtype == pl.Date:
            raw = raw.cast(pl.Datetime("us"))
        if not isinstance(raw.dtype, pl.Datetime):
            kept = raw.drop_nulls()
            shown = kept[0] if len(kept) else None
            raise refuse(name, shown, f"is {raw.dtype}, not a time", "send datetimes with their zone")
        if raw.null_count():
            raise refuse(name, None, "is empty in some rows", "give every row its time")
        return raw.dt.epoch("us").to_numpy(), raw.dtype.time_zone is not None
    if str(getattr(raw, "dtype", "")).startswith("datetime64") and hasattr(raw, "to_numpy"):
        return _pandas_times(name, raw, getattr(raw, "dt", raw).tz)
    return _plain_times(name, list(raw))


def _pandas_times(name: str, raw: Any, zone: Any) -> tuple[Times, bool]:
    """Times of a DatetimeIndex or of a Series of datetimes; numpy's own datetimes are in UTC."""
    exact = raw.to_numpy(dtype="datetime64[us]") if zone is None else _in_utc(raw)
    if np.isnat(exact).any():
        raise refuse(name, "NaT", "is empty in some rows", "give every row its time")
    return exact.astype(np.int64), zone is not None


def _in_utc(raw: Any) -> NDArray[np.datetime64]:
    dated = getattr(raw, "dt", raw)
    plain = dated.tz_convert("UTC")
    plain = getattr(plain, "dt", plain).tz_localize(None)
    exact: NDArray[np.datetime64] = plain.to_numpy(dtype="datetime64[us]")
    return exact


def _plain_times(name: str, values: list[Any]) -> tuple[Times, bool]:
    odd = next((value for value in values if not isinstance(value, datetime)), None)
    if odd is not None or None in values:
        raise refuse(name, odd, "is not a time", "send datetimes with their zone")
    zoned = all(value.tzinfo is not None for value in values)
    if not zoned and any(value.tzinfo is not None for value in values):
        raise refuse(name, None, "mixes times with and without a zone", "give every time its zone")
    exact = (value if zoned else value.replace(tzinfo=UTC) for value in values)
    return np.fromiter((micros(value) for value in exact), dtype=np.int64, count=len(values)), zoned


def _split(columns: Columns, default: str) -> Iterator[tuple[str, dict[str, Floats], Times | None]]:
    """The rows by symbol, in the order in which symbols first come; no copy where each stands in one piece."""
    if columns.symbol is None or len(columns) == 0:
        yield _part(columns, default, slice(None))
        return
    runs = columns.symbol.rle().struct.unnest()
    lengths, names = runs["len"].to_numpy().astype(np.int64), runs["value"].to_list()
    ends = np.cumsum(lengths)
    if len(set(names)) == len(names):
        for name, start, end in zip(names, ends - lengths, ends, strict=True):
            yield _part(columns, name, slice(int(start), int(end)))
        return
    codes = columns.symbol.rank("dense").to_numpy()
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    for rows in sorted(groups, key=lambda group: int(group[0])):
        yield _part(columns, str(columns.symbol[int(rows[0])]), rows)


def _part(columns: Columns, symbol: str, rows: Any) -> tuple[str, dict[str, Floats], Times | None]:
    values = {name: column[rows] for name, column in columns.values.items()}
    return symbol, values, None if columns.time is None else columns.time[rows]


def _usual_step(parts: tuple[SymbolBars, ...]) -> int | None:
    """The most common distance between bars, None when there are too few to tell."""
    for part in parts:
        if part.time is None or len(part) < 3:
            continue
        steps = np.diff(part.time[:4_096])
        found, counts = np.unique(steps[steps > 0], return_counts=True)
        if len(found) and counts.max() >= 2:
            return int(found[counts.argmax()])
    return None
