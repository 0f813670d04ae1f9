"""Orders of ours against the broker's book: lost ones, unknown ones, and those that ended differently.

Invariant: a difference that the executions of the order already tell is not told a second time; where both sides took
an execution back alike, an order may count it on one side and not on the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import polars as pl

from backend.tradingbot.ops.recon_breaks import ZERO, FoundBreak, shown
from backend.tradingbot.ops.recon_frames import ORDERS, frame, from_text
from backend.tradingbot.ops.recon_kinds import BreakKind

# What a status says to the books: nothing working any more, working, or gone without a trace.
ENDED = ("filled", "canceled", "expired", "rejected", "never_arrived", "denied")
_SAME = {
    "new": "working", "accepted": "working", "partially_filled": "working", "pending_cancel": "working",
    "pending_new": "working", "accepted_for_bidding": "working", "pending_replace": "working", "held": "working",
    "done_for_day": "working", "calculated": "working", "stopped": "working", "suspended": "working",
    "pending_submit": "unresolved", "in_doubt": "unresolved", "cancelled": "canceled", "replaced": "canceled",
}  # fmt: skip
_NOTHING_THERE = ("never_arrived", "denied", "rejected")


def compare_orders(
    ours: pl.DataFrame, theirs: pl.DataFrame, execution_breaks: Iterable[FoundBreak], less: Mapping[str, Decimal]
) -> list[FoundBreak]:
    """Breaks of kind ``order_status``, ``missing_at_broker``, ``missing_internal`` and ``duplicate``, by subject.
    ``less`` is what both sides took back of an order's executions, by the broker's id of the order."""
    theirs, found = _each_once(theirs)
    told = _told(execution_breaks) | {name for each in found for name in _names(each.theirs)}
    joined = _joined(ours, theirs)
    suspects = joined.filter(
        (pl.col("status") != pl.col("status_theirs")).fill_null(True)
        | (pl.col("filled_qty") != pl.col("filled_qty_theirs")).fill_null(True)
    )
    for row in suspects.iter_rows(named=True):
        if told & {row["order_id"], row["order_id_theirs"], row["client_order_id"], row["client_order_id_theirs"]} - {
            None
        }:
            continue
        one = _order_break(row, less.get(row["order_id"] or "", ZERO))
        if one is not None:
            found.append(one)
    return sorted(found, key=lambda each: each.key)


def _each_once(theirs: pl.DataFrame) -> tuple[pl.DataFrame, list[FoundBreak]]:
    """Each order once. The same line again says nothing; other words about the same order contradict each other, and
    that is the break: what became of it nobody can compare."""
    name = pl.coalesce("order_id", "client_order_id")
    repeated = theirs.select(name.is_duplicated() & name.is_not_null()).to_series()
    if not repeated.any():
        return theirs, []
    lines = theirs.filter(repeated).unique().sort(list(ORDERS), nulls_last=True)
    once = lines.filter(name.is_first_distinct())
    extra = lines.join(once, on=list(ORDERS), how="anti", nulls_equal=True)
    found = []
    for (_,), rows in extra.group_by(name.alias("name"), maintain_order=True):
        row = rows.row(0, named=True)
        found.append(
            FoundBreak(
                BreakKind.DUPLICATE, _subject(row), row["symbol"], {}, shown(row), {"rows": str(rows.height)},
                "the statement tells this order several times and differently; ask which one is true",
            )
        )  # fmt: skip
    return pl.concat([theirs.filter(~repeated), once]), found


def with_remembered(theirs: pl.DataFrame | None, standing: Iterable[FoundBreak]) -> pl.DataFrame | None:
    """The broker's orders with those that earlier breaks are about and that it does not tell again: an order that has
    ended is told once, and what was told of it stays true."""
    if theirs is None:
        return None
    known = {name for column in ("order_id", "client_order_id") for name in theirs[column].drop_nulls()}
    rows = {}
    for each in standing:
        told = each.theirs
        if each.subject.startswith("order ") and "filled_qty" in told and not {*_names(told)} & known:
            rows[each.subject] = from_text("orders", told)
    return pl.concat([theirs, frame("orders", rows.values())]) if rows else theirs


def _names(row: Mapping[str, Any]) -> Iterator[str]:
    return (row[name] for name in ("order_id", "client_order_id") if row.get(name))


def _told(breaks: Iterable[FoundBreak]) -> set[str]:
    rows = (row for found in breaks for row in (*found.carry_ours, *found.carry_theirs))
    return {row[name] for row in rows for name in ("order_id", "client_order_id") if row[name]}


def _joined(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """A full join by the broker's id of the order, else by the client order id."""
    mine = ours.with_row_index("row")
    other = theirs.with_row_index("row")
    by_id = mine.filter(pl.col("order_id").is_not_null()).join(
        other, left_on="order_id", right_on="order_id", suffix="_theirs", coalesce=False, how="inner"
    )
    left = mine.join(by_id, on="row", how="anti")
    right = other.join(by_id, left_on="row", right_on="row_theirs", how="anti")
    by_client = left.join(
        right, left_on="client_order_id", right_on="client_order_id", suffix="_theirs", coalesce=False, how="full"
    )
    columns = [*ORDERS, *(f"{name}_theirs" for name in ORDERS)]
    return pl.concat([by_id.select(columns), by_client.select(columns)])


def _order_break(row: Mapping[str, Any], less: Decimal) -> FoundBreak | None:
    mine = {name: row[name] for name in ORDERS} if row["status"] is not None else None
    other = {name: row[f"{name}_theirs"] for name in ORDERS} if row["status_theirs"] is not None else None
    if mine is None:
        return None if other is None else _unknown(other)
    if other is None:
        return _lost(mine)
    here, there = _meaning(mine["status"]), _meaning(other["status"])
    alike = mine["filled_qty"] == other["filled_qty"] or abs(other["filled_qty"] - mine["filled_qty"]) == abs(less)
    if here == there and alike:
        return None
    differing = {"status": f"{mine['status']} here, {other['status']} at the broker"} if here != there else {}
    if not alike:
        differing["filled_qty"] = str(other["filled_qty"] - mine["filled_qty"])
    return FoundBreak(
        BreakKind.ORDER_STATUS, _subject(mine), mine["symbol"], shown(mine), shown(other), differing,
        "the order ended differently there; poll the broker again, then correct the order's state",
    )  # fmt: skip


def _meaning(status: str) -> str:
    lower = status.strip().lower()
    return _SAME.get(lower, lower)


def _unknown(other: Mapping[str, Any]) -> FoundBreak | None:
    if _meaning(other["status"]) in ("rejected", "canceled", "expired") and not other["filled_qty"]:
        ended = "and it ended unfilled"
    else:
        ended = "and it may trade"
    return FoundBreak(
        BreakKind.MISSING_INTERNAL, _subject(other), other["symbol"], {}, shown(other), {"order": "unknown here"},
        f"the broker has an order that was not sent from here, {ended}: placed by hand, or by another system",
    )  # fmt: skip


def _lost(mine: Mapping[str, Any]) -> FoundBreak | None:
    """Nothing at the broker is right for an order that never got there."""
    if _meaning(mine["status"]) in _NOTHING_THERE and not mine["filled_qty"]:
        return None
    return FoundBreak(
        BreakKind.MISSING_AT_BROKER, _subject(mine), mine["symbol"], shown(mine), {}, {"order": "unknown there"},
        f"{mine['status']} here, and the broker's book does not have it: look it up by its client order id",
    )  # fmt: skip


def _subject(row: Mapping[str, Any]) -> str:
    return f"order {row['client_order_id'] or row['order_id']}"[:120]
