"""Gates on the book as it would be after the order: position_limit, gross_exposure, net_exposure, concentration,
buying_power.

Invariants: open and in-doubt orders count at their worst, long and short alike; what is not known denies; an order that
only reduces the position passes, because keeping somebody in a position is the greater risk.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from backend.tradingbot.core.occ import multiplier_of
from backend.tradingbot.core.values import OrderIntent, Side, plain
from backend.tradingbot.risk.exposure import NET, BookRisk
from backend.tradingbot.risk.judging import Measured, judged, let_out, measured, unused_or_missing
from backend.tradingbot.risk.limits import SHARED
from backend.tradingbot.risk.shared_headroom import NET_KINDS, part_after, shared_figures, shared_unknown
from backend.tradingbot.risk.snapshot import BPS, Check, RiskSnapshot, dearest_price, reserved_price

SHORT_MARGIN = Decimal("1.5")  # Regulation T, 12 CFR 220.12(c): 150 % of a short sale's value, proceeds included
SMALLER = "make it smaller, cancel an open order or reduce a position"


def _reduces(gate: str) -> Check:
    return Check(gate, True, "reduces_risk", "the order only reduces the position")


def _opening(gate: str, order: OrderIntent, snapshot: RiskSnapshot) -> Check | None:
    """The check that ends the matter before any figure: not used, only reduces, or a limit is missing."""
    over = unused_or_missing(gate, snapshot)
    if over is not None:
        return let_out(over) if snapshot.is_reduction(order) else over
    return _reduces(gate) if snapshot.is_reduction(order) else None


def _unknown(gate: str, snapshot: RiskSnapshot, after: BookRisk | None) -> Check | None:
    """Sums that leave something out are no sums."""
    if after is None:
        message = "the account's exposure is not known"
        return Check(gate, False, "exposure_unknown", message, "ask an administrator to set the account up")
    if snapshot.book.unit is None:
        remedy = "post a tick, or the Greeks of the option, then send a new id"
        return Check(gate, False, "unit_unknown", snapshot.book.unit_problem, remedy)
    if after.unknown:
        message = f"{after.unknown} name(s) in the book have no known risk"
        return Check(gate, False, "exposure_unknown", message, "post ticks and Greeks of all that is held")
    return None


def check_position_limit(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "position_limit"
    over = _opening(gate, order, snapshot)
    if over is not None:
        return over
    if order.side is Side.BUY:
        longest = snapshot.position + snapshot.working_buys + order.qty
        row = snapshot.limits.tightest("position_long_max")
        found = [measured("position_too_long", "long position at worst", longest, row)] if row else []
        return judged(gate, found, SMALLER)
    shortest = order.qty + snapshot.working_sells - snapshot.position
    row = snapshot.limits.tightest("position_short_max")
    if snapshot.limits.at_account("position_short_max") is None or row is None:
        message = f"the position would be {plain(-shortest)} at worst, and {snapshot.limits.account} has no short limit"
        return Check(gate, False, "short_not_allowed", message, "sell what is held, or ask for a position_short_max")
    return judged(gate, [measured("position_too_short", "short position at worst", shortest, row, -shortest)], SMALLER)


def check_gross_exposure(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "gross_exposure"
    over = _opening(gate, order, snapshot)
    if over is not None:
        return over
    after = snapshot.book_after(order)
    unknown = _unknown(gate, snapshot, after)
    if unknown is not None or after is None:
        return unknown or _reduces(gate)
    row = snapshot.limits.tightest(SHARED)
    found = [measured("gross_too_large", "gross exposure at worst", after.gross, row)] if row else []
    for room in snapshot.headroom:
        if room.limit is None:
            continue
        part = part_after(order, snapshot)
        added = part.gross - snapshot.book.strategy_gross
        left_out = room.unknown - (not snapshot.book.strategy_known) + (not part.known)
        if left_out > 0:
            message = f"{left_out} name(s) in {room.scope}, all accounts together, have no known risk"
            return Check(gate, False, "exposure_unknown", message, "post ticks and Greeks of all that is held")
        says, where = "gross exposure at worst, of all accounts,", f"{SHARED} of {room.scope}"
        found.append(Measured("headroom_exhausted", says, room.reserved + added, room.limit, where))
    return judged(gate, found, SMALLER)


def check_net_exposure(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "net_exposure"
    over = _opening(gate, order, snapshot)
    if over is not None:
        return over
    after = snapshot.book_after(order)
    unknown = _unknown(gate, snapshot, after) or shared_unknown(gate, NET_KINDS, order, snapshot)
    if unknown is not None or after is None:
        return unknown or judged(gate, [], "")
    row, long, short = snapshot.limits.tightest("net_exposure_max"), after.high[NET], after.low[NET]
    found = [] if row is None else [
        measured("net_too_long", "net exposure at its longest", long, row),
        measured("net_too_short", "net exposure at its shortest", -short, row, short),
    ]  # fmt: skip
    found += [shared.after for shared in shared_figures(NET_KINDS, order, snapshot)]
    return judged(gate, found, SMALLER)


def check_concentration(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "concentration"
    over = _opening(gate, order, snapshot)
    if over is not None:
        return over
    row, equity = snapshot.limits.tightest("concentration_max_bps"), snapshot.book.equity
    unknown = _unknown(gate, snapshot, snapshot.book_after(order))
    if unknown is not None or row is None:
        return unknown or judged(gate, [], "")
    if equity is None or not equity > 0:
        message = f"the account's equity is {'not known' if equity is None else plain(equity)}"
        return Check(gate, False, "equity_unknown", message, "wait until the account is marked, then send a new id")
    share = snapshot.name_after(order).gross / equity * BPS
    says = f"bps of the equity in {order.symbol}:"
    return judged(gate, [measured("too_concentrated", says, share, row)], SMALLER)


def check_buying_power(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    gate = "buying_power"
    if snapshot.is_reduction(order):
        return _reduces(gate)
    if order.side is Side.SELL and not _may_short(snapshot):
        free = max(snapshot.position - snapshot.working_sells, Decimal(0))
        message = f"{plain(free)} may be sold; selling {plain(order.qty)} would be short"
        remedy = f"sell at most {plain(free)}, or ask the risk role for a short limit"
        return Check(
            gate, False, "short_not_allowed", message, remedy, plain(order.qty), plain(free), plain(free - order.qty)
        )
    unit_cost, short_value = reserved_cash_a_unit(order, snapshot), _short_value(snapshot)
    if snapshot.cash is None or unit_cost is None or short_value is None:
        what = "the account's cash" if snapshot.cash is None else "what this order costs or what shorts tie up"
        return Check(gate, False, "unknown", f"{what} is not known", "wait until it is, then send a new id")
    cost = order.qty * unit_cost
    free = snapshot.cash - snapshot.reserved_cash - SHORT_MARGIN * short_value
    figures: dict[str, Any] = {"value": plain(cost), "limit": plain(free), "headroom": plain(free - cost)}
    if not cost <= free:
        message = f"the order needs {plain(cost)}; {plain(free)} is free"
        return Check(gate, False, "insufficient", message, "make it smaller or cancel an open order", **figures)
    return Check(gate, True, "sufficient", f"{plain(free - cost)} stays free", **figures)


def _may_short(snapshot: RiskSnapshot) -> bool:
    row = snapshot.limits.at_account("position_short_max")
    return row is not None and row.value > 0


def _short_value(snapshot: RiskSnapshot) -> Decimal | None:
    """The value of executed short positions; None when a name that may be short has no known risk."""
    sums = snapshot.book.sums
    return None if sums is None or (sums.unknown and _may_short(snapshot)) else sums.short


def reserved_cash_a_unit(order: OrderIntent, snapshot: RiskSnapshot) -> Decimal | None:
    """The cash that one unit of the order keeps reserved while it is open: for a purchase its price; for a short sale
    what its margin asks beyond its proceeds, spread over all units of the order; 0 for a sale of what is held. None
    when it cannot be told."""
    multiplier = multiplier_of(order.symbol)
    if snapshot.is_reduction(order):
        return Decimal(0) if order.side is Side.SELL else _times(reserved_price(order, snapshot), multiplier)
    if order.side is Side.BUY:
        return _times(reserved_price(order, snapshot), multiplier)
    price, unit = dearest_price(order, snapshot), snapshot.book.unit
    if price is None or unit is None or multiplier is None:
        return None
    held = max(snapshot.position - snapshot.working_sells, Decimal(0))
    margin = (SHORT_MARGIN - 1) * max(price * multiplier, unit.notional)
    return margin * (order.qty - held) / order.qty


def _times(price: Decimal | None, multiplier: Decimal | None) -> Decimal | None:
    return None if price is None or multiplier is None else price * multiplier


GATES = {
    "position_limit": check_position_limit,
    "gross_exposure": check_gross_exposure,
    "net_exposure": check_net_exposure,
    "concentration": check_concentration,
    "buying_power": check_buying_power,
}
