"""Gates on who sends: strategy_mode (is it known how far this strategy is trusted?) and build_allowed.

Invariants: a strategy whose mode is not known trades nothing; a build that was withdrawn trades nothing, whatever the
settings; where only known builds may trade, an order that names none is refused. What only reduces is let out only when
the mode is known, since else nobody could say what is really placed.
"""

from __future__ import annotations

from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.risk.snapshot import Check, RiskSnapshot


def check_mode(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate, mode = "strategy_mode", snapshot.strategy_mode
    if mode.mode is None:
        message = f"no mode is on file for {order.strategy}" + _build(mode.build_id)
        return Check(gate, False, "mode_unknown", message, "register the strategy's build first", value=None)
    if snapshot.flattening:
        return Check(gate, True, "flattening", "the flatten service places what it closes", value="live")
    if mode.cap_reached:
        message = f"the canary's daily cap on {mode.cap_reached} is reached: new risk is simulated"
        return Check(gate, True, "cap_reached", message, value=mode.mode)
    if mode.reducing:
        message = f"{mode.mode}, after a demotion: only reductions are placed until the strategy is flat"
        return Check(gate, True, "reducing", message, value=mode.mode)
    meaning = {
        "shadow": "new risk is simulated, reductions are placed",
        "canary": "a share of new risk is placed, the rest is simulated",
        "live": "orders are placed",
    }
    return Check(gate, True, mode.mode, meaning[mode.mode], value=mode.mode)


def check_build(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate, mode = "build_allowed", snapshot.strategy_mode
    if mode.withdrawn:
        return Check(
            gate,
            False,
            "build_withdrawn",
            f"the build {mode.build_id or 'without a name'} of {order.strategy} was withdrawn",
            "deploy another build and register it",
            value=mode.build_id,
        )
    if not mode.known_builds_only:
        code = "known" if mode.build_id and mode.mode else "not_required"
        return Check(gate, True, code, "the setting does not ask for a registered build", value=mode.build_id or None)
    if not mode.build_id or mode.mode is None:
        message = "only registered builds may trade, and this order names " + (mode.build_id or "none")
        remedy = "register the build, and send its id in the header X-Strategy-Build"
        return Check(gate, False, "build_unknown", message, remedy, value=mode.build_id or None)
    return Check(gate, True, "known", f"{order.strategy}@{mode.build_id} is registered", value=mode.build_id)


def _build(build_id: str) -> str:
    return f"@{build_id}" if build_id else ""


GATES = {"strategy_mode": check_mode, "build_allowed": check_build}
