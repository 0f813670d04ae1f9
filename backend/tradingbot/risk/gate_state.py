"""Gates on the state of things: replay_guard, circuit_breaker, trading_state, in_doubt, reconciliation.

Invariants: what was not evaluated or cannot be told is treated as open; an order that only reduces the position passes
every one of these but the replay guard; a breaker or a trading state that is missing, and a halt, stop even that.
"""

from __future__ import annotations

from decimal import Decimal

from backend.tradingbot.core.values import OrderIntent, plain
from backend.tradingbot.risk.judging import let_out
from backend.tradingbot.risk.snapshot import Check, RiskSnapshot
from backend.tradingbot.risk.trading_state import Trading, admits, strictest


def check_replay(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    if snapshot.id_used:
        return Check(
            "replay_guard", False, "client_order_id_used", f"{order.client_order_id} was used before", "send a new id"
        )
    return Check("replay_guard", True, "first_use", "this id was never used")


def check_breakers(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "circuit_breaker"
    if snapshot.missing_breakers:
        scopes = ", ".join(snapshot.missing_breakers)
        return Check(gate, False, "breaker_missing", f"no breaker row for {scopes}", "an administrator must create it")
    if not snapshot.open_breakers:
        return _check_evaluation(order, snapshot)
    causes = "; ".join(f"{breaker.scope}: {breaker.reason}" for breaker in snapshot.open_breakers)
    if snapshot.is_reduction(order):
        return Check(gate, True, "reduces_risk", f"open ({causes}), but the order only reduces the position")
    return Check(gate, False, "circuit_open", f"CIRCUIT_OPEN {causes}", "ask the risk role to reset the breaker")


def _check_evaluation(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    """No breaker is open; is that known? A breaker without a recent look at the equity cannot say."""
    gate, limit, value = "circuit_breaker", snapshot.max_evaluated_age, None
    if _too_old(snapshot.evaluated_age, limit):
        value, code, message = snapshot.evaluated_age, "breaker_unevaluated", _last_look("account", snapshot)
        remedy = "see that the worker and beat run"
    elif not snapshot.equity_known:
        code, message = "equity_unknown", "the account's equity is not known"
        remedy = "post a fresh tick of every held symbol, then send a new id"
    elif _too_old(snapshot.firm_evaluated_age, limit):
        value, code, message = snapshot.firm_evaluated_age, "breaker_unevaluated", _last_look("firm", snapshot)
        remedy = "see that the worker and beat run, and that every account can be valued"
    else:
        return Check(gate, True, "closed", "all breakers are closed")
    if snapshot.is_reduction(order):
        return Check(gate, True, "reduces_risk", f"{message}, but the order only reduces the position")
    shown = None if value is None else plain(value)
    return Check(gate, False, code, message, remedy, shown, plain(limit) if value is not None else None)


def _too_old(age: Decimal | None, limit: Decimal) -> bool:
    """Too long ago, or so far in the future that a clock was stepped: neither says anything about now."""
    return age is None or not -limit <= age <= limit


def _last_look(whose: str, snapshot: RiskSnapshot) -> str:
    age = snapshot.firm_evaluated_age if whose == "firm" else snapshot.evaluated_age
    return f"the {whose}'s breaker was last evaluated: " + (
        "never" if age is None else f"{age:.1f} s ago; the limit is {plain(snapshot.max_evaluated_age)} s"
    )


def check_trading_state(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "trading_state"
    if snapshot.missing_states:
        scopes = ", ".join(snapshot.missing_states)
        remedy = "the risk role must set it by PUT trading-state"
        return Check(gate, False, "trading_state_missing", f"no trading state for {scopes}", remedy)
    trading = strictest(snapshot.trading_states)
    if trading is Trading.ACTIVE:
        return Check(gate, True, "active", "trading is active in every scope")
    restricting = [state for state in snapshot.trading_states if state.trading is not Trading.ACTIVE]
    causes = "; ".join(f"{state.scope} is {state.state}: {state.reason}" for state in restricting)
    if admits(trading, reduces=snapshot.is_reduction(order), flattening=snapshot.flattening):
        code = "flattening" if trading is Trading.HALTED else "reduces_risk"
        return Check(gate, True, code, f"{causes}; but the order only reduces the position", value=str(trading))
    remedy = "cancels still pass; the risk role re-activates trading"
    if trading is Trading.REDUCING:
        remedy = f"send an order that only reduces the position; {remedy}"
    return Check(gate, False, str(trading), causes, remedy, value=str(trading))


def check_doubt(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "in_doubt"
    if snapshot.doubtful_orders == 0:
        return Check(gate, True, "none", f"no order in {order.symbol} is in doubt", value="0", limit="0")
    if snapshot.is_reduction(order):
        return Check(gate, True, "reduces_risk", "an order is in doubt, but this one only reduces the position")
    message = f"{snapshot.doubtful_orders} order(s) in {order.symbol} are in doubt"
    remedy = "wait until recovery has found out, then send a new id"
    return Check(gate, False, "symbol_in_doubt", message, remedy, value=str(snapshot.doubtful_orders), limit="0")


def check_reconciliation(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "reconciliation"
    if not snapshot.blocks:
        return Check(gate, True, "none", "nothing of an earlier day blocks this account", value="0", limit="0")
    why = "; ".join(f"{block.scope}: {block.reason}" for block in snapshot.blocks)
    remedy = "the risk role must resolve the breaks first"
    check = Check(gate, False, "reconciliation_block", why, remedy, value=str(len(snapshot.blocks)), limit="0")
    return let_out(check) if snapshot.is_reduction(order) else check


GATES = {
    "replay_guard": check_replay,
    "circuit_breaker": check_breakers,
    "trading_state": check_trading_state,
    "in_doubt": check_doubt,
    "reconciliation": check_reconciliation,
}
