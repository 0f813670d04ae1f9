"""What the market that really came would have done with an order that was not placed.

Touch-based: a buy fills at the ask, a sell at the bid, never better than its limit and never more than the size shown
there, after a latency. Invariants: a fill is never assumed from a tick that is older than order plus latency; without a
bid, ask or size shown, the trade price and size are used, and where those are unknown nothing fills: a simulation may
only be too pessimistic.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from backend.tradingbot.core.values import OrderType, Side, TimeInForce

ZERO = Decimal(0)


@dataclass(frozen=True)
class ShadowOrder:
    """An order in the shadow book; ``remaining`` is its unfilled unsigned quantity."""

    side: Side
    type: OrderType
    time_in_force: TimeInForce
    remaining: Decimal
    limit_price: Decimal | None
    placed_at: datetime


@dataclass(frozen=True)
class Touch:
    """One tick: the trade and, where known, the best prices and the sizes shown there."""

    at: datetime
    price: Decimal
    size: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None


@dataclass(frozen=True)
class ShadowFill:
    """A simulated execution: unsigned quantity, price a unit, and whether the order's rest is over (ioc)."""

    qty: Decimal
    price: Decimal
    ends_order: bool


def fill_against(order: ShadowOrder, touch: Touch, *, latency: timedelta) -> ShadowFill | None:
    """The fill that ``touch`` gives, or None. An ``ioc`` order ends with the first tick it could have met."""
    if order.remaining <= 0 or touch.at < order.placed_at + latency:
        return None
    price = touch.ask if order.side is Side.BUY else touch.bid
    price = touch.price if price is None else price
    ioc = order.time_in_force is TimeInForce.IOC
    if not _acceptable(order, price) or touch.size is None or touch.size <= 0:
        return ShadowFill(ZERO, price, ends_order=True) if ioc else None
    qty = min(order.remaining, touch.size)
    return ShadowFill(qty, price, ends_order=ioc or qty == order.remaining)


def _acceptable(order: ShadowOrder, price: Decimal) -> bool:
    if not price.is_finite() or price <= 0:
        return False
    if order.type is OrderType.MARKET:
        return True
    if order.limit_price is None:
        return False
    return price <= order.limit_price if order.side is Side.BUY else price >= order.limit_price
