"""The words of reconciliation as data: kinds of break, match passes, tolerances and severities, each with a version.

Invariants: a kind that no table names is critical; a tolerance is finite and not negative; what was compared under
which version is stored with every match and every run, so that a later change of a tolerance explains nothing away.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum


class BreakKind(StrEnum):
    MISSING_AT_BROKER = "missing_at_broker"
    MISSING_INTERNAL = "missing_internal"
    QTY = "qty"
    PRICE = "price"
    SIDE = "side"
    SYMBOL = "symbol"
    DUPLICATE = "duplicate"
    BUST_OR_CORRECTION = "bust_or_correction"
    ORDER_STATUS = "order_status"
    TRADE_DATE = "trade_date"
    FEE = "fee"
    POSITION_QTY = "position_qty"
    COST_BASIS = "cost_basis"
    CASH = "cash"
    CORPORATE_ACTION = "corporate_action"
    OPTION_EVENT = "option_event"
    STALE_OR_INCOMPLETE_SOURCE = "stale_or_incomplete_source"


class MatchPass(StrEnum):
    """How two sides were found to be the same thing, strongest first. ``FORCED`` is a person's word."""

    EXECUTION_ID = "execution_id"
    ORDER_AND_TERMS = "order_and_terms"
    ORDER_TOTAL = "order_total"
    CLIENT_ORDER_AND_TERMS = "client_order_and_terms"
    CLIENT_ORDER_TOTAL = "client_order_total"
    FORCED = "forced"


class ActivityKind(StrEnum):
    """What moves cash or positions and is no trade."""

    FEE = "fee"
    DIVIDEND = "dividend"
    INTEREST = "interest"
    FLOW = "flow"
    CORPORATE_ACTION = "corporate_action"
    OPTION_EVENT = "option_event"
    OTHER = "other"


@dataclass(frozen=True)
class Tolerances:
    """What still counts as equal. Prices and money in dollars; ``price`` is for two reports of one execution,
    ``average_price_ticks`` for the average of several, in ticks of a cent (of a hundredth of a cent below a dollar).

    ``max_differences`` is the most that one day is broken down to: past it the two sides are not of the same account
    or day, and the source is the break.
    """

    version: str = "default-1"
    price: Decimal = Decimal(0)
    average_price_ticks: Decimal = Decimal("0.5")
    time: timedelta = timedelta(seconds=2)
    fee: Decimal = Decimal("0.01")
    cash: Decimal = Decimal("0.01")
    cost_basis_ticks: Decimal = Decimal("0.5")
    unexplained_pnl: Decimal = Decimal("1.00")
    fee_grace_sessions: int = 1
    max_differences: int = 20_000

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Decimal) and not (value.is_finite() and value >= 0):
                raise ValueError(f"tolerance {item.name} must be finite and not negative, not {value}")
        if self.time < timedelta(0) or self.fee_grace_sessions < 0 or self.max_differences < 1:
            raise ValueError("tolerances time and fee_grace_sessions are not negative, max_differences is at least 1")
        if not self.version.strip():
            raise ValueError("tolerances need a version")


@dataclass(frozen=True)
class SeverityTable:
    """Which kinds only warn. By default none does: any open break blocks the next session."""

    version: str = "every-break-blocks-1"
    warnings: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        unknown = self.warnings - {str(kind) for kind in BreakKind}
        if unknown:
            raise ValueError(f"severity table {self.version} names unknown kinds: {', '.join(sorted(unknown))}")

    def of(self, kind: str) -> str:
        return "warning" if kind in self.warnings else "critical"


def tick_of(price: Decimal) -> Decimal:
    """The tick at ``price``: a cent from one dollar up, a hundredth of a cent below (Reg NMS rule 612)."""
    return Decimal("0.01") if abs(price) >= 1 else Decimal("0.0001")
