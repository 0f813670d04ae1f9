"""The gates as a pure function: an order and a frozen snapshot in, a decision that lists every reason out.

Every gate is asked, also after the first failure. A gate that raises denies; a gate without what it needs denies. The
gates live by family in ``gate_*.py``; here is their order, by which people read a decision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.risk import gate_book, gate_greeks, gate_market, gate_mode, gate_order, gate_state
from backend.tradingbot.risk.snapshot import (
    Check,
    Decision,
    OpenBreaker,
    Quote,
    RiskSnapshot,
    reserved_price,
)

__all__ = [
    "GATES",
    "Check",
    "Decision",
    "Gate",
    "OpenBreaker",
    "Quote",
    "RiskSnapshot",
    "evaluate",
    "reserved_price",
]

log = logging.getLogger(__name__)

Gate = Callable[[OrderIntent, RiskSnapshot], Check]
Watch = Callable[[str], None]
_FAMILIES: Mapping[str, Gate] = {
    **gate_state.GATES,
    **gate_mode.GATES,
    **gate_market.GATES,
    **gate_greeks.GATES,
    **gate_order.GATES,
    **gate_book.GATES,
}
_READING_ORDER = (
    "replay_guard",
    "circuit_breaker",
    "trading_state",
    "strategy_mode",
    "build_allowed",
    "data_quality",
    "reconciliation",
    "greek_exposure",
    "order_size",
    "price_collar",
    "position_limit",
    "gross_exposure",
    "net_exposure",
    "concentration",
    "buying_power",
    "order_rate",
    "duplicate_intent",
    "repeated_execution",
    "restricted_symbol",
    "self_match",
    "market_hours",
    "volatility_throttle",
    "in_doubt",
)
GATES: Mapping[str, Gate] = {name: _FAMILIES[name] for name in _READING_ORDER}


def _ask(name: str, gate: Gate, order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    try:
        return gate(order, snapshot)
    except Exception:  # an unknown risk answer denies
        log.exception("gate_raised gate=%s", name)
        return Check(name, False, "gate_error", f"{name} could not answer", "see the log by trace_id; nothing was sent")


def evaluate(
    order: OrderIntent, snapshot: RiskSnapshot, gates: Mapping[str, Gate] = GATES, watch: Watch | None = None
) -> Decision:
    """Ask every gate; allowed only when every one passed, and never when there is none.

    ``watch`` is told after each gate that it has answered, so that whoever has a clock can time them.
    """
    answers = []
    for name, gate in gates.items():
        answers.append(_ask(name, gate, order, snapshot))
        if watch is not None:
            watch(name)
    checks = tuple(answers)
    return Decision(bool(checks) and all(check.passed for check in checks), checks)
