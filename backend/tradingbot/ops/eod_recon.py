"""End-of-day reconciliation for plain Python: our orders against the broker's fills, and a file of open breaks.

Invariants: several fills of one order are added up; the result does not depend on the order of the inputs; NaN,
infinity and negative figures refuse the whole input; a difference that was found stays open until a later run explains
it or a person resolves it; "never ran" is pending, not clean. The engine for frames is ``recon_engine``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.core.values import plain
from backend.tradingbot.ops.eod_breaks_file import BreaksFile

__all__ = [
    "DEFAULT_SEVERITIES", "BrokerFill", "EODReconciler", "LocalOrder", "ReconciliationBreaks", "Severities",
    "log_reconciliation_results", "reconcile", "should_disable_next_day",
]  # fmt: skip

log = logging.getLogger(__name__)

Number = Decimal | int | float | str
KINDS = ("missing_fill", "unknown_broker_fill", "state_mismatch", "qty_mismatch", "price_mismatch")
# States in which nothing has to have been filled. Any other state without a fill is a missing fill.
UNFILLED_STATES = frozenset({"canceled", "rejected", "expired", "denied", "never_arrived"})
_SPELLINGS = {
    "cancelled": "canceled",
    "fill": "filled",
    "partial_fill": "partially_filled",
    "partial": "partially_filled",
}
# Of several fills of one order the furthest word is the order's.
_RANK = {"filled": 5, "canceled": 4, "expired": 4, "rejected": 4, "partially_filled": 2}
_ZERO = Decimal(0)


@dataclass(frozen=True)
class LocalOrder:
    """One order as we have it. ``qty`` is the ordered quantity. The last three sharpen the comparison where they are
    known: what was filled, at which average price, and the limit that no price may be worse than."""

    client_order_id: str
    broker_order_id: str | None
    symbol: str
    side: str
    qty: Number
    final_state: str
    avg_price: Number | None = None
    filled_qty: Number | None = None
    limit_price: Number | None = None


@dataclass(frozen=True)
class BrokerFill:
    """One fill of the broker's statement; several of one order are added up. ``status`` is the broker's own word."""

    broker_order_id: str
    symbol: str
    filled_qty: Number
    avg_price: Number | None
    status: str
    side: str | None = None


@dataclass
class ReconciliationBreaks:
    """What differs, each a text that begins with the order's id (the broker's id for ``unknown_broker_fill``).

    ``overfilled`` repeats the ids among ``qty_mismatch`` of which more was filled than was ordered.
    """

    missing_fill: list[str] = field(default_factory=list)
    unknown_broker_fill: list[str] = field(default_factory=list)
    state_mismatch: list[str] = field(default_factory=list)
    qty_mismatch: list[str] = field(default_factory=list)
    price_mismatch: list[str] = field(default_factory=list)
    overfilled: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in KINDS)

    def count(self) -> int:
        return sum(len(getattr(self, kind)) for kind in KINDS)


@dataclass(frozen=True)
class Severities:
    """Which kinds only warn. An over-fill always disables the next day, whatever the table says."""

    version: str
    warnings: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = self.warnings - set(KINDS)
        if unknown:
            raise ValueError(f"unknown kinds in severity table {self.version}: {', '.join(sorted(unknown))}")


DEFAULT_SEVERITIES = Severities("every-break-blocks-1")


@dataclass
class _Total:
    """The fills of one broker order, added up."""

    qty: Decimal = _ZERO
    value: Decimal = _ZERO
    status: str = ""
    fills: int = 0
    symbols: set[str] = field(default_factory=set)
    sides: set[str] = field(default_factory=set)


def reconcile(orders: Iterable[LocalOrder], fills: Iterable[BrokerFill]) -> ReconciliationBreaks:
    """Compare our orders with the broker's fills. A figure that is none raises ``InvalidInputError``, a ValueError."""
    ours, theirs = list(orders), _totals(fills)
    breaks = ReconciliationBreaks()
    claimed: dict[str, str] = {}
    for order in sorted(ours, key=lambda o: (o.client_order_id, o.broker_order_id or "")):
        _check_order(order)
        bid = order.broker_order_id
        if bid and bid in claimed:
            breaks.state_mismatch.append(f"{order.client_order_id}: broker order {bid} is also {claimed[bid]}'s")
            continue
        if bid:
            claimed[bid] = order.client_order_id
        total = theirs.get(bid) if bid else None
        if total is None:
            _without_fill(order, breaks)
        else:
            _compare(order, total, breaks)
    for bid in sorted(theirs.keys() - claimed.keys()):
        total = theirs[bid]
        breaks.unknown_broker_fill.append(f"{bid}: {plain(total.qty)} {'/'.join(sorted(total.symbols))} is not ours")
    return breaks


