"""A permit: a risk officer's word that lets one specific order through three gates, once, for five minutes.

Invariants: it is bound to account, strategy, symbol, side, quantity and price, and to nothing less; it covers price
collar, order size and duplicate intent only; all other gates run as ever (RTS 6 article 15: override of one order).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.risk.snapshot import Check, Permit, RiskSnapshot

COVERS = frozenset({"price_collar", "order_size", "duplicate_intent"})
LASTS = timedelta(minutes=5)


def permit_problem(order: OrderIntent, permit: Permit | None, snapshot: RiskSnapshot) -> str | None:
    """Why the permit does not count for ``order``; None when it does."""
    if permit is None or permit.permit_id != order.permit_id:
        return f"there is no permit {order.permit_id}"
    bound = (permit.account, permit.strategy, permit.symbol, permit.side, permit.qty, permit.limit_price)
    asked = (order.account, order.strategy, order.symbol, order.side.value, order.qty, order.limit_price)
    if bound != asked:
        return f"permit {permit.permit_id} is for another order"
    if permit.used:
        return f"permit {permit.permit_id} was used"
    if snapshot.now >= permit.expires_at:
        return f"permit {permit.permit_id} has expired"
    return None


def with_permit(check: Check, order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    """``check`` as it is, or passed when it failed on a figure and a permit covers it. What is not known stays denied:
    a permit overrides a limit, not ignorance."""
    if check.passed or check.gate not in COVERS or order.permit_id is None:
        return check
    problem = permit_problem(order, snapshot.permit, snapshot)
    if problem is None and check.value is not None and snapshot.permit is not None:
        message = f"{check.message}; allowed by permit {order.permit_id} of {snapshot.permit.by}"
        return replace(check, passed=True, code="permit", message=message, remedy="")
    return check if problem is None else replace(check, message=f"{check.message}; {problem}")
