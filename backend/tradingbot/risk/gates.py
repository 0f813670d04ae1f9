"""The gates as a pure function: an order and a frozen snapshot in, a decision that lists every reason out.

Every gate is asked, also after the first failure. A gate that raises denies; a gate without what it needs denies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.values import OrderIntent, OrderType, Side, plain
from backend.tradingbot.risk.trading_state import ScopeState, Trading, admits, strictest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quote:
    """The last tick of a symbol. ``as_of`` is the earlier of exchange time and receipt time."""

    price: Decimal
    as_of: datetime
    bid: Decimal | None = None
    ask: Decimal | None = None


@dataclass(frozen=True)
class OpenBreaker:
    scope: str
    reason: str


@dataclass(frozen=True)
class RiskSnapshot:
    """All that the gates may know, read under the account's lock. None means "no answer", which denies.

    ``position`` is signed executed quantity; ``working_sells`` and ``working_buys`` are the unfilled quantities of
    orders that work or are in doubt, in this symbol. ``evaluated_age`` and ``firm_evaluated_age`` are the seconds since
    those breakers were last evaluated, None when they never were. ``flattening`` says that the flatten service placed
    the order.
    """

    now: datetime
    id_used: bool
    missing_breakers: tuple[str, ...]
    open_breakers: tuple[OpenBreaker, ...]
    missing_states: tuple[str, ...]
    trading_states: tuple[ScopeState, ...]
    flattening: bool
    quote: Quote | None
    market_data_error: str | None
    max_tick_age: Decimal
    symbols: frozenset[str]
    cash: Decimal | None
    reserved_cash: Decimal
    position: Decimal
    working_buys: Decimal
    working_sells: Decimal
    doubtful_orders: int
    market_collar_bps: int
    equity_known: bool
    evaluated_age: Decimal | None
    firm_evaluated_age: Decimal | None
    max_evaluated_age: Decimal

    def is_reduction(self, order: OrderIntent) -> bool:
        """Opposite to the executed position and within it, less what already works or is in doubt on that side."""
        if order.side is Side.SELL:
            return order.qty <= self.position - self.working_sells
        return order.qty <= -self.position - self.working_buys


@dataclass(frozen=True)
class Check:
    """One gate's answer. Figures are plain decimal strings or None."""

    gate: str
    passed: bool
    code: str
    message: str
    remedy: str = ""
    value: str | None = None
    limit: str | None = None
    headroom: str | None = None

    def as_dict(self) -> dict[str, Any]:
        names = ("gate", "passed", "value", "limit", "headroom", "code", "message", "remedy")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Decision:
    allowed: bool
    checks: tuple[Check, ...] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        return {"allowed": self.allowed, "checks": [check.as_dict() for check in self.checks]}


def reserved_price(order: OrderIntent, snapshot: RiskSnapshot) -> Decimal | None:
    """The price at which one unit is reserved: the limit, or the touch plus the collar; None when not known."""
    if order.limit_price is not None:
        return order.limit_price
    if snapshot.quote is None:
        return None
    touch = snapshot.quote.ask if order.side is Side.BUY else snapshot.quote.bid
    collar = Decimal(snapshot.market_collar_bps) / 10_000 * order.side.sign
    return (touch or snapshot.quote.price) * (1 + collar)


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
    return age is None or age > limit


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


