"""One session compared: what it opens on, both sides at the cut, what differs, and the closing figures.

Invariant: nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import polars as pl

from backend.tradingbot.core.occ import SHARES_A_CONTRACT, multiplier_of
from backend.tradingbot.data.calendar import business_days_between, session_date
from backend.tradingbot.models import Account, Order, ReconRun, Statement
from backend.tradingbot.ops.pnl import Opening
from backend.tradingbot.ops.pnl_lots import AverageState, Lot
from backend.tradingbot.ops.recon_books import ExpectedFees
from backend.tradingbot.ops.recon_breaks import FoundBreak
from backend.tradingbot.ops.recon_close import ClosedDay, Closing, Inputs, Side, close_day, closing_of
from backend.tradingbot.ops.recon_engine import Day, DayResult, reconcile_day
from backend.tradingbot.ops.recon_frames import Books, frame, new_york_date
from backend.tradingbot.ops.recon_kinds import ActivityKind
from backend.tradingbot.selectors.frames import TradeDate, statement_lines
from backend.tradingbot.selectors.ledger import Ledger, OpeningPoint, named_executions, read_ledger
from backend.tradingbot.services.recon_marks import close_marks
from backend.tradingbot.services.recon_options import days_between, option_states
from backend.tradingbot.services.recon_policies import Policy
from backend.tradingbot.services.recon_results import Standing, standing_before

ZERO = Decimal(0)
BEGINNING = timedelta(seconds=1)


@dataclass(frozen=True)
class DayOpening:
    """What a session starts from: where the run before left off, and its closing figures (None for the first)."""

    point: OpeningPoint
    closing: Closing | None


@dataclass(frozen=True)
class Compared:
    """Everything that one comparison came to."""

    statements: list[Statement]
    cut: datetime
    ledger: Ledger
    opening: Closing
    result: DayResult
    closed: ClosedDay | None

    @property
    def breaks(self) -> tuple[FoundBreak, ...]:
        return self.result.breaks + (self.closed.breaks if self.closed else ())


def opening_of(account: Account, session: date) -> DayOpening:
    """From the newest completed run before ``session``; the first opens when the account was set up."""
    before = (
        ReconRun.objects.filter(account=account, session__lt=session, state="completed").order_by("-session").first()
    )
    if before is None or before.cut is None:
        return DayOpening(OpeningPoint(account.created_at - BEGINNING, None), None)
    seen = before.watermarks
    point = OpeningPoint(before.cut, before.session, seen["executions"], seen["entries"], seen["flows"])
    return DayOpening(point, closing_of(before.closing))


def compare(
    account: Account, session: date, opening: DayOpening, statements: list[Statement], policy: Policy
) -> Compared:
    """Read both sides and compare them. Writes nothing."""
    trade_date_of = partial(session_date, calendar=account.session_calendar)
    theirs, problems, cut = _their_books(statements, session)
    standing = standing_before(account, session)
    theirs = _comparable_orders(theirs, account, cut, statements)
    named = (_ids(theirs, "client_order_id", standing.orders), _ids(theirs, "order_id"))
    ledger = read_ledger(account, opening.point, cut, session, trade_date_of, order_ids=named)
    if ledger.cash is None:
        problems.append(("cash", "our own cash is not known: set it before the day can be closed"))
    orders = _without(ledger.orders, _changed_after(account, cut, statements))
    ours = Books(
        ledger.told, orders, ledger.positions, frame("activities"), ledger.cash, booked=ledger.booked,
        polled=ledger.polled,
    )  # fmt: skip
    start = opening.closing or _first_opening(account, ledger)
    kept = _closed_before(account, session)
    marks = close_marks(theirs, ledger.positions, cut, kept.pnl.marks)
    fees = _fees(session, start, theirs, policy)
    day = _day(account, session, policy, problems, standing, theirs, fees, trade_date_of)
    result = reconcile_day(_with_named(ours, theirs, account, trade_date_of), theirs, day)
    if not result.complete:
        return Compared(statements, cut, ledger, start, result, None)
    names = {*marks, *(symbol for _, symbol in start.pnl.lots), *ledger.movements["symbol"]}
    inputs = Inputs(
        session, ours, theirs, ledger.movements, ledger.entries, marks, _multipliers(theirs, ledger, start),
        policy.tolerances,
        fees.left(_charged(theirs), policy.tolerances),
        pl.concat([day.carried_theirs, day.earlier]),  # as the broker had told it, else as we have it
        option_states(names, marks, session, account.session_calendar, cut, kept.options),
        days_between(opening.point.session, session, account.session_calendar),
    )  # fmt: skip
    return Compared(statements, cut, ledger, start, result, close_day(start, inputs, result))


def _closed_before(account: Account, session: date) -> Closing:
    """What this session was closed with, when it was: run again, it is valued at the same prices."""
    run = ReconRun.objects.filter(account=account, session=session, state="completed").first()
    return closing_of(run.closing) if run is not None else Closing()


def _their_books(statements: list[Statement], session: date) -> tuple[Books, list[tuple[str, str]], datetime]:
    """The sections of the statements, a later one before an earlier; the cut is that of who tells the cash."""
    told: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    cut = statements[-1].as_of
    for statement in statements:
        for section in statement.sections:
            told[section] = statement.cash if section == "cash" else statement_lines(statement.pk, section)
        told["equity"] = statement.equity if "cash" in statement.sections else told.get("equity")
        if {"cash", "positions"} & set(statement.sections):
            cut = statement.as_of
        problems += [(section, f"{statement.name}: {text}") for section, text in statement.problems]
    return Books(**told), problems, cut


def _ids(theirs: Books, column: str, more: Iterable[str] = ()) -> pl.Series:
    told = pl.Series(list(more), dtype=pl.String)
    return told if theirs.orders is None else pl.concat([told, theirs.orders[column].drop_nulls()])


def _comparable_orders(theirs: Books, account: Account, cut: datetime, statements: list[Statement]) -> Books:
    """Orders that changed here after a file was made are not compared with it: both would be right."""
    changed = _changed_after(account, cut, statements)
    return theirs if theirs.orders is None else replace(theirs, orders=_without(theirs.orders, changed))


def _changed_after(account: Account, cut: datetime, statements: list[Statement]) -> list[str]:
    """The ids of orders that moved on after the cut. The broker's own answer shows orders as they are now, as we do."""
    if all(statement.source == "broker" for statement in statements if "orders" in statement.sections):
        return []
    rows = Order.objects.filter(account=account, updated_at__gt=cut)
    return [name for pair in rows.values_list("client_order_id", "broker_order_id") for name in pair if name]


