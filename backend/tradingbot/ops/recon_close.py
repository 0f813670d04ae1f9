"""Closing the books of a session: proofs of both sides, the day's P&L, and what the next session starts from.

Pure. Invariants: what closes today opens tomorrow, digit for digit; what the open breaks are worth is known, so that
the unexplained P&L is only what no break accounts for; a figure that is not known is None, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.core.values import plain
from backend.tradingbot.ops.pnl import DayPnl, Opening, attribute_day
from backend.tradingbot.ops.pnl_lots import AverageState, Lot
from backend.tradingbot.ops.pnl_options import OptionDay, OptionState, held_of, option_lines
from backend.tradingbot.ops.recon_breaks import CENT, FoundBreak
from backend.tradingbot.ops.recon_engine import DayResult
from backend.tradingbot.ops.recon_frames import Books
from backend.tradingbot.ops.recon_kinds import BreakKind, Tolerances
from backend.tradingbot.ops.recon_proofs import Entry, Proof, cash_proof, equity_proof, position_proofs

ZERO = Decimal(0)


@dataclass(frozen=True)
class Side:
    """One side's figures at a cut; None is unknown."""

    positions: Mapping[str, Decimal] = field(default_factory=dict)
    cash: Decimal | None = None


@dataclass(frozen=True)
class Closing:
    """Where a day ends and the next begins. ``effects_value`` is what the open differences are worth: what the broker's
    equity has more than ours; ``fees_open`` are fees that were earned and are not charged yet, by session; ``options``
    the states of the options that are held."""

    ours: Side = field(default_factory=Side)
    theirs: Side = field(default_factory=Side)
    equity: Decimal | None = None
    pnl: Opening = field(default_factory=Opening)
    effects_value: Decimal = ZERO
    fees_open: Mapping[date, Decimal] = field(default_factory=dict)
    options: Mapping[str, OptionState] = field(default_factory=dict)


@dataclass(frozen=True)
class ClosedDay:
    """The proofs, the attribution, the closing, and what the P&L adds to the breaks. ``equity`` is None when a held
    symbol has no mark or the broker's equity is not known."""

    ours: tuple[Proof, ...]
    theirs: tuple[Proof, ...]
    equity: Proof | None
    unexplained: Decimal | None
    pnl: DayPnl
    closing: Closing
    breaks: tuple[FoundBreak, ...]
    options: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class Inputs:
    """Everything a day is closed from: both sides, the movements and entries of our books, marks by symbol.
    ``originals`` are executions of earlier days that the broker's corrections may be about, ``options`` the options'
    states at the close, ``days`` the calendar days since the close before."""

    session: date
    ours: Books
    theirs: Books
    movements: pl.DataFrame
    entries: tuple[Entry, ...]
    marks: Mapping[str, Decimal]
    multipliers: Mapping[str, Decimal]
    tolerances: Tolerances
    fees_open: Mapping[date, Decimal] = field(default_factory=dict)
    originals: pl.DataFrame | None = None
    options: Mapping[str, OptionState] = field(default_factory=dict)
    days: Decimal = ZERO


def close_day(opening: Closing, day: Inputs, result: DayResult) -> ClosedDay:
    """Close one completed session on ``opening``."""
    adopted = [Entry(each.kind, each.symbol, each.qty, each.amount) for each in result.adopted]
    entries = [*day.entries, *adopted]
    ours = _with_adopted(_side(day.ours), adopted)
    theirs = _side(day.theirs)
    pnl = attribute_day(opening.pnl, day.movements, entries, day.marks, day.multipliers)
    equity = day.theirs.equity if day.theirs.equity is not None else _worth(theirs, day)
    value = _effects_value(result.breaks, day)
    proof, unexplained = _equity(opening, pnl, equity, value)
    held = held_of(pnl.closing.lots)
    options = {symbol: state for symbol, state in day.options.items() if held.get(symbol)}
    closing = Closing(ours, theirs, equity, pnl.closing, value, day.fees_open, options)
    return ClosedDay(
        ours=(*_proofs(opening.ours, day.movements, entries, ours),),
        theirs=(*_proofs(opening.theirs, *_their_movements(result, day), theirs),),
        equity=proof, unexplained=unexplained, pnl=pnl, closing=closing,
        breaks=_unexplained_break(unexplained, day), options=_option_lines(opening, day, pnl),
    )  # fmt: skip


def _option_lines(opening: Closing, day: Inputs, pnl: DayPnl) -> tuple[dict[str, str], ...]:
    totals: dict[str, Decimal | None] = {}
    for line in pnl.lines:
        if parse_option(line.symbol) is not None:
            before, gain = totals.get(line.symbol, ZERO), line.gain
            totals[line.symbol] = None if before is None or gain is None else before + gain
    held = held_of(opening.pnl.lots)
    return tuple(option_lines(OptionDay(opening.options, day.options, held, day.days, totals)))


def _side(books: Books) -> Side:
    assert books.positions is not None
    return Side({symbol: qty for symbol, qty in books.positions.select("symbol", "qty").iter_rows() if qty}, books.cash)


def _with_adopted(side: Side, adopted: Iterable[Entry]) -> Side:
    cash, positions = side.cash, dict(side.positions)
    for entry in adopted:
        cash = None if cash is None else cash + entry.amount
        if entry.symbol and entry.qty:
            positions[entry.symbol] = positions.get(entry.symbol, ZERO) + entry.qty
    return Side({symbol: qty for symbol, qty in positions.items() if qty}, cash)


def _proofs(opening: Side, executions: pl.DataFrame, entries: list[Entry], closing: Side) -> list[Proof]:
    proofs = position_proofs(opening.positions, executions, entries, closing.positions)
    if opening.cash is not None and closing.cash is not None:
        proofs.append(cash_proof(opening.cash, executions, entries, closing.cash))
    return proofs


