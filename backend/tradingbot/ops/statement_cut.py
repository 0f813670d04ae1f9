"""A statement of now, taken back to an earlier instant by the broker's own activities since.

Brokers' interfaces tell positions and cash as they stand. A run that comes late still has to close the books at the end
of its day: what happened after it is taken off again. Invariants: only what the broker itself told is taken off; a
figure that cannot be taken back (average price, mark, equity) becomes unknown, never wrong.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import polars as pl

from backend.tradingbot.ops.recon_frames import NUMBER, POSITIONS, Books, cash_effect, signed_qty


def taken_back(books: Books, cut: datetime, session: date) -> Books:
    """``books`` as they stood at ``cut``; activities dated after ``session`` are taken off as well."""
    assert books.executions is not None and books.activities is not None
    later = books.executions.filter(pl.col("occurred_at") > cut)
    after = books.activities.filter(pl.col("date") > session)
    if not later.height and not after.height:
        return books
    moved = _moved(later, after)
    cash = books.cash
    if cash is not None:
        trades: Decimal = later.select(_signed_cash().sum()).item() or Decimal(0)
        others: Decimal = after.select(pl.col("amount").sum()).item() or Decimal(0)
        cash = cash - trades - others
    return replace(
        books,
        executions=books.executions.filter(pl.col("occurred_at") <= cut),
        activities=books.activities.filter(pl.col("date") <= session),
        positions=None if books.positions is None else _positions(books.positions, moved),
        cash=cash,
        equity=None,
    )


def _moved(later: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """What happened after the cut to each symbol's position, as (symbol, moved)."""
    trades = later.select("symbol", (signed_qty() * _direction()).alias("moved"))
    others = after.filter(pl.col("qty").is_not_null() & pl.col("symbol").is_not_null())
    rows = pl.concat([trades, others.select("symbol", pl.col("qty").alias("moved"))])
    return rows.group_by("symbol").agg(pl.col("moved").sum())


def _direction() -> pl.Expr:
    return pl.when(pl.col("kind") == "bust").then(pl.lit(-1)).otherwise(pl.lit(1)).cast(NUMBER)


def _signed_cash() -> pl.Expr:
    return cash_effect() * _direction()


def _positions(positions: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    joined = positions.join(moved, on="symbol", how="full", coalesce=True)
    back = joined.with_columns(
        (pl.col("qty").fill_null(0) - pl.col("moved").fill_null(0)).cast(NUMBER).alias("qty"),
        pl.when(pl.col("moved").is_null()).then("avg_price").otherwise(None).alias("avg_price"),
        pl.lit(None, dtype=NUMBER).alias("mark"),
        pl.col("multiplier").fill_null(Decimal(1)).alias("multiplier"),
    )
    return back.filter(pl.col("qty") != 0).select(list(POSITIONS)).sort("symbol")