def _without_fill(order: LocalOrder, breaks: ReconciliationBreaks) -> None:
    believed = _ZERO if order.filled_qty is None else _number(order.filled_qty, "filled_qty", order.client_order_id)
    if _state(order.final_state) not in UNFILLED_STATES or believed > 0:
        breaks.missing_fill.append(f"{order.client_order_id}: {order.final_state} here, no fill at the broker")


def _compare(order: LocalOrder, total: _Total, breaks: ReconciliationBreaks) -> None:
    name = order.client_order_id
    if total.symbols != {order.symbol}:
        shown = "/".join(sorted(total.symbols))
        breaks.state_mismatch.append(f"{name}: symbol {order.symbol} here, {shown} at the broker")
    if total.sides and total.sides != {order.side.lower()}:
        shown = "/".join(sorted(total.sides))
        breaks.state_mismatch.append(f"{name}: side {order.side} here, {shown} at the broker")
    # Parts that add up to the whole have filled the order, whatever each of them was called when it happened.
    whole = total.fills > 1 and total.qty == _number(order.qty, "qty", name)
    status = "filled" if whole and total.status == "partially_filled" else total.status
    if status != _state(order.final_state):
        breaks.state_mismatch.append(f"{name}: {order.final_state} here, {status} at the broker")
    _compare_qty(order, total, breaks)
    _compare_price(order, total, breaks)


def _compare_qty(order: LocalOrder, total: _Total, breaks: ReconciliationBreaks) -> None:
    name, ordered = order.client_order_id, _number(order.qty, "qty", order.client_order_id)
    if total.qty > ordered:
        breaks.overfilled.append(name)
        breaks.qty_mismatch.append(f"{name}: over-fill, {plain(ordered)} ordered, {plain(total.qty)} filled")
        return
    state = _state(order.final_state)
    if order.filled_qty is not None:
        believed = _number(order.filled_qty, "filled_qty", name)
    elif state == "partially_filled" and _ZERO < total.qty < ordered:
        return  # how much is not known here, and any part is a part
    else:
        believed = _ZERO if state in UNFILLED_STATES else ordered
    if believed != total.qty:
        breaks.qty_mismatch.append(f"{name}: {plain(believed)} here, {plain(total.qty)} at the broker")


def _compare_price(order: LocalOrder, total: _Total, breaks: ReconciliationBreaks) -> None:
    """The average within half a tick of ours, and never worse than the limit."""
    if not total.qty:
        return
    name, average = order.client_order_id, total.value / total.qty
    half_tick = Decimal("0.005") if average >= 1 else Decimal("0.00005")
    if order.avg_price is not None:
        ours = _number(order.avg_price, "avg_price", name)
        if abs(ours - average) > half_tick:
            breaks.price_mismatch.append(f"{name}: {plain(ours)} here, {plain(_shown(average))} at the broker")
    if order.limit_price is not None:
        limit = _number(order.limit_price, "limit_price", name)
        worse = average - limit if order.side.lower() == "buy" else limit - average
        if worse > half_tick:
            breaks.price_mismatch.append(f"{name}: {plain(_shown(average))} is worse than the limit {plain(limit)}")


def _totals(fills: Iterable[BrokerFill]) -> dict[str, _Total]:
    totals: dict[str, _Total] = {}
    for fill in fills:
        name = fill.broker_order_id
        _need_id(name, "broker_order_id")
        qty = _number(fill.filled_qty, "filled_qty", name)
        price = _ZERO if fill.avg_price is None else _number(fill.avg_price, "avg_price", name)
        if qty > 0 and price <= 0:
            raise _refusal("avg_price", fill.avg_price, f"of {name} must be greater than zero")
        total = totals.setdefault(name, _Total())
        total.qty, total.value = total.qty + qty, total.value + qty * price
        total.fills += 1
        total.symbols.add(fill.symbol)
        if fill.side is not None:
            total.sides.add(fill.side.lower())
        total.status = max(
            total.status, _state(fill.status), key=lambda word: (_RANK.get(word, 1 if word else 0), word)
        )
    return totals


