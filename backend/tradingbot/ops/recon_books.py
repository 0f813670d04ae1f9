"""Positions, cost, cash, fees and other activities of ours against the broker's.

Invariants: what an execution-level break already explains is not told again: only the rest that nothing explains is a
position or a cash break; a section that one side did not tell is not compared, and that is itself a break elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl

from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.core.values import plain
from backend.tradingbot.ops.recon_breaks import CENT, ZERO, Activity, FoundBreak, shown
from backend.tradingbot.ops.recon_frames import Books
from backend.tradingbot.ops.recon_kinds import ActivityKind, BreakKind, Tolerances, tick_of

_SPLITS = [Fraction(n) for n in (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 50)] + [
    Fraction(3, 2),
    Fraction(4, 3),
    Fraction(5, 4),
]
_SETTLES_ITSELF = (ActivityKind.DIVIDEND, ActivityKind.INTEREST)


@dataclass(frozen=True)
class ExpectedFees:
    """Dollars by the session that earned them: ``open`` from the runs before, ``fresh`` from what this statement tells;
    ``due`` are the sessions whose fees should have been charged by now."""

    open: Mapping[date, Decimal] = field(default_factory=dict)
    fresh: Mapping[date, Decimal] = field(default_factory=dict)
    due: frozenset[date] = frozenset()

    def expected(self, day: date) -> Decimal:
        return self.open.get(day, ZERO) + self.fresh.get(day, ZERO)

    def is_right(self, day: date, told: Decimal, tolerances: Tolerances) -> bool:
        """What is charged is all of the day, or all that was known of it before this statement."""
        known = self.open.get(day, ZERO)
        return abs(told - self.expected(day)) <= tolerances.fee or (
            known > tolerances.fee and abs(told - known) <= tolerances.fee
        )

    def left(self, charged: Mapping[date, Decimal], tolerances: Tolerances) -> dict[date, Decimal]:
        """What is still to come after ``charged``: the days that no charge was about, and what came late for a day
        that was charged without it."""
        days = {day: self.expected(day) for day in sorted({*self.open, *self.fresh}) if day not in charged}
        for day, told in charged.items():
            late = self.fresh.get(day, ZERO)
            if late > tolerances.fee and abs(told - self.open.get(day, ZERO)) <= tolerances.fee:
                days[day] = late
        return days


@dataclass(frozen=True)
class ActivityResult:
    adopted: tuple[Activity, ...]
    breaks: tuple[FoundBreak, ...]


def compare_activities(
    theirs: pl.DataFrame, ours: Books, held: frozenset[str], fees: ExpectedFees, tolerances: Tolerances
) -> ActivityResult:
    """What to adopt and what to ask about. ``held`` are the symbols with a position or a trade in the session.

    What the poll of the broker's cash took up is judged like any other: it is adopted, or asked about, at no amount.
    """
    adopted: list[Activity] = []
    breaks: list[FoundBreak] = []
    rows, twice = _each_once(theirs)
    breaks += twice
    for row in rows:
        if row["kind"] == ActivityKind.FEE or row["activity_id"] in ours.booked:
            continue
        if row["kind"] not in _SETTLES_ITSELF or (row["symbol"] and row["symbol"] not in held) or row["qty"]:
            breaks.append(taken_up(_activity_break(row), ours.polled))
        else:
            adopted.append(_moved(_activity(row), ours.polled))
    told = compare_fees([row for row in rows if row["kind"] == ActivityKind.FEE], ours, fees, tolerances)
    return ActivityResult((*adopted, *told.adopted), (*breaks, *told.breaks))


def taken_up(found: FoundBreak, polled: frozenset[str]) -> FoundBreak:
    """The break without the money of those of its activities that the poll has moved in our books already."""
    moved = sum((each.amount for each in found.activities if each.activity_id in polled), ZERO)
    activities = tuple(_moved(each, polled) for each in found.activities)
    return replace(found, activities=activities, cash_effect=found.cash_effect - moved)


def _moved(activity: Activity, polled: frozenset[str]) -> Activity:
    """At no amount when our cash has moved by it already."""
    return replace(activity, amount=ZERO) if activity.activity_id in polled else activity


def _each_once(theirs: pl.DataFrame) -> tuple[list[dict[str, Any]], list[FoundBreak]]:
    """Each activity once, by its id; one that stands several times counts once, and is a break."""
    ordered = theirs.sort("activity_id", "amount", "qty", "description", nulls_last=True)
    extra = ordered.filter(~pl.col("activity_id").is_first_distinct())
    breaks = [
        FoundBreak(
            BreakKind.DUPLICATE, f"activity {row['activity_id']}"[:120], row["symbol"] or "", theirs=shown(row),
            difference={"rows": str(count)}, value=abs(row["amount"]).quantize(CENT),
            explanation="the statement tells this activity several times; it was counted once",
        )
        for row, count in (
            (rows.row(0, named=True), rows.height) for _, rows in extra.group_by("activity_id", maintain_order=True)
        )
    ]  # fmt: skip
    return list(ordered.unique("activity_id", keep="first", maintain_order=True).iter_rows(named=True)), breaks


def compare_fees(
    charged: list[dict[str, Any]], ours: Books, fees: ExpectedFees, tolerances: Tolerances
) -> ActivityResult:
    """Fees by the session that earned them (``covers``, else the date of the charge). A charge's amount is negative.
    Charges that are booked count towards their day and are not asked about again; those that the poll took up are."""
    by_day: dict[date, list[dict[str, Any]]] = {
        day: [] for day in fees.due if fees.expected(day) > tolerances.fee
    }  # fmt: skip
    for row in charged:
        by_day.setdefault(row["covers"] or row["date"], []).append(row)
    adopted: list[Activity] = []
    breaks: list[FoundBreak] = []
    for day, rows in sorted(by_day.items()):
        told, owed = -sum((row["amount"] for row in rows), ZERO), fees.expected(day)
        fresh = [_moved(_activity(row), ours.polled) for row in rows if row["activity_id"] not in ours.booked]
        if rows and (not fresh or fees.is_right(day, told, tolerances)):
            adopted += fresh
            continue
        ids = ", ".join(row["activity_id"] for row in rows) or "none"
        breaks.append(
            FoundBreak(
                BreakKind.FEE, f"fees of {day}", ours={"fee": str(plain(owed))},
                theirs={"fee": str(plain(told)), "activities": ids[:400]}, difference={"fee": str(plain(told - owed))},
                explanation="the broker charged other fees than the schedule says: a new rate, or a wrong charge"
                if rows else "the fees of this session were not charged in time",
                value=abs(told - owed).quantize(CENT), cash_effect=sum((each.amount for each in fresh), ZERO),
                activities=tuple(fresh),
            )
        )  # fmt: skip
    return ActivityResult(tuple(adopted), tuple(breaks))


def _activity(row: Mapping[str, Any]) -> Activity:
    return Activity(
        row["activity_id"], row["kind"], row["symbol"] or "", row["amount"], row["qty"] or ZERO, row["date"],
        row["description"] or "",
    )  # fmt: skip


def _activity_break(row: Mapping[str, Any]) -> FoundBreak:
    kind, told = {
        ActivityKind.CORPORATE_ACTION: (BreakKind.CORPORATE_ACTION, "a corporate action; book its shares and cash"),
        ActivityKind.OPTION_EVENT: (BreakKind.OPTION_EVENT, "an expiry, exercise or assignment; book what it did"),
        ActivityKind.FLOW: (BreakKind.CASH, "money came in or went out that was not announced"),
    }.get(row["kind"], (BreakKind.CASH, "an activity that our books do not expect"))
    qty, symbol = row["qty"] or ZERO, row["symbol"] or ""
    difference = {"cash": str(plain(row["amount"]))} | ({f"qty {symbol}": str(plain(qty))} if qty else {})
    return FoundBreak(
        kind, f"activity {row['activity_id']}"[:120], symbol, {}, shown(row), difference,
        f"{told}: {row['description'] or row['kind']}"[:500], abs(row["amount"]).quantize(CENT),
        effects=((symbol, qty),) if qty and symbol else (), cash_effect=row["amount"], activities=(_activity(row),),
    )  # fmt: skip


def compare_positions(
    ours: pl.DataFrame, theirs: pl.DataFrame, known: Collection[FoundBreak], day: tuple[date, frozenset[str]],
    tolerances: Tolerances,
) -> list[FoundBreak]:  # fmt: skip
    """The differences of quantity that no other break explains, and of cost where the quantity agrees and no break
    moved anything. ``day`` is the session, and the symbols whose cost is not to be compared all the same."""
    session, touched = day
    joined = _side_by_side(ours, theirs)
    effects = _sum_effects(known)
    touched |= set(effects) | {found.symbol for found in known if found.cash_effect}
    breaks: list[FoundBreak] = []
    for row in joined.iter_rows(named=True):
        symbol = row["symbol"]
        mine, other = row["qty"] or ZERO, row["qty_theirs"] or ZERO
        rest = other - mine - effects.get(symbol, ZERO)
        if rest:
            breaks.append(_position_break(row, mine, other, rest, session))
        elif symbol not in touched:
            breaks += _cost_break(row, mine, tolerances)
    return breaks


def _side_by_side(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    joined = ours.join(theirs, on="symbol", how="full", suffix="_theirs", coalesce=True)
    return joined.sort("symbol")


def _sum_effects(known: Iterable[FoundBreak]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for found in known:
        for symbol, qty in found.effects:
            total[symbol] = total.get(symbol, ZERO) + qty
    return total


def settle_possible(
    ours: pl.DataFrame, theirs: pl.DataFrame, known: list[FoundBreak], counted: Mapping[str, Decimal]
) -> list[FoundBreak]:
    """Let the broker's positions settle what its lines leave open. ``counted`` are effects that are not in ``known``.

    Where a position holds exactly what an execution told twice would add, it counted twice; where it holds exactly
    what the statement has no line for, only the lines are missing and the books agree.
    """
    rest = {
        row["symbol"]: (row["qty_theirs"] or ZERO) - (row["qty"] or ZERO) - counted.get(row["symbol"], ZERO)
        for row in _side_by_side(ours, theirs).iter_rows(named=True)
    }
    for symbol, qty in _sum_effects(known).items():
        rest[symbol] = rest.get(symbol, ZERO) - qty
    known = _lines_missing(known, rest)
    settled = []
    for found in known:
        certain = bool(found.possible_effects) and all(
            qty * rest.get(symbol, ZERO) > 0 and abs(qty) <= abs(rest.get(symbol, ZERO))
            for symbol, qty in found.possible_effects
        )
        if certain:
            for symbol, qty in found.possible_effects:
                rest[symbol] -= qty
            found = replace(found, effects=found.possible_effects, cash_effect=found.possible_cash)
        settled.append(found)
    return settled


def _lines_missing(known: list[FoundBreak], rest: dict[str, Decimal]) -> list[FoundBreak]:
    """Executions that the statement has no line for and that the broker's position holds all the same move nothing."""
    lacking: dict[str, Decimal] = {}
    for found in known:
        if found.kind is BreakKind.MISSING_AT_BROKER and len(found.effects) == 1:
            (symbol, qty), *_ = found.effects
            lacking[symbol] = lacking.get(symbol, ZERO) + qty
    held = {symbol for symbol, qty in lacking.items() if qty and rest.get(symbol, ZERO) == -qty}
    settled = []
    for found in known:
        if found.kind is BreakKind.MISSING_AT_BROKER and found.effects and found.effects[0][0] in held:
            told = "the broker's position holds it: a line is missing on the statement, ask for it again"
            found = replace(found, effects=(), cash_effect=ZERO, explanation=told)
        settled.append(found)
    for symbol in held:
        rest[symbol] = ZERO
    return settled


