"""The whole reconciliation of one account and one session: our books and the broker's in, breaks and proofs out.

Pure and independent of the order of the rows. Invariants: a section that the broker did not tell opens
``stale_or_incomplete_source`` and is not compared, so nothing reads as flat that was not said; every difference is told
once; the same inputs give the same breaks with the same digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

import polars as pl

from backend.tradingbot.ops import recon_corrections
from backend.tradingbot.ops.recon_books import (
    ActivityResult,
    ExpectedFees,
    compare_activities,
    compare_cash,
    compare_positions,
    settle_possible,
    taken_up,
)
from backend.tradingbot.ops.recon_breaks import ZERO, Activity, FoundBreak
from backend.tradingbot.ops.recon_executions import Leftovers, without_duplicates
from backend.tradingbot.ops.recon_frames import Books, frame, new_york_date
from backend.tradingbot.ops.recon_kinds import ActivityKind, BreakKind, Tolerances
from backend.tradingbot.ops.recon_match import Matched, match, numbered
from backend.tradingbot.ops.recon_orders import compare_orders, with_remembered

SECTIONS = ("executions", "positions", "cash")
Key = tuple[str, str]


@dataclass(frozen=True)
class Day:
    """What one run is about. ``problems`` are what is wrong with the statement, each a text; with any of them nothing
    is compared. ``settled`` are the breaks whose effects our books hold by now. ``carried_ours`` and ``carried_theirs``
    are the executions of earlier breaks that still stand, ``standing`` the earlier breaks that have none; ``earlier``
    our executions that a bust may name; ``taken_back`` the ids of carried ones that a bust or a correction of an
    earlier statement is about."""

    session: date
    tolerances: Tolerances = field(default_factory=Tolerances)
    problems: tuple[tuple[str, str], ...] = ()
    settled: frozenset[Key] = frozenset()
    carried_ours: pl.DataFrame = field(default_factory=lambda: frame("executions"))
    carried_theirs: pl.DataFrame = field(default_factory=lambda: frame("executions"))
    earlier: pl.DataFrame = field(default_factory=lambda: frame("executions"))
    taken_back: frozenset[str] = frozenset()
    standing: tuple[FoundBreak, ...] = ()
    fees: ExpectedFees = field(default_factory=ExpectedFees)


@dataclass(frozen=True)
class DayResult:
    """``complete`` is False when the statement could not be compared: then only what is wrong with it is in
    ``breaks``. ``counts`` are executions by match pass; ``ours`` and ``theirs`` the executions that were compared, by
    row number as in ``matched.pairs``."""

    complete: bool
    breaks: tuple[FoundBreak, ...]
    adopted: tuple[Activity, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    matched: Matched | None = None
    ours: pl.DataFrame | None = None
    theirs: pl.DataFrame | None = None


def reconcile_day(ours: Books, theirs: Books, day: Day) -> DayResult:
    """Compare one session. ``ours`` must tell every section; ``theirs`` may lack some, and that is a break."""
    problems = [*day.problems]
    problems += [(name, f"the statement does not tell {name}") for name in SECTIONS if getattr(theirs, name) is None]
    if problems or theirs.executions is None or ours.executions is None:
        return DayResult(False, tuple(_source_break(day.session, name, text) for name, text in sorted(set(problems))))
    mine = recon_corrections.apply(_with(ours.executions, day.carried_ours), day.earlier)
    other = recon_corrections.apply(_with(theirs.executions, day.carried_theirs), day.earlier)
    touched = mine.touched | other.touched
    named = _with_named(mine.executions, day.earlier, other.touched - mine.touched)
    mine_rows, mine_twice = without_duplicates(numbered(named), "ours")
    other_rows, other_twice = without_duplicates(numbered(other.executions), "theirs")
    matched = match(mine_rows, other_rows, day.tolerances)
    left = matched.ours_left.height + matched.theirs_left.height + matched.clashes.height
    if left > day.tolerances.max_differences:
        text = f"{left} executions differ, more than {day.tolerances.max_differences}: another account, or another day?"
        return DayResult(False, (_source_break(day.session, "executions", text),), counts=matched.counts())
    found = Leftovers(matched, mine_rows, other_rows, day.tolerances).found()
    found = [recon_corrections.relabelled(each, touched | day.taken_back) for each in found]
    gone = recon_corrections.retracted(day.standing, other.orphans)
    found += [*mine_twice, *other_twice, *(each for each in other.orphans if each.key not in gone)]
    standing = tuple(each for each in day.standing if each.key not in gone)
    theirs = replace(theirs, orders=with_remembered(theirs.orders, standing))
    if ours.orders is not None and theirs.orders is not None:
        found += compare_orders(ours.orders, theirs.orders, found, recon_corrections.agreed_less(mine, other))
    found += _still_standing(standing, found, ours, theirs)
    result = _compare_books(ours, theirs, day, found)
    breaks = _told_apart(result.breaks)
    return DayResult(True, breaks, result.adopted, matched.counts(), matched, mine_rows, other_rows)


def _told_apart(breaks: tuple[FoundBreak, ...]) -> tuple[FoundBreak, ...]:
    """Sorted; several differences of one name, as of lines that no id tells apart, are numbered from the second on."""
    seen: dict[Key, int] = {}
    named = []
    for each in sorted(breaks, key=lambda found: (found.key, found.digest)):
        seen[each.key] = seen.get(each.key, 0) + 1
        number = seen[each.key]
        named.append(each if number == 1 else replace(each, subject=f"{each.subject[:110]} ({number})"))
    return tuple(named)


def _with(executions: pl.DataFrame, carried: pl.DataFrame) -> pl.DataFrame:
    """The session's executions and the carried ones, a carried one that came again left out."""
    if not carried.height:
        return executions
    known = executions.select(pl.col("execution_id").drop_nulls().unique())
    return pl.concat([executions, carried.join(known, on="execution_id", how="anti")])


