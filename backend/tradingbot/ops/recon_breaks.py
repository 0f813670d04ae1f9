"""What a found difference is: one value with both sides, its money, and what would make our books agree.

Invariants: a difference is named by ``(kind, subject)`` and the same difference gets the same name on every run;
``effects`` and ``cash_effect`` are what must be added to our books to agree with the broker's; ``digest`` changes
whenever the evidence does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.values import plain
from backend.tradingbot.ops.recon_frames import as_text
from backend.tradingbot.ops.recon_kinds import BreakKind

ZERO = Decimal(0)
CENT = Decimal("0.01")
Row = Mapping[str, Any]

_CARRIED = (
    BreakKind.MISSING_AT_BROKER, BreakKind.MISSING_INTERNAL, BreakKind.QTY, BreakKind.PRICE, BreakKind.SIDE,
    BreakKind.SYMBOL, BreakKind.TRADE_DATE, BreakKind.BUST_OR_CORRECTION,
)  # fmt: skip
# Subjects that every run looks at as they stand now, so that no earlier finding is needed to find them again.
STATE_SUBJECTS = ("position ", "cost ", "cash ", "pnl ", "statement ")
_SHOWN = (
    "execution_id", "order_id", "client_order_id", "symbol", "side", "qty", "price", "occurred_at", "trade_date",
    "kind", "refers_to", "filled_qty", "status", "amount", "description",
)  # fmt: skip


@dataclass(frozen=True)
class Activity:
    """Something that moved cash or a position and is no trade: as the broker told it, to be taken into our books."""

    activity_id: str
    kind: str
    symbol: str
    amount: Decimal
    qty: Decimal
    date: date
    description: str


@dataclass(frozen=True)
class FoundBreak:
    """One difference. ``value`` is its money in dollars, never negative. ``carry_ours`` and ``carry_theirs`` are the
    executions it is about: they stand in the frames of later runs until they are matched or booked.

    ``possible_effects`` and ``possible_cash`` are effects that only the broker's positions and cash can confirm (an
    execution told twice may have been counted once); the comparison of the books takes them up or leaves them.
    ``activities`` are what is booked when the break is written off; where there are none, the effects themselves are.
    """

    kind: BreakKind
    subject: str
    symbol: str = ""
    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    difference: Mapping[str, str] = field(default_factory=dict)
    explanation: str = ""
    value: Decimal = ZERO
    effects: tuple[tuple[str, Decimal], ...] = ()
    cash_effect: Decimal = ZERO
    possible_effects: tuple[tuple[str, Decimal], ...] = ()
    possible_cash: Decimal = ZERO
    activities: tuple[Activity, ...] = ()
    carry_ours: tuple[Row, ...] = ()
    carry_theirs: tuple[Row, ...] = ()

    @property
    def is_carried(self) -> bool:
        """Whether its executions are matched again in later sessions; else the break itself stands until it is booked
        or closed (see ``recon_engine.Day.standing``), except for positions, cost and cash, which are found anew."""
        return self.kind in _CARRIED and bool(self.carry_ours or self.carry_theirs)

    @property
    def key(self) -> tuple[str, str]:
        return str(self.kind), self.subject

    @property
    def digest(self) -> str:
        """SHA-256 of both sides and the difference: the same evidence gives the same digest.

        Of a state (a position, a cost, cash) it is the difference alone: both sides move on every day, and what was
        explained stays explained while the difference stays the same.
        """
        if self.subject.startswith(STATE_SUBJECTS):
            return digest({"difference": self.difference})
        return digest({"ours": self.ours, "theirs": self.theirs, "difference": self.difference})


def shown(row: Row | None) -> dict[str, Any]:
    """The columns of a row that a person compares."""
    return {} if row is None else as_text({name: row[name] for name in _SHOWN if row.get(name) is not None})


def shown_rows(rows: Iterable[Row]) -> dict[str, Any]:
    """One row as itself, several as their total with the ids."""
    listed = list(rows)
    if len(listed) == 1:
        return shown(listed[0])
    qty = sum((row["qty"] for row in listed), ZERO)
    ids = sorted(str(row["execution_id"]) for row in listed)
    return {"executions": ids[:50], "count": len(listed), "qty": plain(qty), "price": plain(average(listed))}


def signed(row: Row) -> Decimal:
    qty: Decimal = row["qty"]
    return qty if row["side"] == "buy" else -qty


def money(row: Row) -> Decimal:
    """What the execution did to cash, its fee left out."""
    effect: Decimal = -(signed(row) * row["price"] * row["multiplier"])
    return effect


def average(rows: Iterable[Row]) -> Decimal:
    listed = list(rows)
    qty = sum((row["qty"] for row in listed), ZERO)
    value: Decimal = sum((row["qty"] * row["price"] for row in listed), ZERO)
    return (value / qty).quantize(Decimal("1e-9")) if qty else ZERO


def effects_of(ours: Iterable[Row], theirs: Iterable[Row]) -> tuple[tuple[tuple[str, Decimal], ...], Decimal]:
    """``(position effects by symbol, cash effect)`` that take our books from ``ours`` to ``theirs``."""
    moved: dict[str, Decimal] = {}
    cash = ZERO
    for rows, sign in ((theirs, 1), (ours, -1)):
        for row in rows:
            moved[row["symbol"]] = moved.get(row["symbol"], ZERO) + sign * signed(row)
            cash += sign * money(row)
    return tuple(sorted((symbol, qty) for symbol, qty in moved.items() if qty)), cash


def subject_of(row: Row) -> str:
    """The name of an execution: its id, else its order and what it was. Fits the 120 characters that are stored."""
    if row.get("execution_id"):
        return str(row["execution_id"])[:120]
    order = row.get("order_id") or row.get("client_order_id") or row["symbol"]
    terms = f"{row['side']} {plain(row['qty'])} at {plain(row['price'])} {row['occurred_at']:%Y-%m-%dT%H:%M:%S.%f}"
    return f"{order} {terms}"[:120]


def from_executions(
    kind: BreakKind, ours: Iterable[Row], theirs: Iterable[Row], *, subject: str, explanation: str
) -> FoundBreak:
    """A break about executions, with its effects and the rows to carry."""
    mine, other = tuple(ours), tuple(theirs)
    effects, cash = effects_of(mine, other)
    row = (other or mine)[0]
    moved = {f"qty {symbol}": str(plain(qty)) for symbol, qty in effects}
    difference = {**moved, "cash": str(plain(cash))}
    if mine and other:
        difference |= _field_differences(mine, other)
    gross = sum((abs(money(each)) for each in (other or mine)), ZERO) if not (mine and other) else abs(cash)
    return FoundBreak(
        kind=kind, subject=subject, symbol=row["symbol"], ours=shown_rows(mine) if mine else {},
        theirs=shown_rows(other) if other else {}, difference=difference, explanation=explanation,
        value=gross.quantize(CENT), effects=effects, cash_effect=cash, carry_ours=mine, carry_theirs=other,
    )  # fmt: skip


def _field_differences(ours: tuple[Row, ...], theirs: tuple[Row, ...]) -> dict[str, str]:
    if len(ours) != 1 or len(theirs) != 1:
        return {"price": str(plain(average(theirs) - average(ours)))}
    (mine,), (other,) = ours, theirs
    names = [name for name in ("symbol", "side", "trade_date") if mine[name] != other[name]]
    told = {name: f"{mine[name]} here, {other[name]} at the broker" for name in names}
    for name in ("qty", "price", "multiplier"):
        if mine[name] != other[name]:
            told[name] = str(plain(other[name] - mine[name]))
    return told