def _position_break(row: Mapping[str, Any], mine: Decimal, other: Decimal, rest: Decimal, session: date) -> FoundBreak:
    symbol = row["symbol"]
    mark = row["mark_theirs"] or row["mark"] or row["avg_price_theirs"] or row["avg_price"] or ZERO
    multiplier = row["multiplier_theirs"] or row["multiplier"]
    kind, explanation = (
        BreakKind.POSITION_QTY,
        "no execution or activity explains it: a transfer, or a lost statement line",
    )
    option = parse_option(symbol)
    if option is not None and option.expiry <= session and not other:
        kind, explanation = (
            BreakKind.OPTION_EVENT,
            f"the option expired on {option.expiry}; book its expiry, exercise or assignment",
        )
    elif looks_like_a_split(mine, other) and _same_cost(row, mine, other):
        kind = BreakKind.CORPORATE_ACTION
        explanation = f"looks like a split of {other / mine:.4f} for 1; check the corporate actions of {symbol}"
    return FoundBreak(
        kind, f"position {symbol}", symbol, {"qty": str(plain(mine)), "price": str(plain(row["avg_price"]) or "")},
        {"qty": str(plain(other)), "price": str(plain(row["avg_price_theirs"]) or "")}, {"qty": str(plain(rest))},
        explanation, abs(rest * mark * multiplier).quantize(CENT), effects=((symbol, rest),),
    )  # fmt: skip