def check_data(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "data_quality"
    limit = plain(snapshot.max_tick_age)
    spared = order.type is OrderType.LIMIT and snapshot.is_reduction(order)
    passed_anyway = Check(
        gate, True, "reduces_risk", "no fresh quote, but a limit order that only reduces", limit=limit
    )
    if snapshot.market_data_error is not None:
        denied = Check(
            gate, False, "market_data_unavailable", snapshot.market_data_error, "retry when market data is back"
        )
        return passed_anyway if spared else denied
    if snapshot.quote is None:
        remedy = f"post a tick for {order.symbol} to market-data/ticks first"
        denied = Check(gate, False, "never_seen", f"no tick of {order.symbol} was ever seen", remedy, limit=limit)
        return passed_anyway if spared else denied
    age = Decimal(str(round((snapshot.now - snapshot.quote.as_of).total_seconds(), 6)))
    figures: dict[str, Any] = {"value": plain(age), "limit": limit, "headroom": plain(snapshot.max_tick_age - age)}
    if age > snapshot.max_tick_age:
        message = f"the last tick of {order.symbol} is {age:.1f} s old; the limit is {limit} s"
        denied = Check(gate, False, "stale", message, "wait for a fresh tick, then send a new id", **figures)
        return passed_anyway if spared else denied
    return Check(gate, True, "fresh", f"the last tick is {max(age, Decimal(0)):.1f} s old", **figures)


def check_symbol(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "restricted_symbol"
    if order.symbol in snapshot.symbols:
        return Check(gate, True, "allowed", f"{order.symbol} is in the account's profile")
    allowed = ", ".join(sorted(snapshot.symbols)) or "none"
    return Check(gate, False, "symbol_not_allowed", f"{order.symbol} is not in the profile", f"allowed: {allowed}")


def check_doubt(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "in_doubt"
    if snapshot.doubtful_orders == 0:
        return Check(gate, True, "none", f"no order in {order.symbol} is in doubt", value="0", limit="0")
    if snapshot.is_reduction(order):
        return Check(gate, True, "reduces_risk", "an order is in doubt, but this one only reduces the position")
    message = f"{snapshot.doubtful_orders} order(s) in {order.symbol} are in doubt"
    remedy = "wait until recovery has found out, then send a new id"
    return Check(gate, False, "symbol_in_doubt", message, remedy, value=str(snapshot.doubtful_orders), limit="0")


def check_buying_power(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "buying_power"
    if snapshot.is_reduction(order):
        return Check(gate, True, "reduces_risk", "the order only reduces the position")
    if order.side is Side.SELL:
        free = max(snapshot.position - snapshot.working_sells, Decimal(0))
        message = f"{plain(free)} may be sold; selling {plain(order.qty)} would be short"
        remedy = f"sell at most {plain(free)}, or ask the risk role for a short limit"
        return Check(
            gate, False, "short_not_allowed", message, remedy, plain(order.qty), plain(free), plain(free - order.qty)
        )
    price = reserved_price(order, snapshot)
    if snapshot.cash is None or price is None:
        what = "the account's cash" if snapshot.cash is None else "a price for this market order"
        return Check(gate, False, "unknown", f"{what} is not known", "wait until it is, then send a new id")
    cost, free = order.qty * price, snapshot.cash - snapshot.reserved_cash
    figures: dict[str, Any] = {"value": plain(cost), "limit": plain(free), "headroom": plain(free - cost)}
    if cost > free:
        message = f"the order needs {plain(cost)}; {plain(free)} is free"
        return Check(gate, False, "insufficient", message, "make it smaller or cancel an open order", **figures)
    return Check(gate, True, "sufficient", f"{plain(free - cost)} stays free", **figures)


Gate = Callable[[OrderIntent, RiskSnapshot], Check]
GATES: Mapping[str, Gate] = {
    "replay_guard": check_replay,
    "circuit_breaker": check_breakers,
    "trading_state": check_trading_state,
    "data_quality": check_data,
    "restricted_symbol": check_symbol,
    "in_doubt": check_doubt,
    "buying_power": check_buying_power,
}


def _ask(name: str, gate: Gate, order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    try:
        return gate(order, snapshot)
    except Exception:  # an unknown risk answer denies
        log.exception("gate_raised gate=%s", name)
        return Check(name, False, "gate_error", f"{name} could not answer", "see the log by trace_id; nothing was sent")


def evaluate(order: OrderIntent, snapshot: RiskSnapshot, gates: Mapping[str, Gate] = GATES) -> Decision:
    """Ask every gate; allowed only when every one passed, and never when there is none."""
    checks = tuple(_ask(name, gate, order, snapshot) for name, gate in gates.items())
    return Decision(bool(checks) and all(check.passed for check in checks), checks)
