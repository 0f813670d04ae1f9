"""Positions and cash as executions make them. The caller holds the account's risk row.

Invariants: a position is its base plus its effective executions in the order in which they happened, whatever the order
in which they came; cash moves by exact amounts of nine decimals, so that it does not matter which came first.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from backend.tradingbot.core.occ import SHARES_A_CONTRACT, multiplier_of
from backend.tradingbot.core.values import Side
from backend.tradingbot.execution.positions import Holding, folded
from backend.tradingbot.models import Account, Execution, Position, RiskRow

STEP = Decimal("1e-9")


def multiplier(symbol: str) -> Decimal:
    """Dollars a unit of price; an adjusted contract, whose deliverable is not in its symbol, counts as 100."""
    return multiplier_of(symbol) or SHARES_A_CONTRACT


def book_trade(row: RiskRow, account: Account, execution: Execution) -> None:
    """Move cash and position by one stored execution row of kind ``fill``; nothing moves twice by it."""
    signed = execution.qty * Side(execution.side).sign
    move_cash(row, execution)
    position, _ = Position.objects.get_or_create(account=account, symbol=execution.symbol)
    key = (execution.occurred_at, execution.execution_id)
    if position.last_occurred_at is not None and key <= (position.last_occurred_at, position.last_execution_id):
        refold(position)
        return
    _store(position, _holding(position).after(signed, execution.price), *key)


def move_cash(row: RiskRow, execution: Execution) -> None:
    """The cash of one execution row, taken back when its quantity is negative."""
    if row.cash is not None:
        value = execution.qty * Side(execution.side).sign * execution.price * multiplier(execution.symbol)
        row.cash -= value.quantize(STEP)


def refold(position: Position) -> None:
    """Add the position up anew, because an execution came out of order or was taken back."""
    rows = list(
        Execution.objects.filter(
            account=position.account, symbol=position.symbol, pk__gt=position.base_execution
        ).order_by("occurred_at", "execution_id")
    )
    known = {execution.execution_id: execution for execution in rows}
    taken_back = {e.corrects for e in rows if e.kind in ("bust", "reversal") and e.corrects in known}
    trades: list[tuple[datetime, str, Decimal, Decimal]] = []
    for execution in rows:
        standing = execution.kind in ("fill", "correction") and execution.execution_id not in taken_back
        before_the_base = execution.kind in ("bust", "reversal") and execution.corrects not in known
        if standing or before_the_base:
            signed = execution.qty * Side(execution.side).sign
            trades.append((*_place_in_time(execution, known), signed, execution.price))
    trades.sort(key=lambda trade: trade[:2])
    start = Holding(
        position.base_qty, position.base_avg_price, position.base_realized_pnl / multiplier(position.symbol)
    )
    holding = folded(start, ((qty, price) for _, _, qty, price in trades))
    last = max(((e.occurred_at, e.execution_id) for e in rows), default=(position.last_occurred_at, ""))
    _store(position, holding, *last)


def _place_in_time(execution: Execution, known: dict[str, Execution]) -> tuple[datetime, str]:
    """A correction stands where the execution stood that it corrects."""
    while execution.kind == "correction" and execution.corrects in known:
        execution = known[execution.corrects]
    return execution.occurred_at, execution.execution_id


def rebase(account: Account, symbol: str, holding: Holding) -> Position:
    """Let the position start anew from ``holding``: an opening balance, or what a corporate action made of it.

    What is booked here so far is part of the base; ``holding.realized_pnl`` is in dollars.
    """
    position, _ = Position.objects.get_or_create(account=account, symbol=symbol)
    newest = Execution.objects.filter(account=account, symbol=symbol).order_by("-pk").first()
    position.base_execution = newest.pk if newest else 0
    position.base_qty, position.base_avg_price = holding.qty, holding.avg_price
    position.base_realized_pnl = holding.realized_pnl
    position.qty, position.avg_price, position.realized_pnl = holding.qty, holding.avg_price, holding.realized_pnl
    position.save()
    return position


def _holding(position: Position) -> Holding:
    return Holding(position.qty, position.avg_price, position.realized_pnl / multiplier(position.symbol))


def _store(position: Position, holding: Holding, occurred_at: datetime | None, execution_id: str) -> None:
    position.qty, position.avg_price = holding.qty, holding.avg_price
    position.realized_pnl = holding.realized_pnl * multiplier(position.symbol)
    position.last_occurred_at, position.last_execution_id = occurred_at, execution_id
    position.save()
