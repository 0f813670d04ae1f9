"""What entries of the books that are no executions do to lots and to profit: splits, expiries, transfers, corrections.

Invariants: a split changes quantities and prices, never the cost of the whole; an entry that moves shares against cash
is a trade at that price, first against the strategies that hold the other side and then in none; shares that come or
go without cash come or go at the mark, and their value is a flow or a correction, so that they make no profit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from backend.tradingbot.ops.pnl_lots import AverageState, Key, Lot
from backend.tradingbot.ops.recon_frames import frame, signed_qty
from backend.tradingbot.ops.recon_kinds import ActivityKind
from backend.tradingbot.ops.recon_proofs import Entry

ZERO, ONE = Decimal(0), Decimal(1)
_NINE = Decimal("1e-9")
_AFTER_THE_DAY = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass
class BookedEntries:
    """The opening after splits, the moves that entries make as executions, and the entries' money by line."""

    lots: dict[Key, tuple[Lot, ...]]
    averages: dict[Key, AverageState]
    moves: pl.DataFrame = field(default_factory=lambda: frame("executions"))
    dividends: dict[str, Decimal] = field(default_factory=dict)
    fees: dict[str, Decimal] = field(default_factory=dict)
    interest: Decimal = ZERO
    flows: Decimal = ZERO
    corrections: Decimal = ZERO


def apply_entries(
    lots: Mapping[Key, tuple[Lot, ...]],
    averages: Mapping[Key, AverageState],
    executions: pl.DataFrame,
    entries: Iterable[Entry],
    marks: Mapping[str, Decimal],
    multipliers: Mapping[str, Decimal],
) -> BookedEntries:
    """Sort ``entries`` into what they do. An entry without a mark that would need one counts at zero."""
    booked = BookedEntries(dict(lots), dict(averages))
    moves: list[dict[str, Any]] = []
    others: list[tuple[int, Entry]] = []
    for number, entry in enumerate(entries):
        if entry.kind == ActivityKind.DIVIDEND:
            booked.dividends[entry.symbol] = booked.dividends.get(entry.symbol, ZERO) + entry.amount
        elif entry.kind == ActivityKind.FEE:
            booked.fees[entry.symbol] = booked.fees.get(entry.symbol, ZERO) + entry.amount
        elif entry.kind == ActivityKind.INTEREST:
            booked.interest += entry.amount
        elif entry.kind == ActivityKind.CORPORATE_ACTION and entry.qty and _split(booked, entry):
            booked.corrections += entry.amount
        elif not entry.qty:
            _money(booked, entry.kind, entry.amount)
        else:
            others.append((number, entry))
    held = _held(booked.lots, executions)
    for number, entry in others:
        unit = multipliers.get(entry.symbol, ONE)
        price = _price(booked, entry, marks, unit)
        for strategy, qty in _shared_out(held, entry):
            moves.append(_execution(entry.symbol, qty, price, unit, strategy, number))
    booked.moves = frame("executions", moves)
    return booked


def _money(booked: BookedEntries, kind: str, amount: Decimal) -> None:
    if kind == ActivityKind.FLOW:
        booked.flows += amount
    else:
        booked.corrections += amount


def _split(booked: BookedEntries, entry: Entry) -> bool:
    """Scale every lot of the symbol; False when nothing was held that could be split."""
    held = sum((lot.qty for (_, symbol), lots in booked.lots.items() if symbol == entry.symbol for lot in lots), ZERO)
    if not held or (held + entry.qty) * held <= 0:
        return False
    ratio = (held + entry.qty) / held
    for key, lots in booked.lots.items():
        if key[1] == entry.symbol:
            booked.lots[key] = tuple(Lot((lot.qty * ratio).quantize(_NINE), lot.price / ratio) for lot in lots)
    for key, state in booked.averages.items():
        if key[1] == entry.symbol:
            booked.averages[key] = AverageState((state.qty * ratio).quantize(_NINE), state.price / ratio)
    return True


def _held(lots: Mapping[Key, tuple[Lot, ...]], executions: pl.DataFrame) -> dict[Key, Decimal]:
    """What each strategy holds after the day's executions."""
    held = {key: sum((lot.qty for lot in found), ZERO) for key, found in lots.items()}
    strategy = pl.col("strategy").fill_null("")
    for name, symbol, qty in executions.group_by(strategy, "symbol").agg(signed_qty().sum()).iter_rows():
        held[(name, symbol)] = held.get((name, symbol), ZERO) + qty
    return held


def _shared_out(held: dict[Key, Decimal], entry: Entry) -> list[tuple[str, Decimal]]:
    """The entry's quantity by strategy: it closes what is held on the other side, by name, and the rest is no one's."""
    left, shares = entry.qty, []
    for key in sorted(key for key, qty in held.items() if key[1] == entry.symbol and qty * left < 0):
        part = min(abs(held[key]), abs(left)) * (1 if left > 0 else -1)
        if part:
            shares.append((key[0], part))
            held[key] += part
            left -= part
    return [*shares, ("", left)] if left else shares


def _price(booked: BookedEntries, entry: Entry, marks: Mapping[str, Decimal], multiplier: Decimal) -> Decimal:
    """The price a unit that the entry's shares come or go at; what that leaves over is money on its line."""
    if not entry.amount and entry.kind != ActivityKind.OPTION_EVENT:
        price = marks.get(entry.symbol, ZERO)
        _money(booked, entry.kind, entry.qty * price * multiplier)
        return price
    if entry.amount * entry.qty > 0:  # shares and money on the same side: shares at nothing, and money beside them
        _money(booked, entry.kind, entry.amount)
        return ZERO
    price = (abs(entry.amount) / abs(entry.qty) / multiplier).quantize(_NINE)
    _money(booked, entry.kind, entry.amount + entry.qty * price * multiplier)
    return price


def _execution(
    symbol: str, qty: Decimal, price: Decimal, multiplier: Decimal, strategy: str, number: int
) -> dict[str, Any]:
    """The entry's part as an execution at the end of the day."""
    return {
        "execution_id": f"entry {number} {strategy}", "symbol": symbol, "side": "buy" if qty > 0 else "sell",
        "qty": abs(qty), "price": price, "occurred_at": _AFTER_THE_DAY, "trade_date": _AFTER_THE_DAY.date(),
        "multiplier": multiplier, "strategy": strategy,
    }  # fmt: skip
