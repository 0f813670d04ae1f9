"""The frames that reconciliation compares, one schema a table, the same for our books and for the broker's.

Invariants: money and quantity are exact decimals of nine places; ``qty`` of orders and executions is unsigned and
``side`` carries the direction; ``qty`` of positions and activities is signed; times are UTC; a frame of any other shape
is refused, never coerced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.core.values import plain

PLACES = 9
NUMBER = pl.Decimal(38, PLACES)
TIME = pl.Datetime("us", "UTC")

# order_id is the broker's id of the order. kind: fill, bust, correction; refers_to: the execution taken back by it.
EXECUTIONS: dict[str, Any] = {
    "execution_id": pl.String, "order_id": pl.String, "client_order_id": pl.String, "symbol": pl.String,
    "side": pl.String, "qty": NUMBER, "price": NUMBER, "occurred_at": TIME, "trade_date": pl.Date, "fee": NUMBER,
    "kind": pl.String, "refers_to": pl.String, "multiplier": NUMBER, "strategy": pl.String,
}  # fmt: skip
ORDERS: dict[str, Any] = {
    "order_id": pl.String, "client_order_id": pl.String, "symbol": pl.String, "side": pl.String, "qty": NUMBER,
    "filled_qty": NUMBER, "status": pl.String,
}  # fmt: skip
POSITIONS: dict[str, Any] = {
    "symbol": pl.String, "qty": NUMBER, "avg_price": NUMBER, "mark": NUMBER, "multiplier": NUMBER,
}  # fmt: skip
# amount: what it did to cash; qty: what it did to the position in symbol; covers: the session a fee was earned in.
ACTIVITIES: dict[str, Any] = {
    "activity_id": pl.String, "kind": pl.String, "symbol": pl.String, "amount": NUMBER, "qty": NUMBER,
    "date": pl.Date, "covers": pl.Date, "description": pl.String,
}  # fmt: skip

_DEFAULTS: dict[str, Any] = {"kind": "fill", "multiplier": Decimal(1)}
_REQUIRED = {
    "executions": ("symbol", "side", "qty", "price", "occurred_at", "trade_date", "kind", "multiplier"),
    "orders": ("symbol", "side", "filled_qty", "status"),
    "positions": ("symbol", "qty", "multiplier"),
    "activities": ("activity_id", "kind", "amount", "date"),
}
SCHEMAS = {"executions": EXECUTIONS, "orders": ORDERS, "positions": POSITIONS, "activities": ACTIVITIES}


def frame(table: str, rows: Iterable[Mapping[str, Any]] = ()) -> pl.DataFrame:
    """A frame of ``table`` (executions, orders, positions, activities) from dicts; absent columns take defaults."""
    schema = SCHEMAS[table]
    columns: dict[str, list[Any]] = {name: [] for name in schema}
    for row in rows:
        for name, column in columns.items():
            value = row.get(name)
            if schema[name] == NUMBER and value is not None and not isinstance(value, Decimal):
                raise _refusal(f"{table}.{name}", value, "is not an exact decimal", "hand over a Decimal")
            column.append(_DEFAULTS.get(name) if value is None and table != "activities" else value)
    if table == "activities":
        columns["kind"] = [None if kind is None else str(kind) for kind in columns["kind"]]
    return checked(table, pl.DataFrame(columns, schema=schema, strict=True))


def checked(table: str, data: pl.DataFrame) -> pl.DataFrame:
    """``data`` when it is a good frame of ``table``; raises InvalidInputError that names the column and its remedy."""
    schema = SCHEMAS[table]
    if dict(data.schema) != schema:
        odd = sorted(set(schema) ^ set(data.columns)) or [n for n in schema if data.schema[n] != schema[n]]
        raise _refusal(f"{table}.{odd[0]}", data.schema.get(odd[0]), "is not of the expected type", str(schema[odd[0]]))
    empty = data.select(pl.col(*_REQUIRED[table]).is_null().any())
    for name in empty.columns:
        if empty[name].any():
            raise _refusal(f"{table}.{name}", None, "is missing in a row", "every row needs it")
    if (
        table == "executions"
        and data.filter(
            (pl.col("qty") <= 0)
            | (pl.col("price") < 0)
            | (pl.col("multiplier") <= 0)
            | ~pl.col("side").is_in(["buy", "sell"])
        ).height
    ):
        raise _refusal("executions", None, "has a row that is not a trade", "side buy or sell, qty above zero")
    if table == "positions" and data["symbol"].n_unique() != data.height:
        raise _refusal("positions.symbol", None, "stands twice", "one row a symbol")
    return data


def _refusal(name: str, value: Any, problem: str, remedy: str) -> InvalidInputError:
    return InvalidInputError([FieldError(name, value, problem, remedy)], code="invalid_frame")


@dataclass(frozen=True)
class Books:
    """One side of the day: ours, or the broker's. A section that is None was not told, which is never "empty".

    ``cash`` and ``equity`` in dollars at the cut. ``booked`` are the ids of activities that our books already hold and
    somebody answers for; ``polled`` those whose money our books took up only because the broker had moved it.
    """

    executions: pl.DataFrame | None = None
    orders: pl.DataFrame | None = None
    positions: pl.DataFrame | None = None
    activities: pl.DataFrame | None = None
    cash: Decimal | None = None
    equity: Decimal | None = None
    booked: frozenset[str] = field(default_factory=frozenset)
    polled: frozenset[str] = field(default_factory=frozenset)


def signed_qty() -> pl.Expr:
    """The execution's quantity with the sign of its side."""
    return pl.when(pl.col("side") == "buy").then(pl.col("qty")).otherwise(-pl.col("qty"))


def cash_effect() -> pl.Expr:
    """What the execution did to cash, its fee left out: minus signed quantity times price times multiplier."""
    return -(signed_qty() * pl.col("price") * pl.col("multiplier"))


def new_york_date() -> pl.Expr:
    """The date in New York on which it happened: the day that its fees are charged for."""
    return pl.col("occurred_at").dt.convert_time_zone("America/New_York").dt.date()


def as_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row as JSON keeps it: numbers and times as text, nothing that is None."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Decimal):
            shown[name] = plain(value)
        elif isinstance(value, datetime | date):
            shown[name] = value.isoformat()
        elif value is not None:
            shown[name] = value
    return shown


def from_text(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`as_text` for a row of ``table``."""
    parsed: dict[str, Any] = {}
    for name, kind in SCHEMAS[table].items():
        value = row.get(name)
        if value is None:
            parsed[name] = None
        elif kind == NUMBER:
            parsed[name] = Decimal(value)
        elif kind == TIME:
            parsed[name] = datetime.fromisoformat(value)
        elif kind == pl.Date:
            parsed[name] = date.fromisoformat(value)
        else:
            parsed[name] = value
    return parsed
