"""Where a day's profit came from: by strategy and symbol, realised by FIFO and by average cost.

Invariants: what every line says adds up to the change of equity (``recon_proofs.equity_proof`` shows the rest as
``unexplained``); a held symbol without a mark makes its unrealised unknown (None), never zero; nothing is a float.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import polars as pl

from backend.tradingbot.ops.pnl_entries import BookedEntries, apply_entries
from backend.tradingbot.ops.pnl_lots import AverageState, Key, Lot, average_cost, first_in_first_out
from backend.tradingbot.ops.recon_proofs import Entry

ZERO = Decimal(0)


@dataclass(frozen=True)
class Opening:
    """Where the day starts: the lots and the average of each (strategy, symbol), and the marks of the last close."""

    lots: Mapping[Key, tuple[Lot, ...]] = field(default_factory=dict)
    averages: Mapping[Key, AverageState] = field(default_factory=dict)
    marks: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True)
class PnlLine:
    """One strategy in one symbol, dollars; fees are negative. ``unrealized`` and its change are None without a mark.
    The strategy is empty for what no strategy ordered: outside trades, transfers, dividends and fees of a symbol."""

    strategy: str
    symbol: str
    realized_fifo: Decimal = ZERO
    realized_average: Decimal = ZERO
    unrealized: Decimal | None = ZERO
    unrealized_change: Decimal | None = ZERO
    dividends: Decimal = ZERO
    fees: Decimal = ZERO

    @property
    def gain(self) -> Decimal | None:
        """What its price and its trades made, dividends and fees left out."""
        return None if self.unrealized_change is None else self.realized_fifo + self.unrealized_change

    @property
    def total(self) -> Decimal | None:
        return None if self.gain is None else self.gain + self.dividends + self.fees


@dataclass(frozen=True)
class DayPnl:
    """The day's attribution. ``closing`` is the next day's opening; ``unmarked`` are held symbols without a mark."""

    lines: tuple[PnlLine, ...]
    booked: BookedEntries
    closing: Opening
    unmarked: tuple[str, ...]

    def equity_lines(self) -> dict[str, Decimal] | None:
        """The lines of the proof of equity (fees are negative); None when a held symbol has no mark."""
        if self.unmarked:
            return None
        return {
            "realized": sum((line.realized_fifo for line in self.lines), ZERO),
            "unrealized_change": sum((line.unrealized_change or ZERO for line in self.lines), ZERO),
            "dividends": sum(self.booked.dividends.values(), ZERO),
            "interest": self.booked.interest,
            "fees": sum(self.booked.fees.values(), ZERO),
            "flows": self.booked.flows,
            "corrections": self.booked.corrections,
        }


def attribute_day(
    opening: Opening,
    executions: pl.DataFrame,
    entries: Iterable[Entry],
    marks: Mapping[str, Decimal],
    multipliers: Mapping[str, Decimal] | None = None,
) -> DayPnl:
    """Attribute one session.

    ``executions`` is a frame of executions with ``strategy``; ``marks`` are the closing prices a unit; ``multipliers``
    those of symbols whose unit is not one share (executions bring their own).
    """
    units = dict(multipliers or {})
    units |= dict(executions.group_by("symbol").agg(pl.col("multiplier").first()).iter_rows())
    booked = apply_entries(opening.lots, opening.averages, executions, entries, marks, units)
    rows = pl.concat([executions, booked.moves])
    fifo, average = first_in_first_out(booked.lots, rows), average_cost(booked.averages, rows)
    lines, unmarked = [], set()
    for key in sorted({*fifo.realized, *opening.lots}):
        strategy, symbol = key
        unit = units.get(symbol, Decimal(1))
        before = _unrealized(opening.lots.get(key, ()), opening.marks.get(symbol), unit)
        after = _unrealized(fifo.lots.get(key, ()), marks.get(symbol), unit)
        change = None if before is None or after is None else after - before
        if change is None:
            unmarked.add(symbol)
        gain, other = fifo.realized.get(key, ZERO), average.realized.get(key, ZERO)
        lines.append(PnlLine(strategy, symbol, gain, other, after, change))
    for symbol in sorted({*booked.dividends, *booked.fees}):
        dividends, fees = booked.dividends.get(symbol, ZERO), booked.fees.get(symbol, ZERO)
        lines.append(PnlLine("", symbol, dividends=dividends, fees=fees))
    held = {key: lots for key, lots in fifo.lots.items() if lots}
    marked = {symbol: marks[symbol] for _, symbol in held if symbol in marks}
    closing = Opening(held, {key: average.states[key] for key in held}, marked)
    return DayPnl(tuple(lines), booked, closing, tuple(sorted(unmarked)))


def _unrealized(lots: Iterable[Lot], mark: Decimal | None, unit: Decimal) -> Decimal | None:
    listed = list(lots)
    if not listed:
        return ZERO
    if mark is None:
        return None
    return sum(((mark - lot.price) * lot.qty * unit for lot in listed), ZERO)
