"""Gates on the order itself and on how often such orders come: order_size, price_collar, duplicate_intent,
repeated_execution, order_rate.

Invariants: a market order is priced at the touch plus the collar, never skipped; a sale is valued at the highest price
it may get; a permit overrides a figure, never a missing one; after a breaker's reset the largest order that adds risk
rises slowly back to its limit.
"""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.values import OrderIntent, OrderType, Side, plain
from backend.tradingbot.risk.judging import ASK_RISK, Measured, judged, measured, unused_or_missing
from backend.tradingbot.risk.limits import Limit
from backend.tradingbot.risk.permits import with_permit
from backend.tradingbot.risk.promotion import ramp_share
from backend.tradingbot.risk.snapshot import BPS, Check, Quote, Ramp, RiskSnapshot, notional, reserved_price

SMALLER = "send a smaller order, or ask the risk role for a permit"
RATE_WINDOW = 60


def _flattens(order: OrderIntent, snapshot: RiskSnapshot) -> bool:
    return snapshot.flattening and snapshot.is_reduction(order)


def check_order_size(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "order_size"
    over, ramp = unused_or_missing(gate, snapshot), None if snapshot.is_reduction(order) else _slowest(snapshot)
    if over is not None:
        return over if ramp is None or not over.passed else _nothing_to_share(gate, ramp)
    if _flattens(order, snapshot):
        return Check(gate, True, "flattening", "the flatten service closes the position, whatever its size")
    found: list[Measured] = []
    by_quantity, by_value = (snapshot.limits.tightest(kind) for kind in ("order_qty_max", "order_notional_max"))
    if by_quantity is not None:
        found.append(measured("quantity_too_large", "quantity", order.qty, by_quantity))
    if by_value is not None:
        value = notional(order, snapshot)
        if value is None:
            message = f"the value of this order in {order.symbol} cannot be told"
            return Check(gate, False, "unpriced", message, "wait for a quote, then send a new id")
        found.append(measured("notional_too_large", "value", value, by_value))
    if ramp is None:
        return with_permit(judged(gate, found, SMALLER), order, snapshot)
    if not found:
        return _nothing_to_share(gate, ramp)
    whole_again = rfc3339(ramp.reset_at + timedelta(seconds=float(ramp.seconds)))
    remedy = f"send a smaller order; the whole size is allowed again from {whole_again}"
    check = judged(gate, [*found, *_ramped(found, ramp, snapshot)], remedy, ok="within_ramp")
    return with_permit(check, order, snapshot)


def _nothing_to_share(gate: str, ramp: Ramp) -> Check:
    message = f"{ramp.scope} was reset lately, and the largest order that a share could be of is not set"
    return Check(gate, False, "limit_missing", message, ASK_RISK)


def _share(ramp: Ramp, snapshot: RiskSnapshot) -> Decimal:
    since = Decimal(str(round((snapshot.now - ramp.reset_at).total_seconds(), 6)))
    return ramp_share(since, ramp.seconds, ramp.start_pct / 100)


def _slowest(snapshot: RiskSnapshot) -> Ramp | None:
    """The ramp that leaves least now; None when no breaker that applies was reset lately."""
    running = [ramp for ramp in snapshot.ramps if _share(ramp, snapshot) < 1]
    return min(running, key=lambda ramp: _share(ramp, snapshot), default=None)


def _ramped(found: list[Measured], ramp: Ramp, snapshot: RiskSnapshot) -> list[Measured]:
    """The same figures against the share of their limits that is left so soon after the reset."""
    share = _share(ramp, snapshot)
    says = f"{ramp.scope} was reset at {rfc3339(ramp.reset_at)}, {plain(round(share * 100, 1))} % of the size is left:"
    return [
        each._replace(code="ramp_after_reset", says=f"{says} {each.says}", limit=round(each.limit * share, 9))
        for each in found
    ]


def check_price_collar(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "price_collar"
    over = unused_or_missing(gate, snapshot)
    if over is not None:
        return over
    spared = order.type is OrderType.LIMIT and snapshot.is_reduction(order)
    if spared and not snapshot.has_fresh_quote():
        return Check(gate, True, "reduces_risk", "no fresh quote, but a limit order that only reduces")
    price, quote = reserved_price(order, snapshot), snapshot.quote
    if price is None or quote is None:
        message = f"no price of {order.symbol} to hold the order against"
        return Check(gate, False, "no_reference", message, "wait for a fresh tick, then send a new id")
    found = _collar_measures(order, price, quote, snapshot)
    side = "higher" if order.side is Side.SELL else "lower"
    remedy = f"price it nearer to {plain(quote.price)} ({side}), or ask the risk role for a permit"
    return with_permit(judged(gate, found, remedy), order, snapshot)


def _collar_measures(order: OrderIntent, price: Decimal, quote: Quote, snapshot: RiskSnapshot) -> list[Measured]:
    """Distances in basis points of the reference: towards the other side of the market from last and touch, and away
    from it from last."""
    touch = quote.ask if order.side is Side.BUY else quote.bid
    references = [("last price", quote.price), *([("touch", touch)] if touch is not None else [])]
    towards = snapshot.limits.tightest(f"price_collar_{order.side.value}_bps")
    away = snapshot.limits.tightest("price_collar_away_bps")
    found = []
    for name, reference in references if towards is not None else ():
        found.append(_distance("too_aggressive", f"bps through the {name}", price, reference, order.side.sign, towards))
    if away is not None:
        found.append(
            _distance("too_far_away", "bps away from the last price", price, quote.price, -order.side.sign, away)
        )
    return found


def _distance(code: str, says: str, price: Decimal, reference: Decimal, sign: int, row: Limit | None) -> Measured:
    if row is None or not reference > 0:
        raise ValueError(f"the reference price {reference} is no price")
    return measured(code, says, (price - reference) * sign / reference * BPS, row)


def check_duplicate_intent(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "duplicate_intent"
    over = unused_or_missing(gate, snapshot)
    row, window = (snapshot.limits.tightest(kind) for kind in ("duplicate_orders_max", "duplicate_window_seconds"))
    if over is not None or row is None:
        return over or judged(gate, [], "")
    if _flattens(order, snapshot):
        return Check(gate, True, "flattening", "the slices of a position that is being closed are alike")
    if window is None:
        return Check(gate, False, "limit_missing", "duplicate_window_seconds is not set", "ask the risk role to set it")
    same = Decimal(snapshot.recent.duplicates + 1)
    says = f"equal orders within {plain(window.value)} s"
    remedy = f"wait {plain(window.value)} s and send a new id, or ask the risk role for a permit"
    return with_permit(judged(gate, [measured("duplicate", says, same, row)], remedy), order, snapshot)


def check_repeated_execution(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    """A pattern that came too often stays disabled until a named person enables it again (RTS 6 article 15)."""
    gate = "repeated_execution"
    over = unused_or_missing(gate, snapshot)
    row, window = (snapshot.limits.tightest(kind) for kind in ("repeat_orders_max", "repeat_window_seconds"))
    remedy = "ask the risk role to look, and to enable the pattern again"
    if _flattens(order, snapshot):
        return Check(gate, True, "flattening", "the slices of a position that is being closed are alike")
    if snapshot.recent.disabled_pattern is not None:
        return Check(gate, False, "pattern_disabled", snapshot.recent.disabled_pattern, remedy)
    if over is not None or row is None:
        return over or judged(gate, [], "")
    if window is None:
        return Check(gate, False, "limit_missing", "repeat_window_seconds is not set", "ask the risk role to set it")
    times = Decimal(snapshot.recent.repeats + 1)
    says = f"{order.side.value} {plain(order.qty)} {order.symbol} within {plain(window.value)} s:"
    return judged(gate, [measured("repeats_exceeded", says, times, row)], remedy)


def check_order_rate(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    """New orders in 60 s, this one included. Orders that only reduce have a bucket of their own, counted in the
    database, so that neither a runaway strategy nor a silent store keeps anybody in."""
    gate = "order_rate"
    over = unused_or_missing(gate, snapshot)
    if over is not None:
        return over
    if snapshot.is_reduction(order):
        row = snapshot.limits.tightest("reducing_rate_account_per_min")
        count = Decimal(snapshot.recent.reductions + 1)
        found = [measured("rate_exceeded", "orders that only reduce in 60 s:", count, row)] if row else []
        return judged(gate, found, "wait a minute, then send a new id; cancels are never held back")
    rates = snapshot.rates
    if rates is None:
        message = "how many orders came lately cannot be told: the store does not answer"
        return Check(gate, False, "rate_unknown", message, "retry when the store is back, with a new id")
    found, waits = [], [0]
    for whose in ("key", "strategy", "account"):
        row, seconds = snapshot.limits.tightest(f"order_rate_{whose}_per_min"), getattr(rates, whose)
        if row is not None:
            count = sum(number for _, number in seconds)
            found.append(measured("rate_exceeded", f"orders of this {whose} in 60 s:", Decimal(count), row))
            waits.append(_seconds_to_wait(seconds, row.value, rates.now))
    remedy = f"retry in {max(waits)} s with a new id; cancels are never held back"
    return judged(gate, found, remedy)


def _seconds_to_wait(seconds: tuple[tuple[int, int], ...], limit: Decimal, now: Decimal) -> int:
    """Until one order more fits: the oldest seconds leave the window first. 0 when this one fitted."""
    count = sum(number for _, number in seconds)
    if count <= limit:
        return 0
    for second, number in seconds:
        count -= number
        if count + 1 <= limit:
            return max(1, math.ceil(second + RATE_WINDOW + 1 - now))
    return RATE_WINDOW


GATES = {
    "order_size": check_order_size,
    "price_collar": check_price_collar,
    "order_rate": check_order_rate,
    "duplicate_intent": check_duplicate_intent,
    "repeated_execution": check_repeated_execution,
}
