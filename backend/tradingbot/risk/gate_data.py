"""The gate on market data: no order on a price that is missing, old, from the future, crossed, or that a check stopped.

Invariants: every reason is named, not only the first; only a limit order that reduces may go without a good price; what
was seen (the tick, its age, each stop with its evidence, each feed's silence) is in the snapshot that is stored with
the decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.values import OrderIntent, OrderType, plain
from backend.tradingbot.risk.snapshot import Check, FeedSeen, RiskSnapshot

CLOCK_SKEW_SECONDS = Decimal(2)
WAIT = "wait for a fresh tick, then send a new id"


def check_data(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "data_quality"
    figures = _figures(snapshot)
    found = list(_problems(order, snapshot))
    if not found:
        age = max(_age(snapshot) or Decimal(0), Decimal(0))
        return Check(gate, True, "fresh", f"the last tick is {age:.1f} s old", **figures)
    message = "; ".join(said for _, said, _ in found)
    if order.type is OrderType.LIMIT and snapshot.is_reduction(order):
        message = f"{message}, but this limit order only reduces the position"
        return Check(gate, True, "reduces_risk", message, **figures)
    code, _, remedy = found[0]
    return Check(gate, False, code, message, remedy, **figures)


def _problems(order: OrderIntent, snapshot: RiskSnapshot) -> Iterator[tuple[str, str, str]]:
    """(code, message, remedy) of everything that is wrong, the weightiest first."""
    if snapshot.market_data_error is not None:
        yield "market_data_unavailable", snapshot.market_data_error, "retry when market data is back"
    yield from _stops(snapshot)
    quote, age = snapshot.quote, _age(snapshot)
    if snapshot.market_data_error is not None:
        return
    if quote is None or age is None:
        remedy = f"post a tick for {order.symbol} to market-data/ticks first"
        yield "never_seen", f"no tick of {order.symbol} was ever seen", remedy
        return
    if age > snapshot.max_tick_age:
        limit, silent = plain(snapshot.max_tick_age), _silence(snapshot)
        yield "stale", f"the last tick of {order.symbol} is {age:.1f} s old; the limit is {limit} s{silent}", WAIT
    if age < -CLOCK_SKEW_SECONDS:
        message = f"the last tick of {order.symbol} is {-age:.1f} s in the future"
        yield "future_tick", message, "compare the clocks of the servers that take ticks and orders"
    if quote.bid is not None and quote.ask is not None and quote.ask < quote.bid:
        message = f"the last quote of {order.symbol} is crossed: {plain(quote.bid)} / {plain(quote.ask)}"
        yield "crossed_quote", message, WAIT


def _stops(snapshot: RiskSnapshot) -> Iterator[tuple[str, str, str]]:
    remedy = "see GET data-quality for what releases it, then send a new id"
    for stop in snapshot.data_stops:
        yield "data_stopped", f"{stop.symbol} is stopped by {stop.check} since {rfc3339(stop.since)}", remedy
    quote = snapshot.quote
    if quote is not None and quote.stopped_by is not None:
        known = {stop.check for stop in snapshot.data_stops}
        if quote.stopped_by not in known:
            yield "data_stopped", f"the ticks since {rfc3339(quote.as_of)} were refused by {quote.stopped_by}", remedy


def _silence(snapshot: RiskSnapshot) -> str:
    """When the whole feed is silent it is the feed, and not the stock."""
    silent = [feed for feed in snapshot.feeds if _is_silent(feed, snapshot)]
    if not silent or len(silent) < len(snapshot.feeds):
        return ""
    names = ", ".join(feed.code for feed in silent)
    return f"; all symbols of its feed are silent ({names})"


def _is_silent(feed: FeedSeen, snapshot: RiskSnapshot) -> bool:
    last = feed.last_seen_at
    return last is None or (snapshot.now - last).total_seconds() > feed.max_silence_seconds


def _age(snapshot: RiskSnapshot) -> Decimal | None:
    if snapshot.quote is None:
        return None
    return Decimal(str(round((snapshot.now - snapshot.quote.as_of).total_seconds(), 6)))


def _figures(snapshot: RiskSnapshot) -> dict[str, Any]:
    age, limit = _age(snapshot), snapshot.max_tick_age
    figures: dict[str, Any] = {"limit": plain(limit)}
    return figures if age is None else {"value": plain(age), **figures, "headroom": plain(limit - age)}