def _their_movements(result: DayResult, day: Inputs) -> tuple[pl.DataFrame, list[Entry]]:
    """What the broker told that moved its books: executions, what was taken back of them, activities, and the fees on
    its executions. A correction takes back what it names and puts itself in its place."""
    assert day.theirs.executions is not None
    told = day.theirs.executions
    known = told if day.originals is None else pl.concat([told, day.originals])
    corrected = told.filter(pl.col("kind") == "correction").select(pl.col("refers_to").alias("execution_id"))
    taken_back = known.unique("execution_id", keep="first", maintain_order=True).join(corrected, on="execution_id")
    back = [told.filter(pl.col("kind") == "bust"), taken_back.select(told.columns)]
    moved = pl.concat([told.filter(pl.col("kind") != "bust"), *(each.with_columns(_other_side()) for each in back)])
    entries = []
    if day.theirs.activities is not None:
        for row in day.theirs.activities.iter_rows(named=True):
            entries.append(Entry(row["kind"], row["symbol"] or "", row["qty"] or ZERO, row["amount"]))
    fees: Decimal = told.select(pl.col("fee").sum()).item() or ZERO
    if fees:
        entries.append(Entry("fee", "", ZERO, -fees))
    return moved, entries


def _other_side() -> pl.Expr:
    return pl.when(pl.col("side") == "buy").then(pl.lit("sell")).otherwise(pl.lit("buy")).alias("side")


def _worth(side: Side, day: Inputs) -> Decimal | None:
    """Cash and positions at their marks; None when one of them is not known."""
    if side.cash is None or any(symbol not in day.marks for symbol in side.positions):
        return None
    held = (qty * day.marks[symbol] * day.multipliers.get(symbol, Decimal(1)) for symbol, qty in side.positions.items())
    return side.cash + sum(held, ZERO)


def _effects_value(breaks: Iterable[FoundBreak], day: Inputs) -> Decimal:
    value = ZERO
    for found in breaks:
        value += found.cash_effect
        for symbol, qty in found.effects:
            value += qty * day.marks.get(symbol, ZERO) * day.multipliers.get(symbol, Decimal(1))
    return value


def _equity(
    opening: Closing, pnl: DayPnl, equity: Decimal | None, value: Decimal
) -> tuple[Proof | None, Decimal | None]:
    """The proof of equity, and what of its unexplained line no break accounts for."""
    lines = pnl.equity_lines()
    if lines is None or opening.equity is None or equity is None:
        return None, None
    proof = equity_proof(opening.equity, lines, equity)
    return proof, (proof.unexplained - (value - opening.effects_value)).quantize(CENT)


def _unexplained_break(unexplained: Decimal | None, day: Inputs) -> tuple[FoundBreak, ...]:
    """One a session: what is left over on another day is another difference."""
    if unexplained is None or abs(unexplained) <= day.tolerances.unexplained_pnl:
        return ()
    told = f"the broker's equity moved by {plain(unexplained)} more than cash, positions and marks say"
    return (
        FoundBreak(
            BreakKind.CASH, f"pnl unexplained {day.session}", difference={"equity": str(plain(unexplained))},
            explanation=f"{told}: check the marks, the accruals and the broker's equity", value=abs(unexplained),
        ),
    )  # fmt: skip


def closing_json(closing: Closing) -> dict[str, Any]:
    """As a run keeps it."""
    return {
        "ours": _side_json(closing.ours),
        "theirs": _side_json(closing.theirs),
        "equity": plain(closing.equity),
        "lots": [
            [*key, [[plain(lot.qty), plain(lot.price)] for lot in lots]]
            for key, lots in sorted(closing.pnl.lots.items())
        ],
        "averages": [
            [*key, plain(state.qty), plain(state.price)] for key, state in sorted(closing.pnl.averages.items())
        ],
        "marks": {symbol: plain(mark) for symbol, mark in sorted(closing.pnl.marks.items())},
        "effects_value": plain(closing.effects_value),
        "fees_open": {str(day): plain(amount) for day, amount in sorted(closing.fees_open.items())},
        "options": {symbol: state.as_dict() for symbol, state in sorted(closing.options.items())},
    }


def closing_of(raw: Mapping[str, Any]) -> Closing:
    """The inverse of ``closing_json``."""
    lots = {
        (strategy, symbol): tuple(Lot(Decimal(qty), Decimal(price)) for qty, price in rows)
        for strategy, symbol, rows in raw["lots"]
    }
    averages = {
        (strategy, symbol): AverageState(Decimal(qty), Decimal(price))
        for strategy, symbol, qty, price in raw["averages"]
    }
    marks = {symbol: Decimal(mark) for symbol, mark in raw["marks"].items()}
    return Closing(
        _side_of(raw["ours"]), _side_of(raw["theirs"]), None if raw["equity"] is None else Decimal(raw["equity"]),
        Opening(lots, averages, marks), Decimal(raw["effects_value"]),
        {date.fromisoformat(day): Decimal(amount) for day, amount in raw["fees_open"].items()},
        {symbol: OptionState.from_dict(state) for symbol, state in raw.get("options", {}).items()},
    )  # fmt: skip


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "positions": {symbol: plain(qty) for symbol, qty in sorted(side.positions.items())},
        "cash": plain(side.cash),
    }


def _side_of(raw: Mapping[str, Any]) -> Side:
    cash = raw["cash"]
    positions = {symbol: Decimal(qty) for symbol, qty in raw["positions"].items()}
    return Side(positions, None if cash is None else Decimal(cash))
