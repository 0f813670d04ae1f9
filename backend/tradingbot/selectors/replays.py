"""Stored decisions judged again: by their own snapshot they must come out the same, by other limits they may not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.core.values import OrderIntent, OrderType, Side, TimeInForce
from backend.tradingbot.models import Order
from backend.tradingbot.risk.gates import Decision, evaluate
from backend.tradingbot.risk.limit_replay import Change, Proposed, compare
from backend.tradingbot.risk.snapshot import RiskSnapshot
from backend.tradingbot.risk.snapshot_json import from_json
from backend.tradingbot.selectors.risk_parts import market_session


def intent_of(order: Order) -> OrderIntent:
    """The order as its strategy asked for it."""
    return OrderIntent(
        client_order_id=order.client_order_id,
        account=order.account.code,
        strategy=order.strategy.code,
        symbol=order.symbol,
        side=Side(order.side),
        qty=order.qty if order.requested_qty is None else order.requested_qty,
        type=OrderType(order.type),
        time_in_force=TimeInForce(order.time_in_force),
        limit_price=order.limit_price,
        greeks={name: Decimal(value) for name, value in order.greeks.items()},
        permit_id=order.permit_id or None,
        strategy_build=order.strategy_build,
    )


def snapshot_of(order: Order) -> RiskSnapshot:
    """The snapshot that the decision was made from. Raises InvalidInputError when this build cannot read it."""
    found: RiskSnapshot = from_json(RiskSnapshot, order.snapshot)
    return found


@dataclass(frozen=True)
class Replayed:
    """One decision judged again; ``differences`` is gate to (stored, now) where they differ."""

    client_order_id: str
    build_id: str
    build_stamp: str
    stored_allowed: bool
    allowed: bool
    differences: dict[str, tuple[Any, Any]]

    @property
    def made_by(self) -> str:
        """The build that made the stored decision, as people read it: its id and, where it has one, its stamp."""
        return f"build {self.build_id}" + (f", stamp {self.build_stamp}" if self.build_stamp else "")

    @property
    def same(self) -> bool:
        return not self.differences and self.stored_allowed == self.allowed


def replayed(order: Order) -> Replayed:
    """Judge a stored decision again from its stored snapshot."""
    now = evaluate(intent_of(order), snapshot_of(order)).as_dict()
    stored = {check["gate"]: check for check in order.decision["checks"]}
    again = {check["gate"]: check for check in now["checks"]}
    gates = sorted(set(stored) | set(again))
    differences = {gate: (stored.get(gate), again.get(gate)) for gate in gates if stored.get(gate) != again.get(gate)}
    return Replayed(
        client_order_id=order.client_order_id,
        build_id=order.build_id,
        build_stamp=order.build_stamp,
        stored_allowed=order.decision["allowed"],
        allowed=now["allowed"],
        differences=differences,
    )


def judged_in_session(order: Order, moment: datetime) -> Decision:
    """What the gates would have said to a stored order had its account's market session been that of ``moment``."""
    session = market_session(order.account.session_calendar, moment)
    return evaluate(intent_of(order), replace(snapshot_of(order), session=session))


@dataclass
class Report:
    """What other limits would have changed; ``unreadable`` are decisions that another build stored."""

    judged: int = 0
    changes: list[Change] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        allowed = sum(change.would_be_allowed for change in self.changes)
        return {
            "judged": self.judged,
            "would_be_allowed": allowed,
            "would_be_denied": len(self.changes) - allowed,
            "changes": [change.as_dict() for change in self.changes],
            "unreadable": self.unreadable,
        }


def limit_report(proposed: Proposed, since: datetime, until: datetime, account: str | None = None) -> Report:
    """Judge every decided order of the time by ``proposed`` limits."""
    report = Report()
    for order in _decided(since, until, account):
        try:
            snapshot = snapshot_of(order)
        except InvalidInputError:
            report.unreadable.append(order.client_order_id)
            continue
        report.judged += 1
        change = compare(intent_of(order), snapshot, order.decision, proposed)
        if change is not None:
            report.changes.append(change)
    return report


def _decided(since: datetime, until: datetime, account: str | None) -> Iterator[Order]:
    rows = Order.objects.select_related("account", "strategy").filter(created_at__gte=since, created_at__lt=until)
    if account is not None:
        rows = rows.filter(account__code=account)
    return rows.exclude(decision={}).order_by("id").iterator(chunk_size=500)