def _without(orders: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    known = pl.col("client_order_id").is_in(ids) | pl.col("order_id").is_in(ids)
    return orders.filter(~known.fill_null(False)) if ids else orders


def _first_opening(account: Account, ledger: Ledger) -> Closing:
    """The first day opens on what is in the books less what moved them since: the opening balance."""
    held: dict[str, Decimal] = dict(ledger.positions.select("symbol", "qty").iter_rows())
    signed = pl.when(pl.col("side") == "buy").then(pl.col("qty")).otherwise(-pl.col("qty"))
    for symbol, qty in ledger.movements.group_by("symbol").agg(signed.sum()).iter_rows():
        held[symbol] = held.get(symbol, ZERO) - qty
    for entry in ledger.entries:
        if entry.symbol and entry.qty:
            held[entry.symbol] = held.get(entry.symbol, ZERO) - entry.qty
    held = {symbol: qty for symbol, qty in held.items() if qty}
    cash = ledger.cash
    if cash is not None:
        value = pl.col("qty") * pl.col("price") * pl.col("multiplier")
        spent = ledger.movements.select((pl.when(pl.col("side") == "buy").then(value).otherwise(-value)).sum()).item()
        cash = cash + (spent or ZERO) - sum((entry.amount for entry in ledger.entries), ZERO)
    averages = ledger.opening_averages
    lots = {("", symbol): (Lot(qty, averages.get(symbol, ZERO)),) for symbol, qty in held.items()}
    states = {("", symbol): AverageState(qty, averages.get(symbol, ZERO)) for symbol, qty in held.items()}
    side = Side(held, cash)
    equity = cash if not held else None
    return Closing(side, side, equity, Opening(lots, states, {}), ZERO, {})


def _day(
    account: Account, session: date, policy: Policy, problems: list[tuple[str, str]], standing: Standing,
    theirs: Books, fees: ExpectedFees, trade_date_of: TradeDate,
) -> Day:  # fmt: skip
    named: list[str] = []
    if theirs.executions is not None:
        named = theirs.executions["refers_to"].drop_nulls().unique().to_list()
    earlier = named_executions(account, named, trade_date_of)
    return Day(
        session, policy.tolerances, tuple(problems), standing.settled,
        frame("executions", standing.carried_ours), frame("executions", standing.carried_theirs),
        earlier.with_columns(pl.lit("fill").alias("kind"), pl.lit(None, dtype=pl.String).alias("refers_to")),
        standing.taken_back, standing.breaks, fees,
    )  # fmt: skip


def _with_named(ours: Books, theirs: Books, account: Account, trade_date_of: TradeDate) -> Books:
    """Our side with those executions of earlier days that the statement tells once more."""
    assert ours.executions is not None
    if theirs.executions is None:
        return ours
    known = ours.executions.select(pl.col("execution_id").drop_nulls())
    missing = theirs.executions.filter(pl.col("kind") == "fill").join(known, on="execution_id", how="anti")
    ids = missing["execution_id"].drop_nulls().unique().to_list()
    found = named_executions(account, ids, trade_date_of).filter(pl.col("kind") == "fill")
    return replace(ours, executions=pl.concat([ours.executions, found])) if found.height else ours


def _fees(session: date, opening: Closing, theirs: Books, policy: Policy) -> ExpectedFees:
    """What is expected to be charged: what earlier days left over, and what the executions of this statement earn.

    By the broker's own executions, each once and none that it took back: where those are not ours another break says
    so, and a fee is wrong only when it is not what they earn.
    """
    fresh: dict[date, Decimal] = {}
    if theirs.executions is not None:
        told = theirs.executions
        busted = told.filter(pl.col("kind") == "bust")["refers_to"].drop_nulls().to_list()
        rows = told.filter((pl.col("kind") == "fill") & ~pl.col("execution_id").is_in(busted).fill_null(False))
        named = rows.filter(pl.col("execution_id").is_not_null()).unique("execution_id", keep="first")
        fresh = policy.fees.expected(pl.concat([named, rows.filter(pl.col("execution_id").is_null())]))
    grace = policy.tolerances.fee_grace_sessions
    days = {*opening.fees_open, *fresh}
    return ExpectedFees(
        opening.fees_open, fresh, frozenset(day for day in days if business_days_between(day, session) > grace)
    )


def _charged(theirs: Books) -> dict[date, Decimal]:
    """What this statement charges, by the day that earned it, as dollars above zero."""
    rows = []
    if theirs.activities is not None:
        fees = theirs.activities.filter(pl.col("kind") == str(ActivityKind.FEE))
        rows.append(fees.select(pl.coalesce("covers", "date").alias("day"), (-pl.col("amount")).alias("fee")))
    if theirs.executions is not None:
        fees = theirs.executions.filter(pl.col("fee").fill_null(0) != 0)
        rows.append(fees.select(new_york_date().alias("day"), "fee"))
    charged: dict[date, Decimal] = {}
    for day, fee in (pair for table in rows for pair in table.iter_rows()):
        charged[day] = charged.get(day, ZERO) + fee
    return charged


def _multipliers(theirs: Books, ledger: Ledger, opening: Closing) -> dict[str, Decimal]:
    """Of every symbol that is held, traded or moved, and of those that were held at the opening."""
    names = {symbol for _, symbol in opening.pnl.lots} | {entry.symbol for entry in ledger.entries}
    found = {symbol: multiplier_of(symbol) or SHARES_A_CONTRACT for symbol in names if symbol}
    for section in (theirs.positions, ledger.positions, theirs.executions, ledger.movements):
        if section is not None:
            found |= dict(section.select("symbol", "multiplier").unique("symbol", keep="first").iter_rows())
    return found
