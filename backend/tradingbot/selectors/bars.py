"""Stored bars as frames: by COPY, so that the bars of a whole feed cost one statement and no Python loop over rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import polars as pl
from django.db import connection

from backend.tradingbot.data import calendar
from backend.tradingbot.data.check_context import Sessions
from backend.tradingbot.data.frames import DAY, INTERVALS, VALUES, micros
from backend.tradingbot.models import Bar, BarConflict, Feed

QUERY = """
COPY (SELECT symbol, (extract(epoch FROM "time") * 1000000)::bigint, open::float8, high::float8, low::float8,
  close::float8, volume::float8 FROM {table}
  WHERE {only} symbol = ANY({symbols}) AND "interval" = {interval} AND "time" >= {since} AND "time" < {until}
  ORDER BY symbol, "time") TO STDOUT (FORMAT csv)"""
COLUMNS = {"symbol": pl.String, "time": pl.Int64, **dict.fromkeys(VALUES, pl.Float64)}


def read_bars(
    symbols: Collection[str], interval: str, since: datetime, until: datetime, *, second_source: str = ""
) -> pl.DataFrame:
    """The bars of ``symbols`` that begin from ``since`` to before ``until``, by symbol and time; times are UTC.

    ``second_source`` names a feed whose bars are only compared; they are kept apart.
    """
    from psycopg import sql

    values = {"symbols": list(symbols), "interval": interval, "since": since, "until": until}
    parts: dict[str, sql.Composable] = {name: sql.Literal(value) for name, value in values.items()}
    parts["table"] = sql.Identifier("tradingbot_secondsourcebar" if second_source else "tradingbot_bar")
    parts["only"] = sql.SQL("feed = {} AND").format(sql.Literal(second_source)) if second_source else sql.SQL("")
    statement = sql.SQL(QUERY).format(**parts)
    buffer = BytesIO()
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in copy:
            buffer.write(block)
    raw = buffer.getvalue()
    frame = pl.read_csv(raw, has_header=False, schema=COLUMNS) if raw else pl.DataFrame(schema=COLUMNS)
    return frame.with_columns(pl.col("time").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def intervals_stored(symbol: str) -> list[str]:
    """The intervals of which there are bars of ``symbol``; one index probe each."""
    return [name for name in INTERVALS if Bar.objects.filter(symbol=symbol, interval=name).exists()]


def newest_bars(symbol: str, interval: str, most: int) -> pl.DataFrame:
    """The last ``most`` bars of ``symbol``, oldest first."""
    times = Bar.objects.filter(symbol=symbol, interval=interval).order_by("-time").values_list("time", flat=True)
    kept = list(times[:most])
    if not kept:
        return pl.DataFrame(schema=COLUMNS).with_columns(
            pl.col("time").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        )
    return read_bars([symbol], interval, kept[-1], kept[0] + timedelta(microseconds=1))


def sessions_of(feed: Feed, since: datetime, until: datetime) -> Sessions:
    return Sessions.between(micros(since), micros(until), feed.session_calendar)


def open_conflicts(symbols: Iterable[str]) -> dict[str, int]:
    """How many contradictions of ``symbols`` nobody has decided yet."""
    found: dict[str, int] = {}
    for symbol in BarConflict.objects.filter(symbol__in=list(symbols), resolution="").values_list("symbol", flat=True):
        found[symbol] = found.get(symbol, 0) + 1
    return found


def session_start(feed: Feed, now: datetime, sessions_back: int) -> datetime:
    """When the session ``sessions_back`` before the current (or the coming) one opened."""
    day: date = calendar.session_date(now.astimezone(UTC), feed.session_calendar)
    for _ in range(sessions_back):
        day = calendar.previous_session(day, feed.session_calendar).date
    session = calendar.session_on(day, feed.session_calendar)
    assert session is not None
    return session.opens_at


def is_daily(interval: str) -> bool:
    return INTERVALS[interval] >= DAY
