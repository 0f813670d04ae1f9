"""Headroom above the account for net exposure and Greeks: what all accounts together may run in a scope (the firm, a
strategy, a symbol, a symbol within a strategy).

What an order takes of it is what it adds to its strategy's part in the name, at its worst both ways. Gross headroom is
``gate_book``'s; the rows themselves are taken by one conditional statement in ``services.exposures``.

Invariants: at the limit passes, beyond it fails, both ways; a scope in which any part's risk is not known has no
headroom that anybody could tell, which denies; Greeks older than allowed in any account deny as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from backend.tradingbot.core.values import OrderIntent, Side
from backend.tradingbot.risk.exposure import BETA, DELTA, GAMMA, NET, STRESS, THETA, VEGA, PartRisk, part_risk
from backend.tradingbot.risk.judging import Measured, judged, measured
from backend.tradingbot.risk.limits import Limit
from backend.tradingbot.risk.snapshot import Check, Headroom, RiskSnapshot

CODE = "headroom_exhausted"
NET_KINDS: Mapping[str, tuple[str, int]] = {"net_exposure_max": ("net exposure", NET)}
GREEK_KINDS: Mapping[str, tuple[str, int]] = {
    "portfolio_delta_max": ("delta", DELTA),
    "portfolio_gamma_max": ("gamma", GAMMA),
    "portfolio_theta_loss_max": ("theta", THETA),
    "portfolio_vega_max": ("vega", VEGA),
    "portfolio_beta_exposure_max": ("beta-weighted exposure", BETA),
}
KINDS = {**NET_KINDS, **GREEK_KINDS}


@dataclass(frozen=True)
class Shared:
    """One figure of one scope with the order in it, and its size before."""

    after: Measured
    before: Decimal

    @property
    def worsens(self) -> bool:
        return self.after.value > self.before


def part_after(order: OrderIntent, snapshot: RiskSnapshot) -> PartRisk:
    """The strategy's part in the name with ``order`` among its open ones. Several gates ask for the same order, so the
    last answer is kept with the snapshot; it is no field of it."""
    kept: tuple[OrderIntent, PartRisk] | None = snapshot.__dict__.get("_part")
    if kept is None or kept[0] is not order:
        book = snapshot.book
        buys = book.strategy_buys + (order.qty if order.side is Side.BUY else 0)
        sells = book.strategy_sells + (order.qty if order.side is Side.SELL else 0)
        kept = (order, part_risk(book.unit, book.strategy_position, buys, sells))
        snapshot.__dict__["_part"] = kept
    return kept[1]


def shared_unknown(gate: str, kinds: Mapping[str, object], order: OrderIntent, snapshot: RiskSnapshot) -> Check | None:
    """Why nobody can tell how much is taken in a scope that has one of these limits; None when it can be told."""
    rows = snapshot.limits.above_account(kinds)
    if not rows:
        return None
    rooms, taken = {room.scope: room for room in snapshot.headroom}, part_after(order, snapshot)
    if any(not _is_told(rooms.get(row.scope), snapshot) for row in rows):
        message = "what all accounts together take above the account is not known"
        return Check(gate, False, "headroom_unknown", message, "wait until the accounts are revalued, send a new id")
    for row in rows:
        unknown = rooms[row.scope].unknown - (not snapshot.book.strategy_known) + (not taken.known)
        if unknown > 0:
            message = f"{unknown} name(s) in {row.scope}, all accounts together, have no known risk"
            remedy = "post ticks and Greeks of all that is held, in every account"
            return Check(gate, False, "exposure_unknown", message, remedy)
    return None


def _is_told(room: Headroom | None, snapshot: RiskSnapshot) -> bool:
    vectors = (snapshot.book.strategy_low, snapshot.book.strategy_high)
    return room is not None and all(len(each) == STRESS for each in (room.low, room.high, *vectors))


def greeks_unknown_above(gate: str, order: OrderIntent, snapshot: RiskSnapshot) -> Check | None:
    """Why the Greeks above the account cannot be told, or are too old in some account; None when they can."""
    if not snapshot.limits.above_account(GREEK_KINDS):
        return None
    row = snapshot.limits.tightest("greeks_max_age_seconds")
    ages = [room.oldest_greeks for room in snapshot.headroom if room.oldest_greeks is not None]
    if row is not None and ages:
        age = Decimal(str(round((snapshot.now - min(ages)).total_seconds(), 6)))
        old = measured("greeks_stale", "seconds since the oldest Greeks in any account:", age, row)
        if old.fails:
            return judged(gate, [old], "post fresh Greeks of every option that is held, in every account")
    return shared_unknown(gate, GREEK_KINDS, order, snapshot)


def shared_figures(kinds: Mapping[str, tuple[str, int]], order: OrderIntent, snapshot: RiskSnapshot) -> list[Shared]:
    """Every limited figure above the account; call it when ``shared_unknown`` says that they can be told."""
    rows = snapshot.limits.above_account(kinds)
    if not rows:
        return []
    rooms, taken, found = {room.scope: room for room in snapshot.headroom}, part_after(order, snapshot), []
    for row in rows:
        says, index = kinds[row.kind]
        room, book = rooms[row.scope], snapshot.book
        if index != THETA:
            high = room.high[index]
            after = high + taken.high[index] - book.strategy_high[index]
            found.append(_shared(f"{says} at its highest", after, high, row, 1))
        low = room.low[index]
        after = low + taken.low[index] - book.strategy_low[index]
        found.append(_shared(f"{says} at its lowest", after, low, row, -1))
    return found


def _shared(says: str, after: Decimal, before: Decimal, row: Limit, sign: int) -> Shared:
    size = Measured(CODE, f"{says}, of all accounts,", after * sign, row.value, row.shown, after)
    return Shared(size, before * sign)


def taken_within(order: OrderIntent, snapshot: RiskSnapshot, *, greeks: bool) -> dict[str, dict[int, Decimal]]:
    """By scope and measure, the limits that the order must keep when it takes its headroom. What only reduces keeps no
    net exposure, and Greeks only where they bind it (``greeks``, from the gate)."""
    kinds = GREEK_KINDS if snapshot.is_reduction(order) else KINDS
    found: dict[str, dict[int, Decimal]] = {}
    for row in snapshot.limits.above_account(kinds if greeks else NET_KINDS):
        if row.kind in kinds:
            found.setdefault(row.scope, {})[kinds[row.kind][1]] = row.value
    return found