def _with_named(executions: pl.DataFrame, earlier: pl.DataFrame, touched: frozenset[str]) -> pl.DataFrame:
    """Our executions of earlier sessions join when the broker took them back in this one and we did not."""
    named = earlier.filter(pl.col("execution_id").is_in(sorted(touched)))
    return _with(executions, named) if named.height else executions


def _still_standing(
    standing: tuple[FoundBreak, ...], found: list[FoundBreak], ours: Books, theirs: Books
) -> list[FoundBreak]:
    """Earlier breaks that this session does not look at anew: not those found again, nor those whose order is told
    again, nor those whose activities our books hold by now."""
    orders = [side.orders for side in (ours, theirs) if side.orders is not None]
    known = {
        name for side in orders for column in ("order_id", "client_order_id") for name in side[column].drop_nulls()
    }
    seen = {each.key for each in found}
    kept = []
    for each in standing:
        told = {side.get(name) for side in (each.ours, each.theirs) for name in ("order_id", "client_order_id")}
        again = each.subject.startswith("order ") and bool((told - {None}) & known)
        booked = bool(each.activities) and all(one.activity_id in ours.booked for one in each.activities)
        # fees that were not charged are found anew from what is still open
        anew = each.kind is BreakKind.FEE and not each.activities
        if each.key not in seen and not (again or booked or anew):
            kept.append(taken_up(each, ours.polled))
    return kept


def _source_break(session: date, section: str, text: str) -> FoundBreak:
    return FoundBreak(
        BreakKind.STALE_OR_INCOMPLETE_SOURCE, f"statement {session} {section}"[:120], theirs={"problem": text},
        explanation="nothing was compared; get a complete statement of this account and day, then run again",
    )  # fmt: skip


def _compare_books(ours: Books, theirs: Books, day: Day, found: list[FoundBreak]) -> ActivityResult:
    """Fees, activities, positions, cost and cash; returns every break of the day and what to adopt."""
    activities = _activities(ours, theirs, day)
    found = [*found, *activities.breaks]
    counted: dict[str, Decimal] = {}
    for each in activities.adopted:
        counted[each.symbol] = counted.get(each.symbol, ZERO) + each.qty
    settled = [_moving_nothing(each) for each in found if each.key in day.settled]
    found = [each for each in found if each.key not in day.settled]
    if ours.positions is not None and theirs.positions is not None:
        found = [*settle_possible(ours.positions, theirs.positions, found, counted), *settled]
        quiet = frozenset(each.symbol for each in settled)
        found += compare_positions(ours.positions, theirs.positions, found, (day.session, quiet), day.tolerances)
    found += compare_cash(ours, theirs, found, activities.adopted, day.tolerances)
    return ActivityResult(activities.adopted, tuple(found))


def _moving_nothing(found: FoundBreak) -> FoundBreak:
    """A break whose effects our books hold by now; the cost of its symbol is not comparable all the same."""
    return replace(found, effects=(), cash_effect=ZERO, possible_effects=(), possible_cash=ZERO)


def _activities(ours: Books, theirs: Books, day: Day) -> ActivityResult:
    told = [] if theirs.activities is None else [theirs.activities]
    assert theirs.executions is not None and ours.executions is not None
    told.append(_commissions(theirs.executions, day.session))
    held = set(ours.executions["symbol"].unique())
    for side in (ours.positions, theirs.positions):
        held |= set() if side is None else set(side["symbol"])
    return compare_activities(pl.concat(told), ours, frozenset(held), day.fees, day.tolerances)


def _commissions(executions: pl.DataFrame, session: date) -> pl.DataFrame:
    """Fees that stand on the executions themselves, as one charge a trade date."""
    charged = executions.filter(pl.col("fee").is_not_null() & (pl.col("fee") != 0))
    rows = [
        {
            "activity_id": f"commissions {day} on statement {session}",
            "kind": ActivityKind.FEE,
            "amount": -fee,
            "date": session,
            "covers": day,
            "description": f"commissions on executions of {day}",
        }
        for day, fee in charged.group_by(new_york_date().alias("day")).agg(pl.col("fee").sum()).sort("day").iter_rows()
    ]
    return frame("activities", rows)
