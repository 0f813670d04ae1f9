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

from backend.tradingbot.ops.recon_corrections import apply
from backend.tradingbot.ops.recon_frames import NUMBER, POSITIONS, Books, cash_effect, signed_qty


def taken_back(books: Books, cut: datetime, session: date) -> Books:
    """``books`` as they stood at ``cut``; activities dated after ``session`` are taken off as well."""
    assert books.executions is not None and books.activities is not None
    later = books.executions.filter(pl.col("occurred_at") > cut)
    after = books.activities.filter(pl.col("date") > session)
    if not later.height and not after.height:
        return books
    before = books.executions.filter(pl.col("occurred_at") <= cut)
    trades, spent = _since(books.executions, before)
    cash = books.cash
    if cash is not None:
        others: Decimal = after.select(pl.col("amount").sum()).item() or Decimal(0)
        cash = cash - spent - others
    moved = _moved(trades, after)
    return replace(
        books,
        executions=before,
        activities=books.activities.filter(pl.col("date") <= session),
        positions=None if books.positions is None else _positions(books.positions, moved),
        cash=cash,
        equity=None,
    )


def _since(executions: pl.DataFrame, before: pl.DataFrame) -> tuple[pl.DataFrame, Decimal]:
    """What executions did after the cut: to each symbol's position, as (symbol, moved), and to cash.

    The difference of what stands of them now and of what stood of ``before``: a correction moves the books by what it
    changed, a bust by what was left of the execution that it names.
    """
    (held, cash), (earlier, cash_before) = _standing(executions), _standing(before)
    rows = pl.concat([held, earlier.with_columns(-pl.col("moved"))])
    return rows.group_by("symbol").agg(pl.col("moved").sum()), cash - cash_before


def _standing(executions: pl.DataFrame) -> tuple[pl.DataFrame, Decimal]:
    """(symbol, moved) and cash of ``executions`` after their busts and corrections; a bust of one that is not among
    them takes back what it says itself."""
    applied = apply(executions, executions.clear())
    trades = applied.executions.select("symbol", signed_qty().cast(NUMBER).alias("moved"))
    busts = [effect for orphan in applied.orphans for effect in orphan.possible_effects]
    rows = pl.concat([trades, pl.DataFrame(busts, schema=trades.schema, orient="row")])
    cash: Decimal = applied.executions.select(cash_effect().sum()).item() or Decimal(0)
    return rows, cash + sum((orphan.possible_cash for orphan in applied.orphans), Decimal(0))


def _moved(trades: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """What happened after the cut to each symbol's position, as (symbol, moved); a symbol that ended where it was at
    the cut stays in, since its average may have moved."""
    others = after.filter(pl.col("qty").is_not_null() & pl.col("symbol").is_not_null())
    rows = pl.concat([trades, others.select("symbol", pl.col("qty").alias("moved"))])
    return rows.group_by("symbol").agg(pl.col("moved").sum())


def _positions(positions: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    joined = positions.join(moved, on="symbol", how="full", coalesce=True)
    back = joined.with_columns(
        (pl.col("qty").fill_null(0) - pl.col("moved").fill_null(0)).cast(NUMBER).alias("qty"),
        pl.when(pl.col("moved").is_null()).then("avg_price").otherwise(None).alias("avg_price"),
        pl.lit(None, dtype=NUMBER).alias("mark"),
        pl.col("multiplier").fill_null(Decimal(1)).alias("multiplier"),
    )
    return back.filter(pl.col("qty") != 0).select(list(POSITIONS)).sort("symbol")