def _cost_break(row: Mapping[str, Any], mine: Decimal, tolerances: Tolerances) -> list[FoundBreak]:
    here, there = row["avg_price"], row["avg_price_theirs"]
    if not mine or here is None or there is None:
        return []
    if abs(here - there) <= tick_of(there) * tolerances.cost_basis_ticks:
        return []
    value = abs((there - here) * mine * (row["multiplier_theirs"] or row["multiplier"])).quantize(CENT)
    return [
        FoundBreak(
            BreakKind.COST_BASIS, f"cost {row['symbol']}", row["symbol"], {"price": str(plain(here))},
            {"price": str(plain(there))}, {"price": str(plain(there - here))},
            "the quantity agrees and its cost does not: another cost method, a wash sale, or a corporate action", value,
        )
    ]  # fmt: skip


def compare_cash(
    ours: Books, theirs: Books, known: Iterable[FoundBreak], adopted: Iterable[Activity], tolerances: Tolerances
) -> list[FoundBreak]:
    """The difference of cash that no break and no adopted activity explains. Both sides in dollars, at the cut."""
    if ours.cash is None or theirs.cash is None:
        return []
    explained = sum((found.cash_effect for found in known), ZERO) + sum((each.amount for each in adopted), ZERO)
    rest = theirs.cash - ours.cash - explained
    if abs(rest) <= tolerances.cash:
        return []
    return [
        FoundBreak(
            BreakKind.CASH, "cash USD", "", {"cash": str(plain(ours.cash))}, {"cash": str(plain(theirs.cash))},
            {"cash": str(plain(rest))},
            f"{plain(explained)} of the difference is explained, this is not: a transfer, a fee, or a lost line",
            abs(rest).quantize(CENT), cash_effect=rest,
        )
    ]  # fmt: skip


def looks_like_a_split(mine: Decimal, other: Decimal) -> bool:
    """True when one holding is a usual split of the other; both signed the same."""
    if not mine or not other or mine * other < 0:
        return False
    ratio = Fraction(other) / Fraction(mine)
    return bool(ratio in _SPLITS or 1 / ratio in _SPLITS)


def _same_cost(row: Mapping[str, Any], mine: Decimal, other: Decimal) -> bool:
    """A split leaves the cost of the whole as it was, within what rounding the average does."""
    here, there = row["avg_price"], row["avg_price_theirs"]
    if not here or not there:
        return True
    return bool(abs(here * mine - there * other) <= abs(here * mine) / 1000)