def _check_order(order: LocalOrder) -> None:
    _need_id(order.client_order_id, "client_order_id")
    if _number(order.qty, "qty", order.client_order_id) <= 0:
        raise _refusal("qty", order.qty, f"of {order.client_order_id} must be greater than zero")
    if order.side.lower() not in ("buy", "sell"):
        raise _refusal("side", order.side, f"of {order.client_order_id} must be buy or sell")


def _need_id(name: Any, label: str) -> None:
    if not isinstance(name, str) or not name.strip() or ": " in name:
        raise _refusal(label, name, "must be a text that is not blank and has no ': ' in it")


def _number(raw: Any, label: str, name: str) -> Decimal:
    try:
        value = Decimal("nan") if isinstance(raw, bool) else Decimal(str(raw))
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or value < 0:
        raise _refusal(label, raw, f"of {name} must be a finite number, not negative")
    return value


def _refusal(label: str, raw: Any, problem: str) -> InvalidInputError:
    return InvalidInputError([FieldError(label, raw, problem, "mend the input and reconcile again")])


def _state(word: str) -> str:
    lower = word.strip().lower()
    return _SPELLINGS.get(lower, lower)


def _shown(price: Decimal) -> Decimal:
    return price.quantize(Decimal("1e-6"))


def should_disable_next_day(breaks: ReconciliationBreaks, severities: Severities = DEFAULT_SEVERITIES) -> bool:
    """True when any break is of a kind that is not demoted to a warning; an over-fill always is."""
    critical = any(getattr(breaks, kind) for kind in KINDS if kind not in severities.warnings)
    return critical or bool(breaks.overfilled)


def log_reconciliation_results(breaks: ReconciliationBreaks) -> None:
    """One line a break, and one that sums up."""
    for kind in KINDS:
        for text in getattr(breaks, kind):
            log.warning("reconciliation_break kind=%s %s", kind, text)
    if breaks:
        log.error("reconciliation_breaks count=%d", breaks.count())
    else:
        log.info("reconciliation_clean")


class EODReconciler:
    """Runs the day's reconciliation and remembers its open breaks in the file at ``breaks_file``, atomically written
    and shared by any number of reconcilers. Raises ``RECON_FILE_CORRUPT`` when the file cannot be read for certain."""

    def __init__(
        self,
        breaks_file: str | os.PathLike[str] = "./.state/eod_breaks.json",
        *,
        severities: Severities = DEFAULT_SEVERITIES,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.breaks_file = os.fspath(breaks_file)
        self.severities = severities
        self._file = BreaksFile(self.breaks_file, clock)

    def run_daily_reconciliation(
        self, orders: Iterable[LocalOrder], fills: Iterable[BrokerFill]
    ) -> ReconciliationBreaks:
        """This run's breaks. Those open from before stay open, except where this run has seen the order in order."""
        ours, theirs = list(orders), list(fills)
        breaks = reconcile(ours, theirs)
        seen = {order.client_order_id for order in ours}
        seen |= {order.broker_order_id for order in ours if order.broker_order_id}
        found = [
            (kind, text.partition(": ")[0], text, text.partition(": ")[0] in breaks.overfilled)
            for kind in KINDS
            for text in getattr(breaks, kind)
        ]
        self._file.record(found, seen)
        log_reconciliation_results(breaks)
        return breaks

    def check_pending_breaks(self) -> bool:
        """True when the next session must not trade: a break is open, nothing ever ran, or the file is damaged."""
        return self._file.pending(self.severities.warnings)

    def pending_breaks(self) -> Mapping[str, list[str]]:
        """The open breaks by kind, of this run and of those before."""
        return self._file.texts()

    def resolve(self, subject: str, *, actor: str, reason: str) -> int:
        """Close what is open about one id, with a name and a reason that the file keeps; how many were closed."""
        if not actor.strip() or not reason.strip():
            raise _refusal("reason", reason, "must be given, with the name of who resolves")
        return self._file.resolve(subject, actor, reason)
