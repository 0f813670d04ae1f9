"""Proofs as numbers: opening plus everything that happened is closing, and what is left is a line of its own.

position1 = position0 + fills + corporate actions + transfers + corrections
cash1     = cash0 + trades + fees + dividends + interest + flows + corrections    (each with its sign)
equity1   = equity0 + realised + unrealised change + dividends + interest + fees + flows + corrections

Invariants: every proof adds up exactly, because ``unexplained`` is what is missing, never hidden in another line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import polars as pl

from backend.tradingbot.core.values import plain
from backend.tradingbot.ops.recon_frames import cash_effect, signed_qty
from backend.tradingbot.ops.recon_kinds import ActivityKind

ZERO = Decimal(0)
CASH_LINES = ("trades", "fees", "dividends", "interest", "flows", "corrections")
POSITION_LINES = ("fills", "corporate_actions", "transfers", "corrections")
EQUITY_LINES = ("realized", "unrealized_change", "dividends", "interest", "fees", "flows", "corrections")
_CASH_LINE = {
    ActivityKind.FEE: "fees", ActivityKind.DIVIDEND: "dividends", ActivityKind.INTEREST: "interest",
    ActivityKind.FLOW: "flows",
}  # fmt: skip
_POSITION_LINE = {ActivityKind.CORPORATE_ACTION: "corporate_actions", ActivityKind.FLOW: "transfers"}


def in_order(names: Iterable[str]) -> list[str]:
    """Names of lines in the order of their formula, whatever order a store keeps them in."""
    told = dict.fromkeys(names)
    formula = next((each for each in (POSITION_LINES, CASH_LINES, EQUITY_LINES) if told.keys() <= set(each)), ())
    return [name for name in formula if name in told] or list(told)


@dataclass(frozen=True)
class Proof:
    """One sum. ``name`` is a symbol, ``cash`` or ``equity``; ``lines`` in the order of the formula."""

    name: str
    opening: Decimal
    lines: tuple[tuple[str, Decimal], ...]
    closing: Decimal

    @property
    def unexplained(self) -> Decimal:
        return self.closing - self.opening - sum((value for _, value in self.lines), ZERO)

    @property
    def holds(self) -> bool:
        return self.unexplained == 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "opening": plain(self.opening),
            "lines": {name: plain(value) for name, value in self.lines},
            "unexplained": plain(self.unexplained),
            "closing": plain(self.closing),
        }


@dataclass(frozen=True)
class Entry:
    """An entry of the books that is no execution: ``kind`` is an ActivityKind or ``correction``."""

    kind: str
    symbol: str
    qty: Decimal
    amount: Decimal


def position_proofs(
    opening: Mapping[str, Decimal], executions: pl.DataFrame, entries: Iterable[Entry], closing: Mapping[str, Decimal]
) -> list[Proof]:
    """One proof a symbol that was held or moved, sorted by symbol."""
    moved: dict[str, dict[str, Decimal]] = {}
    fills = executions.group_by("symbol").agg(signed_qty().sum().alias("qty"))
    for symbol, qty in fills.iter_rows():
        moved.setdefault(symbol, {})["fills"] = qty
    for entry in entries:
        if entry.symbol and entry.qty:
            lines = moved.setdefault(entry.symbol, {})
            line = _POSITION_LINE.get(entry.kind, "corrections")  # type: ignore[call-overload]
            lines[line] = lines.get(line, ZERO) + entry.qty
    proofs = []
    for symbol in sorted({*opening, *moved, *closing}):
        lines = moved.get(symbol, {})
        told = tuple((name, lines.get(name, ZERO)) for name in POSITION_LINES)
        proofs.append(Proof(symbol, opening.get(symbol, ZERO), told, closing.get(symbol, ZERO)))
    return [proof for proof in proofs if proof.opening or proof.closing or any(value for _, value in proof.lines)]


def cash_proof(opening: Decimal, executions: pl.DataFrame, entries: Iterable[Entry], closing: Decimal) -> Proof:
    """The one proof of cash, in dollars."""
    lines = dict.fromkeys(CASH_LINES, ZERO)
    if executions.height:
        lines["trades"] = executions.select(cash_effect().sum()).item()
    for entry in entries:
        line = _CASH_LINE.get(entry.kind, "corrections")  # type: ignore[call-overload]
        lines[line] += entry.amount
    return Proof("cash", opening, tuple(lines.items()), closing)


def equity_proof(opening: Decimal, lines: Mapping[str, Decimal], closing: Decimal) -> Proof:
    """The one proof of equity: its unexplained line is the day's unexplained P&L."""
    return Proof("equity", opening, tuple((name, lines.get(name, ZERO)) for name in EQUITY_LINES), closing)
