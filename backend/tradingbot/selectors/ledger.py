"""Our books at a cut: what one reconciliation run compares, read in one snapshot of the database.

Invariants: REPEATABLE READ and read only, so that positions, cash and executions are of one moment and nobody waits for
it (what writes stays on READ COMMITTED); an account's rows are numbered under its lock, so the highest id that a
snapshot shows has every lower one with it. What happened after the cut is taken off the figures as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
from django.db import connection, transaction
from django.db.models import Max

from backend.tradingbot.core.occ import SHARES_A_CONTRACT, multiplier_of
from backend.tradingbot.models import Account, BookEntry, Break, CashFlow, Execution, Position, RiskRow
from backend.tradingbot.models.cash_flows import BROKER
from backend.tradingbot.ops.recon_frames import frame, signed_qty
from backend.tradingbot.ops.recon_kinds import ActivityKind
from backend.tradingbot.ops.recon_proofs import Entry, cash_proof
from backend.tradingbot.ops.statements_alpaca import KIND_OF
from backend.tradingbot.selectors.frames import (
    OrderWindow,
    Window,
    as_movements,
    as_told,
    executions_after,
    executions_named,
    our_executions,
    our_orders,
)

ZERO = Decimal(0)


@dataclass(frozen=True)
class OpeningPoint:
    """Where the run before left off: its cut, its session, and the highest ids that it took up."""

    cut: datetime
    session: date | None
    executions: int = 0
    entries: int = 0
    flows: int = 0


@dataclass(frozen=True)
class Ledger:
    """Our side. ``told`` are executions as the broker should tell them, ``movements`` the same as they moved the books;
    ``entries`` everything else that moved them since the opening; ``seen`` the ids that the next run starts after;
    ``booked`` the activities that somebody answers for, ``polled`` those that the broker's word alone has moved."""

    told: pl.DataFrame
    movements: pl.DataFrame
    orders: pl.DataFrame
    positions: pl.DataFrame
    cash: Decimal | None
    entries: tuple[Entry, ...]
    booked: frozenset[str]
    polled: frozenset[str]
    seen: Mapping[str, int]
    opening_averages: Mapping[str, Decimal]


def read_ledger(
    account: Account, opening: OpeningPoint, cut: datetime, session: date, trade_date_of: Callable[[datetime], date],
    *, order_ids: tuple[pl.Series, pl.Series],
) -> Ledger:  # fmt: skip
    """Our books of ``session`` at ``cut``. ``order_ids`` are client and broker ids of orders to show whatever their
    age."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = RiskRow.objects.get(account=account)
        seen = {
            "executions": _highest(Execution, account),
            "entries": _highest(BookEntry, account),
            "flows": _highest(CashFlow, account),
        }
        window = Window(opening.cut, opening.executions, cut, seen["executions"])
        executions = our_executions(account.pk, window, trade_date_of)
        later = as_movements(executions_after(account.pk, window, trade_date_of))
        entries = [*_entries(account, opening, session), *_flows(account, opening, cut)]
        undone = [*_entries_after(account, session), *_flows_after(account, cut)]
        positions = list(Position.objects.filter(account=account))
        booked_since = Break.objects.filter(account=account, booked_at__isnull=False, last_session__gt=session)
        restated = {*booked_since.values_list("symbol", flat=True), *(each.symbol for each in undone)}
        orders = our_orders(account.pk, OrderWindow(opening.cut, cut, *order_ids))
        booked = set(
            BookEntry.objects.filter(account=account).exclude(activity_id="").values_list("activity_id", flat=True)
        )
        flows = dict(CashFlow.objects.filter(account=account).values_list("activity_id", "actor"))
    polled = {name for name, actor in flows.items() if actor == BROKER} - booked
    booked |= {name for name, actor in flows.items() if actor != BROKER}
    cash = None if row.cash is None else row.cash + cash_proof(ZERO, later, undone, ZERO).unexplained
    return Ledger(
        as_told(executions), as_movements(executions), orders, _positions_at(positions, later, undone, restated), cash,
        tuple(entries), frozenset(booked), frozenset(polled), seen,
        {each.symbol: each.base_avg_price for each in positions},
    )  # fmt: skip


def _highest(model: Any, account: Account) -> int:
    found = model.objects.filter(account=account).aggregate(highest=Max("id"))["highest"]
    return int(found or 0)


def _positions_at(
    positions: list[Position], later: pl.DataFrame, undone: list[Entry], restated: set[str]
) -> pl.DataFrame:
    """Positions less what came after the cut; the average of a symbol that moved since is not known any more, nor that
    of one whose cost people have ``restated`` since."""
    moved: dict[str, Decimal] = dict(later.group_by("symbol").agg(signed_qty().sum()).iter_rows())
    for entry in undone:
        if entry.symbol and entry.qty:
            moved[entry.symbol] = moved.get(entry.symbol, ZERO) + entry.qty
    held = {each.symbol: each for each in positions}
    rows = []
    for symbol in sorted({*held, *moved}):
        standing = held[symbol].qty if symbol in held else ZERO
        qty = standing - moved.get(symbol, ZERO)
        if qty:
            known = symbol in held and symbol not in moved and symbol not in restated
            unit = multiplier_of(symbol) or SHARES_A_CONTRACT
            average = held[symbol].avg_price if known else None
            rows.append({"symbol": symbol, "qty": qty, "avg_price": average, "multiplier": unit})
    return frame("positions", rows)


def _entries(account: Account, opening: OpeningPoint, session: date) -> list[Entry]:
    rows = BookEntry.objects.filter(account=account, session__lte=session).order_by("id")
    if opening.session is not None:
        rows = rows.exclude(id__lte=opening.entries, session__lte=opening.session)
    return [_entry(row) for row in rows]


def _entries_after(account: Account, session: date) -> list[Entry]:
    return [_entry(row) for row in BookEntry.objects.filter(account=account, session__gt=session)]


def _flows(account: Account, opening: OpeningPoint, cut: datetime) -> list[Entry]:
    rows = CashFlow.objects.filter(account=account, occurred_at__lte=cut).order_by("id")
    rows = rows.exclude(id__lte=opening.flows, occurred_at__lte=opening.cut)
    return [_of_flow(row) for row in rows]


def _flows_after(account: Account, cut: datetime) -> list[Entry]:
    return [_of_flow(row) for row in CashFlow.objects.filter(account=account, occurred_at__gt=cut)]


def _of_flow(row: CashFlow) -> Entry:
    """What a fee or a dividend costs or brings is no flow, however our books heard of it."""
    return Entry(KIND_OF.get(row.kind, ActivityKind.FLOW), "", ZERO, row.amount)


def _entry(row: BookEntry) -> Entry:
    return Entry(row.kind, row.symbol, row.qty, row.amount)


def named_executions(account: Account, ids: list[str], trade_date_of: Callable[[datetime], date]) -> pl.DataFrame:
    """Our executions that a bust of today may name, as they were told."""
    return executions_named(account.pk, ids, trade_date_of) if ids else frame("executions")
