"""From what the match passes left over to breaks: duplicates, busts, clashes, and executions that one side lacks.

Invariants: each left-over execution is in exactly one break; the result is sorted and independent of the order of the
rows; a suggestion is only ever text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import polars as pl

from backend.tradingbot.core.values import plain
from backend.tradingbot.ops.recon_breaks import (
    ZERO,
    FoundBreak,
    Row,
    average,
    effects_of,
    from_executions,
    money,
    shown,
    subject_of,
)
from backend.tradingbot.ops.recon_kinds import BreakKind, Tolerances, tick_of
from backend.tradingbot.ops.recon_match import ROW, Matched

_EARLY = (BreakKind.SYMBOL, BreakKind.SIDE, BreakKind.QTY, BreakKind.PRICE)


def without_duplicates(executions: pl.DataFrame, whose: str) -> tuple[pl.DataFrame, list[FoundBreak]]:
    """The frame with each execution id once, and a ``duplicate`` break for each id that stood more than once.

    Of several rows the one that sorts first by content stays; the others are the break. Whether the broker counted
    the execution twice as well only its positions can tell.
    """
    known = executions.filter(pl.col("execution_id").is_not_null())
    twice = known.filter(pl.col("execution_id").is_duplicated())
    if not twice.height:
        return executions, []
    order = ["execution_id", "occurred_at", "symbol", "side", "qty", "price", "order_id"]
    extra = twice.sort(order, nulls_last=True).filter(pl.int_range(pl.len()).over("execution_id") > 0)
    breaks = []
    for (name,), rows in sorted(extra.group_by("execution_id"), key=lambda item: str(item[0][0])):
        found = list(rows.iter_rows(named=True))
        effects, cash = effects_of([], found)
        told = {**shown(found[0]), "times": len(found) + 1}
        breaks.append(
            FoundBreak(
                BreakKind.DUPLICATE, str(name)[:120], found[0]["symbol"],
                ours=told if whose == "ours" else {}, theirs={} if whose == "ours" else told,
                difference={"rows": str(len(found))}, value=abs(money(found[0])).quantize(Decimal("0.01")),
                explanation=f"the side {whose} tells execution {name} {len(found) + 1} times",
                possible_effects=effects, possible_cash=cash,
            )
        )  # fmt: skip
    return executions.join(extra, on=ROW, how="anti"), breaks


@dataclass
class _Order:
    """What is left of one order on either side, and the execution rows of it that are matched."""

    ours: list[dict[str, Any]]
    theirs: list[dict[str, Any]]


class Leftovers:
    """Turns the left-over rows of one match into breaks."""

    def __init__(self, matched: Matched, ours: pl.DataFrame, theirs: pl.DataFrame, tolerances: Tolerances) -> None:
        self._matched, self._tolerances = matched, tolerances
        self._ours, self._theirs = ours, theirs
        self._told = {True: _matched_by_order(matched.ours_left, ours, matched.pairs["ours"]),
                      False: _matched_by_order(matched.theirs_left, theirs, matched.pairs["theirs"])}  # fmt: skip
        self.breaks: list[FoundBreak] = []

    def found(self) -> list[FoundBreak]:
        """Every break, sorted."""
        self._clashes()
        for order in self._orders():
            self._cancel_equal_terms(order)
            self._split(order)
        self._suggest()
        return sorted(self.breaks, key=lambda found: found.key)

    def _clashes(self) -> None:
        """The same execution id on both sides, and something in it differs: the gravest difference names the break."""
        rows = self._matched.clashes
        mine = _by_row(self._ours, rows[ROW])
        other = _by_row(self._theirs, rows[f"{ROW}_theirs"])
        for row in rows.iter_rows(named=True):
            self._pair(mine[row[ROW]], other[row[f"{ROW}_theirs"]])

    def _pair(self, mine: Row, other: Row) -> None:
        last = BreakKind.QTY if mine["multiplier"] != other["multiplier"] else BreakKind.TRADE_DATE
        kind = next((kind for kind in _EARLY if mine[str(kind)] != other[str(kind)]), last)
        words = f"{plain(other['qty'])} {other['symbol']} {other['side']} at {plain(other['price'])}"
        explanation = f"the broker reports {words} on {other['trade_date']}; ask for a correction, or book it"
        self.breaks.append(from_executions(kind, [mine], [other], subject=subject_of(other), explanation=explanation))

    def _orders(self) -> list[_Order]:
        """The left-over rows by the broker's order id, else by ours, else each alone."""
        ours = list(self._matched.ours_left.iter_rows(named=True))
        theirs = list(self._matched.theirs_left.iter_rows(named=True))
        alias = {
            row["client_order_id"]: row["order_id"]
            for row in (*ours, *theirs)
            if row["client_order_id"] and row["order_id"]
        }
        groups: dict[str, _Order] = defaultdict(lambda: _Order([], []))
        for rows, name in ((ours, "ours"), (theirs, "theirs")):
            for row in rows:
                client = row["client_order_id"]
                key = row["order_id"] or alias.get(client) or client or f"alone {name} {subject_of(row)} {row[ROW]}"
                getattr(groups[key], name).append(row)
        return [groups[key] for key in sorted(groups)]

    def _cancel_equal_terms(self, order: _Order) -> None:
        """Take out of an order what is the same on both sides but for its time: only the true surplus is a break."""
        if not order.ours or not order.theirs:
            return
        for mine in sorted(order.ours, key=_age):
            twins = [row for row in order.theirs if _terms(row) == _terms(mine)]
            if twins:
                order.theirs.remove(
                    min(twins, key=lambda row: (abs(row["occurred_at"] - mine["occurred_at"]), _age(row)))
                )
                order.ours.remove(mine)

    def _split(self, order: _Order) -> None:
        ours, theirs = sorted(order.ours, key=_age), sorted(order.theirs, key=_age)
        if len(ours) == 1 and len(theirs) == 1:
            self._pair(ours[0], theirs[0])
        elif ours and theirs:
            self._totals(ours, theirs)
        else:
            for row in ours:
                self._lonely(row, mine=True)
            for row in theirs:
                self._lonely(row, mine=False)

    def _totals(self, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
        """Several executions of one order on either side: compared as totals, named by the order."""
        effects, _ = effects_of(ours, theirs)
        mixed = {row["symbol"] for row in ours} != {row["symbol"] for row in theirs}
        sides = {row["side"] for row in ours} != {row["side"] for row in theirs}
        dates = {row["trade_date"] for row in ours} != {row["trade_date"] for row in theirs}
        apart = abs(average(ours) - average(theirs)) > tick_of(average(theirs)) * self._tolerances.average_price_ticks
        candidates = (
            (BreakKind.SYMBOL, mixed),
            (BreakKind.SIDE, sides),
            (BreakKind.QTY, bool(effects)),
            (BreakKind.PRICE, apart),
        )
        kind = next((kind for kind, holds in candidates if holds), BreakKind.TRADE_DATE if dates else BreakKind.PRICE)
        subject = f"order {theirs[0]['order_id'] or theirs[0]['client_order_id']}"[:120]
        explanation = "the partial executions of this order do not add up to the same on both sides"
        self.breaks.append(from_executions(kind, ours, theirs, subject=subject, explanation=explanation))

    def _lonely(self, row: Row, *, mine: bool) -> None:
        twin = self._twin(row, mine=mine)
        if twin is not None:
            self._doubled(row, twin, mine=mine)
            return
        if mine:
            kind = BreakKind.MISSING_AT_BROKER
            explanation = "booked here and not on the statement: a bust that was not told, or reported later"
        else:
            kind = BreakKind.MISSING_INTERNAL
            explanation = "on the statement and not booked here: a lost fill, or a trade made outside"
        ours, theirs = ([row], []) if mine else ([], [row])
        self.breaks.append(from_executions(kind, ours, theirs, subject=subject_of(row), explanation=explanation))

    def _doubled(self, row: Row, twin: Row, *, mine: bool) -> None:
        """Told twice under two ids. Here that is surely wrong; at the broker its positions say whether it counted."""
        where = "here" if mine else "at the broker"
        explanation = f"booked twice {where}: {twin['execution_id']} is the same execution"
        ours, theirs = ([row], []) if mine else ([], [row])
        found = from_executions(BreakKind.DUPLICATE, ours, theirs, subject=subject_of(row), explanation=explanation)
        if not mine:
            found = replace(
                found, possible_effects=found.effects, possible_cash=found.cash_effect, effects=(), cash_effect=ZERO
            )
        self.breaks.append(found)

    def _twin(self, row: Row, *, mine: bool) -> Row | None:
        """The matched execution of the same order, terms and moment: that one execution was told twice."""
        for other in self._told[mine].get(row["order_id"], ()):
            close = abs(other["occurred_at"] - row["occurred_at"]) <= self._tolerances.time
            if close and _terms(other) == _terms(row):
                return other
        return None

    def _suggest(self) -> None:
        """Where one side lacks what the other has too much of, say so. Never confirmed here."""
        lacking: dict[Any, list[int]] = defaultdict(list)
        for at, found in enumerate(self.breaks):
            if found.kind is BreakKind.MISSING_INTERNAL:
                lacking[_loose(found.carry_theirs[0])].append(at)
        for at, found in enumerate(self.breaks):
            if found.kind is not BreakKind.MISSING_AT_BROKER:
                continue
            others = lacking.get(_loose(found.carry_ours[0]), [])
            if others:
                self._name_each_other(at, others.pop(0))

    def _name_each_other(self, ours: int, theirs: int) -> None:
        for here, there in ((ours, theirs), (theirs, ours)):
            found, other = self.breaks[here], self.breaks[there]
            told = f"looks like {other.kind} {other.subject}: same symbol, side, quantity and day; force-match if so"
            self.breaks[here] = replace(found, explanation=told[:500])


def _by_row(source: pl.DataFrame, numbers: pl.Series) -> dict[int, dict[str, Any]]:
    rows = source.filter(pl.col(ROW).is_in(numbers.implode()))
    return {row[ROW]: row for row in rows.iter_rows(named=True)}


def _matched_by_order(left: pl.DataFrame, source: pl.DataFrame, taken: pl.Series) -> Mapping[str, list[dict[str, Any]]]:
    """The matched executions of those orders of which something is left over."""
    orders = left.select(pl.col("order_id").drop_nulls().unique())
    rows = source.join(orders, on="order_id", how="semi")
    rows = rows.filter(pl.col(ROW).is_in(taken.drop_nulls().implode())).sort(
        "occurred_at", "execution_id", nulls_last=True
    )
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.iter_rows(named=True):
        found[row["order_id"]].append(row)
    return found


def _terms(row: Row) -> tuple[Any, ...]:
    return row["symbol"], row["side"], row["qty"], row["price"], row["trade_date"]


def _loose(row: Row) -> tuple[Any, ...]:
    return row["symbol"], row["side"], row["qty"], row["trade_date"]


def _age(row: Row) -> tuple[Any, ...]:
    return row["occurred_at"], row["execution_id"] or "", row["qty"], row["price"], row["side"], row["symbol"]
