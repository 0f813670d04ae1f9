"""Gates on the market: data_quality (``gate_data``), market_hours, volatility_throttle, self_match, restricted_symbol.

Invariants: without a fresh quote only a limit order that reduces may go; a session that cannot be told is closed; the
volatility index is read with the quote and never fetched while an order waits.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.values import OrderIntent, OrderType, Side, TimeInForce, plain
from backend.tradingbot.risk.gate_data import check_data
from backend.tradingbot.risk.judging import Measured, judged, let_out, measured, unused_or_missing
from backend.tradingbot.risk.limits import Limit
from backend.tradingbot.risk.snapshot import Check, RiskSnapshot, notional, reserved_price
from backend.tradingbot.risk.volatility import Level, Volatility

ROUND_THE_CLOCK = "24/7"


def check_symbol(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "restricted_symbol"
    if order.symbol in snapshot.symbols:
        return Check(gate, True, "allowed", f"{order.symbol} is in the account's profile")
    allowed = ", ".join(sorted(snapshot.symbols)) or "none"
    return Check(gate, False, "symbol_not_allowed", f"{order.symbol} is not in the profile", f"allowed: {allowed}")


def check_self_match(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    """Would it meet an open order of the same account? A market order meets anything that could be at the touch."""
    gate, resting = "self_match", snapshot.resting
    buying = order.side is Side.BUY
    unpriced = resting.unpriced_sells if buying else resting.unpriced_buys
    own = resting.lowest_sell if buying else resting.highest_buy
    remedy = "cancel the resting order first, or price this one so that the two cannot meet"
    if unpriced:
        message = f"{unpriced} open market order(s) of this account stand on the other side of {order.symbol}"
        return Check(gate, False, "would_match_own_order", message, remedy)
    if own is None:
        return Check(gate, True, "nothing_opposite", f"no open order on the other side of {order.symbol}")
    price = reserved_price(order, snapshot)
    if price is None or not price.is_finite():
        message = f"an order of this account rests at {plain(own)}, and the price of this one is not known"
        return Check(gate, False, "would_match_own_order", message, remedy)
    gap = (own - price) * order.side.sign
    figures: dict[str, Any] = {"value": plain(price), "limit": plain(own), "headroom": plain(gap)}
    if gap <= 0:
        message = f"it would meet this account's own order at {plain(own)}"
        return Check(gate, False, "would_match_own_order", message, remedy, **figures)
    return Check(gate, True, "no_cross", f"the account's own nearest order is at {plain(own)}", **figures)


def check_market_hours(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate, session = "market_hours", snapshot.session
    if session is None:
        message = "the account's calendar has no answer"
        return Check(gate, False, "session_unknown", message, "ask an administrator to look at the calendar")
    if session.calendar == ROUND_THE_CLOCK:
        return Check(gate, True, "not_required", "the account trades round the clock")
    if session.is_open:
        early = ", an early close" if session.early_close else ""
        return Check(gate, True, "open", f"{session.calendar} is open until {rfc3339(session.closes_at)}{early}")
    opens = rfc3339(session.opens_at)
    remedy = f"send a new id after {opens}" if opens else "wait for the next session"
    row = snapshot.limits.tightest("pre_open_minutes")
    if row is None or session.opens_at is None:
        return Check(gate, False, "market_closed", f"{session.calendar} is closed until {opens}", remedy)
    waits = Decimal(str((session.opens_at - snapshot.now) / timedelta(minutes=1)))
    may_wait = order.type is OrderType.LIMIT and order.time_in_force is not TimeInForce.IOC
    check = judged(gate, [measured("market_closed", "minutes until the open:", waits, row)], remedy, ok="pre_open")
    if check.passed and not may_wait:
        message = (
            f"{session.calendar} is closed until {opens}; only limit orders that may wait are taken before the open"
        )
        return Check(gate, False, "market_closed", message, remedy)
    return check


def check_volatility(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    """The largest order that adds risk shrinks with the level of the volatility index."""
    gate, seen = "volatility_throttle", snapshot.volatility
    over = unused_or_missing(gate, snapshot)
    reduces = snapshot.is_reduction(order)
    if over is not None:
        return let_out(over) if reduces else over
    if reduces:
        return Check(gate, True, "reduces_risk", "the order only reduces the position")
    remedy = "wait for a reading of the index, then send a new id"
    row = snapshot.limits.tightest("volatility_max_age_seconds")
    if seen is None or row is None:
        message = "the volatility index was never seen" if seen is None else "volatility_max_age_seconds is not set"
        return Check(gate, False, "volatility_unknown", message, remedy)
    age = Decimal(str(round((snapshot.now - seen.as_of).total_seconds(), 6)))
    fresh = judged(
        gate, [measured("volatility_stale", "seconds since the volatility index was seen:", age, row)], remedy
    )
    if not fresh.passed:
        return fresh
    if seen.level is Level.CALM:
        return Check(gate, True, "calm", f"the volatility index is at {plain(seen.value)}")
    if seen.level is Level.CRITICAL:
        message = f"the volatility index is at {plain(seen.value)}: critical"
        return Check(gate, False, "volatility_critical", message, "only orders that reduce may go")
    return _throttled(gate, order, snapshot, seen)


def _throttled(gate: str, order: OrderIntent, snapshot: RiskSnapshot, seen: Volatility) -> Check:
    limits = snapshot.limits
    share = limits.tightest(f"volatility_{seen.level.value}_pct")
    sizes = [(kind, limits.tightest(kind)) for kind in ("order_qty_max", "order_notional_max")]
    if share is None or all(row is None for _, row in sizes):
        message = f"volatility is {seen.level.value}, and how much of which order size is left is not set"
        return Check(gate, False, "limit_missing", message, "ask the risk role to set it")
    found: list[Measured] = []
    for kind, row in sizes:
        value = order.qty if kind == "order_qty_max" else notional(order, snapshot)
        if row is not None and value is None:
            message = f"the value of this order in {order.symbol} cannot be told"
            return Check(gate, False, "unpriced", message, "wait for a quote, then send a new id")
        if row is not None and value is not None:
            left = Limit(row.scope, row.kind, row.value * min(share.value, Decimal(100)) / 100, row.version)
            says = f"volatility is {seen.level.value} ({plain(seen.value)}), {plain(share.value)} % of {kind} is left:"
            found.append(measured("throttled", says, value, left))
    return judged(gate, found, "send a smaller order, or wait until the market is calmer", ok="within_throttle")


GATES = {
    "data_quality": check_data,
    "restricted_symbol": check_symbol,
    "self_match": check_self_match,
    "market_hours": check_market_hours,
    "volatility_throttle": check_volatility,
}
