"""Realised profit by first in first out and by average cost, from executions in the order in which they happened.

Invariants: exact decimals; a short is opened by a sale and closed by a purchase; crossing zero closes the old side and
opens the new one at the same price; what stays open is returned as lots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import polars as pl

from backend.tradingbot.ops.recon_frames import NUMBER, TIME, signed_qty

ZERO = Decimal(0)
Key = tuple[str, str]
_KEY = ["strategy", "symbol"]


class Lot(NamedTuple):
    """An open quantity (a short is negative) and the price a unit that it was opened at."""

    qty: Decimal
    price: Decimal


class AverageState(NamedTuple):
    """The position by average cost."""

    qty: Decimal
    price: Decimal


@dataclass(frozen=True)
class FifoResult:
    realized: Mapping[Key, Decimal]
    lots: Mapping[Key, tuple[Lot, ...]]


@dataclass(frozen=True)
class AverageResult:
    realized: Mapping[Key, Decimal]
    states: Mapping[Key, AverageState]


def first_in_first_out(opening: Mapping[Key, tuple[Lot, ...]], executions: pl.DataFrame) -> FifoResult:
    """Realised dollars and the lots left, by (strategy, symbol).

    Each execution is split into the part that closes (towards zero) and the part that opens. Openings and closings are
    each consumed in order, and by every return to zero as many units were opened as closed: so the first X units opened
    are exactly those that X units closed, and no pairing of rows is needed.
    """
    rows = _ordered(opening, executions)
    if not rows.height:
        return FifoResult({}, {})
    sign = pl.when(pl.col("signed") > 0).then(pl.lit(1)).otherwise(pl.lit(-1)).cast(NUMBER)
    rows = rows.with_columns(
        pl.when(pl.col("before") * sign < 0)
        .then(pl.min_horizontal(pl.col("before").abs(), pl.col("signed").abs()))
        .otherwise(pl.lit(ZERO, dtype=NUMBER))
        .alias("closes"),
        sign.alias("sign"),
    ).with_columns((pl.col("signed").abs() - pl.col("closes")).alias("opens"))
    opened_before = pl.col("opens").cum_sum().over(_KEY) - pl.col("opens")
    rows = rows.with_columns(
        (pl.col("closes").sum().over(_KEY) - opened_before).clip(lower_bound=ZERO).alias("room")
    ).with_columns(pl.min_horizontal("room", "opens").alias("closed"))
    rows = rows.with_columns((pl.col("opens") - pl.col("closed")).alias("left"))
    value = -(pl.col("sign") * (pl.col("closes") + pl.col("closed")) * pl.col("price") * pl.col("multiplier"))
    totals = rows.group_by(_KEY).agg(value.sum().alias("realized"), pl.col("closes").sum())
    realized = {(strategy, symbol): total for strategy, symbol, total, _ in totals.iter_rows()}
    lots: dict[Key, list[Lot]] = {}
    left = rows.filter(pl.col("left") > 0).select(*_KEY, pl.col("sign") * pl.col("left"), "price")
    for strategy, symbol, qty, price in left.iter_rows():
        lots.setdefault((strategy, symbol), []).append(Lot(qty, price))
    return FifoResult(realized, {key: tuple(found) for key, found in lots.items()})


def _ordered(opening: Mapping[Key, tuple[Lot, ...]], executions: pl.DataFrame) -> pl.DataFrame:
    """Opening lots first, then executions by time, with the position before each."""
    schema: dict[str, Any] = {
        "strategy": pl.String,
        "symbol": pl.String,
        "signed": NUMBER,
        "price": NUMBER,
        "occurred_at": TIME,
    }
    multipliers = dict(executions.group_by("symbol").agg(pl.col("multiplier").first()).iter_rows())
    before = [
        (strategy, symbol, lot.qty, lot.price, None)
        for (strategy, symbol), lots in sorted(opening.items())
        for lot in lots
        if lot.qty
    ]
    start = pl.DataFrame(before, schema=schema, orient="row").with_columns(
        pl.lit("").alias("execution_id"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("lot"),
        pl.col("symbol").replace_strict(multipliers, default=Decimal(1), return_dtype=NUMBER).alias("multiplier"),
    )
    moves = executions.select(
        pl.col("strategy").fill_null(""), "symbol", signed_qty().alias("signed"), "price", "occurred_at",
        pl.col("execution_id").fill_null(""), pl.lit(0, dtype=pl.Int64).alias("lot"), "multiplier",
    )  # fmt: skip
    rows = pl.concat([start, moves]).sort(
        *_KEY, "occurred_at", "lot", "execution_id", "signed", "price", nulls_last=False
    )
    return rows.with_columns((pl.col("signed").cum_sum().over(_KEY) - pl.col("signed")).alias("before"))


def average_cost(opening: Mapping[Key, AverageState], executions: pl.DataFrame) -> AverageResult:
    """Realised dollars and the average left, by (strategy, symbol): adding moves the average, reducing realises
    against it. A recursion over rows, and so the one place here that walks them."""
    lots = {key: (Lot(state.qty, state.price),) for key, state in opening.items()}
    rows = _ordered(lots, executions)
    realized: dict[Key, Decimal] = {}
    states: dict[Key, AverageState] = {}
    columns = rows.select(*_KEY, "signed", "price", "multiplier")
    for strategy, symbol, signed, price, multiplier in columns.iter_rows():
        key = (strategy, symbol)
        state = states.get(key, AverageState(ZERO, ZERO))
        gain, states[key] = _move(state, signed, price)
        realized[key] = realized.get(key, ZERO) + gain * multiplier
    return AverageResult(realized, states)


def _move(state: AverageState, signed: Decimal, price: Decimal) -> tuple[Decimal, AverageState]:
    after = state.qty + signed
    if state.qty * signed >= 0:
        cost = state.price * abs(state.qty) + price * abs(signed)
        return ZERO, AverageState(after, (cost / abs(after)).quantize(Decimal("1e-9")) if after else ZERO)
    closed = min(abs(signed), abs(state.qty))
    gain = (price - state.price) * closed * (1 if state.qty > 0 else -1)
    if abs(signed) > abs(state.qty):
        return gain, AverageState(after, price)
    return gain, AverageState(after, state.price if after else ZERO)
