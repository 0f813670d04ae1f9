"""The next order that takes a position towards zero: a slice of limited value, at the touch with a collar.

Invariants: a slice never exceeds the position and is always opposite to it; its limit is on the tick, rounded towards
being executed; without a price there is no slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from backend.tradingbot.core.parsing import CENT, SUB_DOLLAR_TICK
from backend.tradingbot.core.values import Side
from backend.tradingbot.risk.gates import Quote

BASIS_POINTS = Decimal(10_000)


@dataclass(frozen=True)
class Slice:
    side: Side
    qty: Decimal
    limit_price: Decimal


def next_slice(position: Decimal, quote: Quote, *, collar_bps: int, most_value: Decimal, refusals: int) -> Slice | None:
    """A part of ``position`` (signed) worth at most ``most_value``, at least one share. Each of ``refusals`` halves it.

    A sale is limited ``collar_bps`` below the bid, a purchase as much above the ask, and half of that after each
    refusal, because it may have been the price that a gate refused; a side without a quote takes the last price. An old
    quote is no danger: a limit is executed at the market when that is better, and else it rests.
    """
    if position == 0:
        return None
    side = Side.SELL if position > 0 else Side.BUY
    touch = (quote.bid if side is Side.SELL else quote.ask) or quote.price
    limit = _on_tick(touch * (1 + side.sign * Decimal(collar_bps) / 2**refusals / BASIS_POINTS), side)
    if touch <= 0 or limit <= 0:
        return None
    whole = (most_value / touch / 2**refusals).to_integral_value(ROUND_FLOOR)
    return Slice(side, min(abs(position), max(whole, Decimal(1))), limit)


def _on_tick(price: Decimal, side: Side) -> Decimal:
    """The tick below for a sale, above for a purchase (Reg NMS rule 612: a cent from one dollar up)."""
    tick = CENT if price >= 1 else SUB_DOLLAR_TICK
    steps = (price / tick).to_integral_value(ROUND_FLOOR if side is Side.SELL else ROUND_CEILING)
    return steps * tick
