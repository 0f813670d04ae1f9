"""Which resting orders a quote fills, at what price and for how much. Pure: no clock, no storage.

Invariants: an order never fills beyond its quantity or through its limit; all fills of one side of one quote add up to
no more than the size shown; market orders go first, then the better limit, then the older order.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """Top of book of one symbol; prices in dollars, sizes in shares, a size of None is unlimited."""

    symbol: str
    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None
    last: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Resting:
    """What matching needs to know of one open order."""

    order_id: str
    sequence: int
    side: str
    leaves: Decimal
    limit_price: Decimal | None


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution to book."""

    order_id: str
    side: str
    qty: Decimal
    price: Decimal


def match(orders: list[Resting], quote: Quote) -> list[Fill]:
    """Return the fills that ``quote`` gives to ``orders`` (all of its symbol), best priority first."""
    return _match_side(orders, "buy", quote.ask, quote.ask_size) + _match_side(
        orders, "sell", quote.bid, quote.bid_size
    )


def _match_side(orders: list[Resting], side: str, price: Decimal | None, size: Decimal | None) -> list[Fill]:
    if price is None or price <= 0:
        return []
    sign = -1 if side == "buy" else 1
    takers = [order for order in orders if order.side == side and _marketable(order, price)]
    takers.sort(key=lambda o: (o.limit_price is not None, sign * (o.limit_price or Decimal(0)), o.sequence))
    fills: list[Fill] = []
    for order in takers:
        qty = order.leaves if size is None else min(order.leaves, size)
        if qty <= 0:
            continue
        fills.append(Fill(order.order_id, side, qty, price))
        if size is not None:
            size -= qty
    return fills


def _marketable(order: Resting, price: Decimal) -> bool:
    if order.limit_price is None:
        return True
    return order.limit_price >= price if order.side == "buy" else order.limit_price <= price
