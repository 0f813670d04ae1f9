"""What would have been decided under other limits: recorded orders, their stored snapshots, proposed values.

Invariants: a decision is judged again by the snapshot it was made from, with nothing but the limits exchanged; the book
stays as it was recorded, so orders that a tighter limit would have kept out earlier still count in later ones. Windows
cannot be exchanged, because a snapshot holds the counts of its own windows only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.risk.gates import Decision, evaluate
from backend.tradingbot.risk.limits import KINDS, SHARED, Limit, LimitSet, check_limit, scopes_of
from backend.tradingbot.risk.snapshot import Headroom, RiskSnapshot

Proposed = Mapping[tuple[str, str], Decimal | None]


@dataclass(frozen=True)
class Change:
    """One recorded decision that would have been another one."""

    client_order_id: str
    account: str
    was_allowed: bool
    would_be_allowed: bool
    was_refused_by: tuple[str, ...]
    would_be_refused_by: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def check_proposed(proposed: Proposed) -> None:
    """Raises InvalidInputError for a limit that cannot stand, or that a replay cannot judge."""
    for (scope, kind), value in proposed.items():
        if check_limit(scope, kind, value).higher_is_tighter:
            remedy = "propose another count in the same window"
            raise InvalidInputError([FieldError("kind", kind, "is a window, which cannot be replayed", remedy)])


def under(order: OrderIntent, snapshot: RiskSnapshot, proposed: Proposed) -> RiskSnapshot:
    """``snapshot`` with ``proposed`` in the place of the limits of the same scope and kind; None takes one away."""
    applies = set(scopes_of(order))
    exchanged = {key: value for key, value in proposed.items() if key[0] in applies}
    kept = [row for row in snapshot.limits.rows if (row.scope, row.kind) not in exchanged]
    new = [Limit(scope, kind, value, 0) for (scope, kind), value in exchanged.items() if value is not None]
    limits = LimitSet(snapshot.limits.account, snapshot.limits.required, (*kept, *new))
    return replace(snapshot, limits=limits, headroom=_headroom(snapshot, exchanged))


def _headroom(snapshot: RiskSnapshot, exchanged: Proposed) -> tuple[Headroom, ...]:
    """What was taken above the account is in the snapshot, also where no limit stood."""
    return tuple(replace(room, limit=exchanged.get((room.scope, SHARED), room.limit)) for room in snapshot.headroom)


def compare(
    order: OrderIntent, snapshot: RiskSnapshot, recorded: Mapping[str, Any], proposed: Proposed
) -> Change | None:
    """The change, or None when the decision would have been the same yes or no."""
    decision = evaluate(order, under(order, snapshot, proposed))
    if decision.allowed == recorded["allowed"]:
        return None
    was = tuple(check["gate"] for check in recorded["checks"] if not check["passed"])
    return Change(order.client_order_id, order.account, recorded["allowed"], decision.allowed, was, _refused(decision))


def _refused(decision: Decision) -> tuple[str, ...]:
    return tuple(check.gate for check in decision.checks if not check.passed)


def proposed_from(rows: Iterable[Any]) -> dict[tuple[str, str], Decimal | None]:
    """``[{scope, kind, value}]`` as proposed limits; raises InvalidInputError naming what is wrong."""
    found: dict[tuple[str, str], Decimal | None] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or set(row) != {"scope", "kind", "value"}:
            remedy = 'send [{"scope": ..., "kind": ..., "value": ...}]'
            raise InvalidInputError([FieldError(f"limits[{index}]", row, "must have scope, kind and value", remedy)])
        if not isinstance(row["scope"], str) or row["kind"] not in KINDS:
            remedy = "kinds: " + ", ".join(KINDS)
            raise InvalidInputError([FieldError(f"limits[{index}].kind", row["kind"], "is not a kind", remedy)])
        found[row["scope"], row["kind"]] = _value(row["value"], index)
    check_proposed(found)
    return found


def _value(raw: Any, index: int) -> Decimal | None:
    if raw is None:
        return None
    try:
        return Decimal(raw if isinstance(raw, str) else "")
    except ArithmeticError:
        problem = 'must be a decimal string, for example "1000"'
        raise InvalidInputError([FieldError(f"limits[{index}].value", raw, problem, "null takes it away")]) from None
