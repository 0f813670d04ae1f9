"""Busts and corrections applied before anything is matched: what an execution is after the broker took it back.

Invariants: a bust removes the execution that it names, a correction replaces its terms and keeps its id; one that names
an execution nobody knows is a break of its own, never dropped; applying twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

import polars as pl

from backend.tradingbot.ops.recon_breaks import ZERO, FoundBreak, Row, from_executions, subject_of
from backend.tradingbot.ops.recon_frames import EXECUTIONS
from backend.tradingbot.ops.recon_kinds import BreakKind

# Not its time nor its date: those of a correction are of the day on which it was made.
Key = tuple[str, str]
_TERMS = ("symbol", "side", "qty", "price", "fee", "multiplier")


@dataclass(frozen=True)
class Corrected:
    """``executions`` as they stand after every bust and correction; ``touched`` are the ids that were changed,
    ``orphans`` the breaks about busts that name no known execution, and ``less`` by how much less was executed than
    told at first, by execution id, with the broker's id of its order."""

    executions: pl.DataFrame
    touched: frozenset[str]
    orphans: tuple[FoundBreak, ...]
    less: Mapping[str, tuple[str, Decimal]] = field(default_factory=dict)


def apply(executions: pl.DataFrame, earlier: pl.DataFrame) -> Corrected:
    """``executions`` with its busts and corrections applied. ``earlier`` are executions of sessions before, which a
    bust of today may name; only those that are named join the frame."""
    changes = executions.filter(pl.col("kind") != "fill")
    if not changes.height:
        return Corrected(executions, frozenset(), ())
    plain = executions.filter(pl.col("kind") == "fill")
    named = changes.select(pl.col("refers_to").drop_nulls().unique().alias("execution_id"))
    older = earlier.join(named, on="execution_id", how="semi").join(plain, on="execution_id", how="anti")
    plain = pl.concat([plain, older.select(list(EXECUTIONS))])
    known = set(plain.join(named, on="execution_id", how="semi")["execution_id"])
    rows = {row["execution_id"]: row for row in plain.join(named, on="execution_id", how="semi").iter_rows(named=True)}
    told, orphans = dict(rows), list[FoundBreak]()
    root: dict[str, str] = {name: name for name in known}
    for change in changes.sort("occurred_at", "execution_id", nulls_last=True).iter_rows(named=True):
        target = root.get(change["refers_to"] or "")
        if target is None or target not in rows:
            orphans.append(_orphan(change))
            continue
        root[change["execution_id"]] = target
        if change["kind"] == "bust":
            del rows[target]
        else:
            rows[target] = {**rows[target], **{name: change[name] for name in _TERMS}}
    untouched = plain.join(named, on="execution_id", how="anti")
    fresh = pl.DataFrame(list(rows.values()), schema=EXECUTIONS, orient="row") if rows else untouched.clear()
    return Corrected(pl.concat([untouched, fresh]), frozenset(known), tuple(orphans), _less(told, rows))


def _less(told: Mapping[str, Row], left: Mapping[str, Row]) -> dict[str, tuple[str, Decimal]]:
    found = {}
    for name, row in told.items():
        qty = row["qty"] - (left[name]["qty"] if name in left else ZERO)
        if qty and row["order_id"]:
            found[name] = (row["order_id"], qty)
    return found


def agreed_less(mine: Corrected, other: Corrected) -> dict[str, Decimal]:
    """What both sides took back alike, by the broker's id of the order."""
    total: dict[str, Decimal] = {}
    for name, (order_id, qty) in mine.less.items():
        if other.less.get(name) == (order_id, qty):
            total[order_id] = total.get(order_id, ZERO) + qty
    return total


def _orphan(change: dict[str, object]) -> FoundBreak:
    explanation = f"takes back execution {change['refers_to']}, which is not known; ask the broker what it was"
    found = from_executions(
        BreakKind.BUST_OR_CORRECTION, [], [change], subject=subject_of(change), explanation=explanation
    )
    back = tuple((symbol, -qty) for symbol, qty in found.effects) if change["kind"] == "bust" else ()
    cash = -found.cash_effect if back else ZERO
    return replace(
        found, effects=(), cash_effect=ZERO, possible_effects=back, possible_cash=cash, carry_theirs=(),
    )  # fmt: skip


def retracted(standing: Iterable[FoundBreak], orphans: Iterable[FoundBreak]) -> frozenset[Key]:
    """The keys of what settles itself: executions that the broker had told twice, and the busts that take the second
    telling back."""
    doubled = {each.subject: each.key for each in standing if each.kind is BreakKind.DUPLICATE and each.theirs}
    gone: set[Key] = set()
    for orphan in orphans:
        key = doubled.get(str(orphan.theirs.get("refers_to"))) if orphan.possible_effects else None
        gone |= {key, orphan.key} if key else set()
    return frozenset(gone)


def relabelled(found: FoundBreak, touched: frozenset[str]) -> FoundBreak:
    """A break about an execution that the broker took back or corrected says so."""
    ids = {row["execution_id"] for row in (*found.carry_ours, *found.carry_theirs)}
    if not ids & touched or found.kind is BreakKind.DUPLICATE:
        return found
    what = "corrected" if found.carry_theirs else "busted"
    explanation = f"the broker {what} this execution after it was booked here; book the change or dispute it"
    return replace(found, kind=BreakKind.BUST_OR_CORRECTION, explanation=explanation)
