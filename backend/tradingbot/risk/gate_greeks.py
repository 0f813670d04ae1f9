"""The greek_exposure gate: delta, gamma, theta, vega, beta-weighted exposure and the stress grid, for the book and for
the name, on the book as it would be after the order with everything that is open or in doubt in it.

Invariants: every limit but theta's binds both directions; missing or old Greeks deny; a reduction passes exactly when
no breached measure gets worse, because taking off a hedge is a reduction too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.core.values import OrderIntent, plain
from backend.tradingbot.risk.exposure import (
    BETA,
    DELTA,
    GAMMA,
    THETA,
    VEGA,
    BookRisk,
    NameRisk,
    worst_stress,
)
from backend.tradingbot.risk.judging import Measured, judged, let_out, measured, unused_or_missing
from backend.tradingbot.risk.shared_headroom import GREEK_KINDS, greeks_unknown_above, shared_figures
from backend.tradingbot.risk.snapshot import Check, RiskSnapshot

GATE = "greek_exposure"
TWO_SIDED = (
    ("delta", "delta", DELTA),
    ("gamma", "gamma", GAMMA),
    ("vega", "vega", VEGA),
    ("beta", "beta_exposure", BETA),
)
REMEDY = "make it smaller, hedge it, or ask the risk role for another limit"


@dataclass(frozen=True)
class _Sides:
    low: Sequence[Decimal]
    high: Sequence[Decimal]


def check_greek_exposure(order: OrderIntent, snapshot: RiskSnapshot) -> Check:
    over = unused_or_missing(GATE, snapshot)
    reduces = snapshot.is_reduction(order)
    if over is not None:
        return let_out(over) if reduces else over
    unknown = _unknown(order, snapshot)
    if unknown is not None:
        return let_out(unknown) if reduces else unknown
    sums, after = snapshot.book.sums, snapshot.book_after(order)
    if sums is None or after is None:
        raise ValueError("the account's sums are not known")
    found = list(_measures(order, snapshot, snapshot.name_after(order), after))
    above = greeks_unknown_above(GATE, order, snapshot)
    if above is not None and not reduces:
        return above
    shared = shared_figures(GREEK_KINDS, order, snapshot) if binds_above(order, snapshot) else []
    check = judged(GATE, [*found, *(each.after for each in shared)], REMEDY)
    if check.passed or not reduces:
        return check
    before = list(_measures(order, snapshot, snapshot.book.name, sums))
    worse = [new for new, old in zip(found, before, strict=True) if new.fails and new.value > old.value]
    worse += [each.after for each in shared if each.after.fails and each.worsens]
    return judged(GATE, worse, "reduce what breaches first") if worse else let_out(check)


def binds_above(order: OrderIntent, snapshot: RiskSnapshot) -> bool:
    """Whether Greeks above the account are held against ``order``. Against the flatten service they are not, and not
    against what only reduces where something is not known: other accounts must not keep anybody in a position."""
    if not snapshot.is_reduction(order):
        return True
    let_out_unseen = unused_or_missing(GATE, snapshot) or _unknown(order, snapshot)
    return not (snapshot.flattening or let_out_unseen or greeks_unknown_above(GATE, order, snapshot))


def _unknown(order: OrderIntent, snapshot: RiskSnapshot) -> Check | None:
    book, after = snapshot.book, snapshot.book_after(order)
    remedy = "send the Greeks with the order, or post them to accounts/{code}/greeks"
    if after is None:
        message = "the account's exposure is not known"
        return Check(GATE, False, "exposure_unknown", message, "ask an administrator to set the account up")
    if book.unit is None:
        code = "greeks_missing" if parse_option(order.symbol) else "unit_unknown"
        return Check(GATE, False, code, book.unit_problem, remedy if parse_option(order.symbol) else "post a tick")
    if after.unknown:
        message = f"{after.unknown} name(s) in the book have no known Greeks"
        return Check(GATE, False, "greeks_missing", message, remedy)
    if snapshot.limits.tightest("stress_loss_max") is not None and after.unstressed:
        message = f"{after.unstressed} name(s) have no known volatility, so the stress grid cannot be told"
        return Check(GATE, False, "iv_missing", message, remedy)
    row = snapshot.limits.tightest("greeks_max_age_seconds")
    if row is not None and book.oldest_greeks is not None:
        age = Decimal(str(round((snapshot.now - book.oldest_greeks).total_seconds(), 6)))
        old = judged(GATE, [measured("greeks_stale", "seconds since the oldest Greeks in the book:", age, row)], remedy)
        return None if old.passed else old
    return None


def _measures(order: OrderIntent, snapshot: RiskSnapshot, name: NameRisk, book: BookRisk) -> Iterator[Measured]:
    """Every limited measure in a fixed order, so that before and after can be laid side by side."""
    limits = snapshot.limits
    for scope, whose, risk in (
        ("portfolio", "portfolio", _Sides(book.low, book.high)),
        ("name", order.symbol, _Sides(name.low, name.high)),
    ):
        for says, kind, index in TWO_SIDED:
            row = limits.tightest(f"{scope}_{kind}_max")
            if row is not None:
                low, high = risk.low[index], risk.high[index]
                yield measured(f"{scope}_{says}_long", f"{whose} {says} at its highest", high, row)
                yield measured(f"{scope}_{says}_short", f"{whose} {says} at its lowest", -low, row, low)
        row = limits.tightest(f"{scope}_theta_loss_max")
        if row is not None:
            decay = risk.low[THETA]
            yield measured(f"{scope}_theta", f"{whose} theta a day", -decay, row, decay)
    row = limits.tightest("stress_loss_max")
    if row is not None:
        loss, cell = worst_stress(book.low)
        yield measured("stress_loss", f"loss in the cell {cell}:", loss, row)


def utilisation(snapshot: RiskSnapshot, order: OrderIntent, book: BookRisk) -> dict[str, dict[str, str | None]]:
    """How much of each portfolio limit ``book`` uses, for people."""
    rows = _measures(order, snapshot, snapshot.book.name, book)
    return {
        each.code: {"value": plain(each.value), "limit": plain(each.limit), "used": plain(round(each.used, 4))}
        for each in rows
        if not each.code.startswith("name_")
    }


GATES = {GATE: check_greek_exposure}
