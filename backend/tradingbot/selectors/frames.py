"""Frames out of PostgreSQL by COPY: the bulk reads of reconciliation. No row becomes a Python object on the way.

Invariants: numbers leave as exact text and become exact decimals; an empty text is null; times are UTC. What is read
are rows that never change (executions, entries, flows, statement lines), bounded by the highest id that was seen under
the account's lock, so that no transaction has to stay open while they stream.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
from django.db import connection

from backend.tradingbot.core.occ import SHARES_A_CONTRACT, multiplier_of
from backend.tradingbot.ops.recon_frames import NUMBER, SCHEMAS, TIME, checked

TradeDate = Callable[[datetime], date]
_MICROSECONDS = "(extract(epoch FROM {0}) * 1000000)::bigint"


def copied(query: str, values: list[Any], schema: dict[str, Any]) -> pl.DataFrame:
    """The rows of ``query`` as a frame of ``schema``; times come as microseconds since 1970, see ``micros``."""
    raw = {name: pl.Int64 if kind == TIME else kind for name, kind in schema.items()}
    buffer = io.BytesIO()
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv)", values) as rows:
        for chunk in rows:
            buffer.write(chunk)
    if not buffer.tell():
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    data = pl.read_csv(buffer, has_header=False, schema=raw)
    return data.with_columns(
        pl.from_epoch(pl.col(name), "us").dt.replace_time_zone("UTC").alias(name)
        for name, kind in schema.items()
        if kind == TIME
    )


def micros(column: str) -> str:
    return _MICROSECONDS.format(column)


OUR_EXECUTIONS = f"""
SELECT execution.execution_id,
  nullif(coalesce(nullif(execution.broker_order_id, ''), owner.broker_order_id, ''), ''), owner.client_order_id,
  execution.symbol, execution.side, abs(execution.qty), execution.price, {micros("execution.occurred_at")}, NULL, NULL,
  execution.kind, nullif(execution.corrects, ''), NULL, strategy.code
FROM tradingbot_execution AS execution
JOIN tradingbot_order AS owner ON owner.id = execution.order_id
JOIN tradingbot_strategy AS strategy ON strategy.id = owner.strategy_id
WHERE execution.account_id = %s"""
BETWEEN = """ AND execution.id <= %s AND execution.occurred_at <= %s
  AND NOT (execution.id <= %s AND execution.occurred_at <= %s)"""
AFTER = " AND execution.id <= %s AND execution.occurred_at > %s"
NAMED = " AND execution.execution_id = ANY(%s)"


@dataclass(frozen=True)
class Window:
    """What one run takes up: executions up to ``cut`` among the rows up to ``seen``, without those up to
    ``opening_cut`` among the rows up to ``before``, which the run before took up."""

    opening_cut: datetime
    before: int
    cut: datetime
    seen: int


def our_executions(account_id: int, window: Window, trade_date_of: TradeDate) -> pl.DataFrame:
    """Our executions of ``window`` as they were told, busts and corrections among them; a reversal is the first half
    of a correction."""
    values = [account_id, window.seen, window.cut, window.before, window.opening_cut]
    return _finished(copied(OUR_EXECUTIONS + BETWEEN, values, SCHEMAS["executions"]), trade_date_of)


def executions_after(account_id: int, window: Window, trade_date_of: TradeDate) -> pl.DataFrame:
    """Our executions that happened after the cut: they are in the books as they stand and not in those of the day."""
    values = [account_id, window.seen, window.cut]
    return _finished(copied(OUR_EXECUTIONS + AFTER, values, SCHEMAS["executions"]), trade_date_of)


def executions_named(account_id: int, ids: list[str], trade_date_of: TradeDate) -> pl.DataFrame:
    """Our executions by their ids, whenever they happened."""
    return _finished(copied(OUR_EXECUTIONS + NAMED, [account_id, ids], SCHEMAS["executions"]), trade_date_of)


def as_movements(executions: pl.DataFrame) -> pl.DataFrame:
    """What moved position and cash: what takes an execution back is a trade the other way."""
    back = pl.col("kind").is_in(["bust", "reversal"])
    other = pl.when(pl.col("side") == "buy").then(pl.lit("sell")).otherwise(pl.lit("buy"))
    return executions.with_columns(
        pl.when(back).then(other).otherwise(pl.col("side")).alias("side"),
        pl.lit("fill").alias("kind"),
        pl.lit(None, dtype=pl.String).alias("refers_to"),
    )


def as_told(executions: pl.DataFrame) -> pl.DataFrame:
    """What is compared with the broker's: fills, busts and corrections; a correction says what its reversal does."""
    reversed_too = (executions["kind"] == "reversal").any()
    return executions.filter(pl.col("kind") != "reversal") if reversed_too else executions  # else the same, not a copy


