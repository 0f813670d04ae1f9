"""Entries of our books that are no executions: what two people decided is booked here, once.

Invariants: the caller holds the account's risk row; entry, cash, position and the break's mark are one transaction; a
break is booked once, whatever becomes of it afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from backend.tradingbot.core.values import Side
from backend.tradingbot.execution.positions import Holding, folded
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import (
    BookEntry,
    Break,
    CashFlow,
    Execution,
    Position,
    ReconRun,
    RiskRow,
    StatementPosition,
)
from backend.tradingbot.ops.recon_breaks import Activity
from backend.tradingbot.ops.recon_kinds import ActivityKind, BreakKind
from backend.tradingbot.services.positions import multiplier, rebase
from backend.tradingbot.services.recon_blocks import RECONCILIATION
from backend.tradingbot.services.recon_results import activity_of

ZERO = Decimal(0)
STEP = Decimal("1e-9")
_ENTRY_KIND = {
    BreakKind.CORPORATE_ACTION: "corporate_action", BreakKind.OPTION_EVENT: "option_event", BreakKind.FEE: "fee",
}  # fmt: skip


def book_break(row: RiskRow, found: Break, *, made_by: str, approved_by: str, now: datetime) -> list[BookEntry]:
    """Take the broker's word on ``found`` into our books; nothing when it was booked before."""
    if found.booked_at is not None:
        return []
    session = found.last_session or found.session or now.date()
    entries = [
        BookEntry(
            account=found.account, session=session, found_break=found, made_by=made_by, approved_by=approved_by, at=now,
            description=f"break {found.pk}: {found.resolution}"[:500], build_id=build_id(), **fields,
        )
        for fields in _wanted(found)
    ]  # fmt: skip
    for entry in entries:
        entry.save(force_insert=True)
        if row.cash is not None:
            row.cash += entry.amount
        if entry.symbol and entry.qty:
            _move_position(found, entry)
    _set_cost(found)
    for symbol in sorted({entry.symbol for entry in entries if entry.symbol}):
        _take_cost(found, symbol)
    found.booked_at = now
    return entries


def _wanted(found: Break) -> list[dict[str, object]]:
    """The entries: one an activity, else one a symbol that moves, else one of cash alone."""
    kind = _ENTRY_KIND.get(BreakKind(found.kind), "correction")
    activities = [activity_of(raw) for raw in found.effects.get("activities", ())]
    if activities:
        activities = _not_polled(found, activities)
        return [
            {"kind": each.kind, "activity_id": each.activity_id, "symbol": each.symbol[:32], "qty": each.qty,
             "amount": each.amount, "covers": each.date if each.kind == ActivityKind.FEE else None}
            for each in activities
        ]  # fmt: skip
    return [
        {"kind": kind, "symbol": move["symbol"][:32], "qty": Decimal(move["qty"]), "amount": Decimal(move["cash"])}
        for move in found.effects.get("moves", ())
    ]


def _not_polled(found: Break, activities: list[Activity]) -> list[Activity]:
    """What the poll of the broker's cash took up since the break was found moves no cash a second time."""
    ids = [each.activity_id for each in activities]
    known = set(
        CashFlow.objects.filter(account=found.account, activity_id__in=ids).values_list("activity_id", flat=True)
    )
    return [replace(each, amount=ZERO) if each.activity_id in known else each for each in activities]


def _move_position(found: Break, entry: BookEntry) -> None:
    """Shares against cash are a trade at that price; a split keeps the cost of the whole; shares that come or go alone
    do so at the broker's cost, or at ours where it does not say."""
    position, _ = Position.objects.get_or_create(account=found.account, symbol=entry.symbol)
    unit = multiplier(entry.symbol)
    holding = Holding(position.qty, position.avg_price, position.realized_pnl / unit)
    if entry.amount * entry.qty < 0 or entry.kind == "option_event":
        price = (abs(entry.amount) / abs(entry.qty) / unit).quantize(STEP)
        after = holding.after(entry.qty, price)
    elif entry.kind == "corporate_action" and holding.qty and holding.qty + entry.qty:
        qty = holding.qty + entry.qty
        after = Holding(qty, (holding.avg_price * holding.qty / qty).quantize(STEP), holding.realized_pnl)
    else:
        qty, cost = holding.qty + entry.qty, _cost_told(found)
        after = Holding(qty, (holding.avg_price if cost is None else cost) if qty else ZERO, holding.realized_pnl)
    rebase(found.account, entry.symbol, Holding(after.qty, after.avg_price, after.realized_pnl * unit))


def _cost_told(found: Break) -> Decimal | None:
    told = found.theirs.get("price")
    return Decimal(told) if told and found.subject.startswith("position ") else None


def _take_cost(found: Break, symbol: str) -> None:
    """The broker's word was taken on what moved ``symbol``: so its average is ours as well, where the quantities agree
    and nothing else about the symbol is open. What was executed since its statement is added."""
    run = ReconRun.objects.filter(account=found.account, session=found.last_session, cut__isnull=False).first()
    position = Position.objects.filter(account=found.account, symbol=symbol).first()
    others = Break.objects.filter(account=found.account, symbol=symbol, opened_by=RECONCILIATION)
    others = others.exclude(pk=found.pk).exclude(status="closed")
    if run is None or position is None or others.exists():
        return
    told = StatementPosition.objects.filter(statement__in=run.statements.all(), symbol=symbol).order_by("pk").last()
    if told is None or told.avg_price is None:
        return
    later = Execution.objects.filter(account=found.account, symbol=symbol)
    later = later.filter(Q(occurred_at__gt=run.cut) | Q(pk__gt=run.watermarks["executions"]))
    rows = list(later.order_by("occurred_at", "execution_id"))
    trades = [(row.qty * Side(row.side).sign, row.price) for row in rows]
    holding = folded(Holding(told.qty, told.avg_price), trades)
    if holding.qty == position.qty and all(row.kind == "fill" for row in rows):
        rebase(found.account, symbol, replace(holding, realized_pnl=position.realized_pnl))


def _set_cost(found: Break) -> None:
    """A break of cost alone: the quantity stays, its average becomes the broker's."""
    cost = found.effects.get("cost")
    if not cost or not cost.get("price"):
        return
    position = Position.objects.filter(account=found.account, symbol=cost["symbol"]).first()
    if position is not None:
        rebase(found.account, position.symbol, Holding(position.qty, Decimal(cost["price"]), position.realized_pnl))