def _finished(data: pl.DataFrame, trade_date_of: TradeDate) -> pl.DataFrame:
    return checked("executions", _dated(_multiplied(data), trade_date_of))


def _multiplied(data: pl.DataFrame) -> pl.DataFrame:
    """With the multiplier that each symbol says; an adjusted option counts as 100."""
    symbols = data["symbol"].unique().to_list()
    units = {symbol: multiplier_of(symbol) or SHARES_A_CONTRACT for symbol in symbols}
    if not units:
        return data.with_columns(pl.col("multiplier").cast(NUMBER))
    return data.with_columns(pl.col("symbol").replace_strict(units, return_dtype=NUMBER).alias("multiplier"))


def _dated(data: pl.DataFrame, trade_date_of: TradeDate) -> pl.DataFrame:
    """With the trading date of each time; the calendar is asked once an hour of the day, not once a row."""
    if not data.height:
        return data
    hours = data["occurred_at"].dt.truncate("1h")
    known = {hour: trade_date_of(hour) for hour in hours.unique()}
    dates = hours.replace_strict(list(known), list(known.values()), return_dtype=pl.Date)
    return data.with_columns(dates.alias("trade_date"))


LINES = {
    "executions": f"""
SELECT nullif(execution_id, ''), nullif(order_id, ''), nullif(client_order_id, ''), symbol, side, qty, price,
  {micros("occurred_at")}, trade_date, fee, kind, nullif(refers_to, ''), multiplier, NULL
FROM tradingbot_statementexecution WHERE statement_id = %s""",
    "orders": """
SELECT nullif(order_id, ''), nullif(client_order_id, ''), symbol, side, qty, filled_qty, status
FROM tradingbot_statementorder WHERE statement_id = %s""",
    "positions": """
SELECT symbol, qty, avg_price, mark, multiplier FROM tradingbot_statementposition WHERE statement_id = %s""",
    "activities": """
SELECT activity_id, kind, nullif(symbol, ''), amount, qty, date, covers, nullif(description, '')
FROM tradingbot_statementactivity WHERE statement_id = %s""",
}


def statement_lines(statement_id: int, table: str) -> pl.DataFrame:
    """One section of a stored statement."""
    return checked(table, copied(LINES[table], [statement_id], SCHEMAS[table]))


OUR_ORDERS = """
SELECT nullif(coalesce(broker_order_id, ''), ''), client_order_id, symbol, side, qty, filled_qty, status
FROM tradingbot_order
WHERE account_id = %s AND mode <> 'shadow' AND status NOT IN ('new', 'denied')"""
OF_WINDOW = """ AND created_at <= %s AND (created_at > %s
  OR status IN ('pending_submit', 'in_doubt', 'accepted', 'partially_filled', 'pending_cancel'))"""
BY_NAME = " AND (client_order_id = ANY(%s) OR broker_order_id = ANY(%s))"
UNDER_WAY = timedelta(minutes=1)  # an order made right before the cut may have reached the broker after it


@dataclass(frozen=True)
class OrderWindow:
    """Which orders a run compares: those made between the cuts, those that still work, and those named.

    One that was made before and has ended is compared when the broker tells of it, or a break is about it: that the
    broker does not list it any more says nothing."""

    opening_cut: datetime
    cut: datetime
    client_ids: pl.Series
    broker_ids: pl.Series


def our_orders(account_id: int, window: OrderWindow) -> pl.DataFrame:
    """Our orders of ``window``, as they stand now.

    Those made between the cuts come first, by frame; only the names that they leave over are asked for by name, since a
    million names as a parameter of the query weigh more than the orders themselves.
    """
    times = [account_id, window.cut - UNDER_WAY, window.opening_cut - UNDER_WAY]
    found = copied(OUR_ORDERS + OF_WINDOW, times, SCHEMAS["orders"])
    names = [_left(window.client_ids, found["client_order_id"]), _left(window.broker_ids, found["order_id"])]
    if any(names):
        named = copied(OUR_ORDERS + BY_NAME, [account_id, *names], SCHEMAS["orders"])
        found = pl.concat([found, named.join(found, on="client_order_id", how="anti")])
    return checked("orders", found)


def _left(names: pl.Series, known: pl.Series) -> list[str]:
    """The names that are not among the known ones, each once."""
    asked = names.drop_nulls().unique().to_frame("name")
    return asked.join(known.drop_nulls().to_frame("name"), on="name", how="anti")["name"].to_list()
