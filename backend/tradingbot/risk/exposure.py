"""Exposure as running sums: what one unit of a name risks, what a name risks at its worst, and what a book does.

Open orders may fill or not, so a name is a range of quantities: from position less open sales to position plus open
purchases. Every linear measure of it (net, the Greeks, each cell of the stress grid) is then a range, and a book is the
sum of its names' ranges. Replacing one name changes the sums by the difference, at the same cost for any book.

Invariants: Decimals to nine places, so that sums never drift; a name whose unit is not known makes the book's sums
unknown instead of smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from backend.tradingbot.risk.stress import CELLS

NET, DELTA, GAMMA, THETA, VEGA, BETA, STRESS = range(7)
MEASURES = ("net", "delta", "gamma", "theta", "vega", "beta", *(cell.name for cell in CELLS))
NINE_PLACES = Decimal("1e-9")
ZERO = Decimal(0)
NOTHING = (ZERO,) * len(MEASURES)


def exact(value: Decimal) -> Decimal:
    """To nine places. Raises for what is not finite or has more digits than can be kept, which denies."""
    return value.quantize(NINE_PLACES)


@dataclass(frozen=True)
class UnitRisk:
    """What a position of +1 (a share, a contract) risks, multiplier included.

    ``notional`` is the gross value: price for a share, the underlying's value for an option. ``measures`` stand in the
    order of ``MEASURES``: net and beta in money, delta in shares, theta in money a calendar day, vega in money a
    volatility point, and the profit of each stress cell, None when the stress cannot be told.
    """

    notional: Decimal
    measures: tuple[Decimal, ...]
    stressed: bool
    source: str
    as_of: datetime


@dataclass(frozen=True)
class NameRisk:
    """One name at its worst. ``short`` is the value of an executed short position; ``stressed`` says whether the stress
    cells are known."""

    gross: Decimal
    short: Decimal
    low: tuple[Decimal, ...]
    high: tuple[Decimal, ...]
    known: bool = True
    stressed: bool = True


@dataclass(frozen=True)
class BookRisk:
    """An account's sums over its names. ``unknown`` and ``unstressed`` count the names that the sums leave out."""

    gross: Decimal
    short: Decimal
    low: tuple[Decimal, ...]
    high: tuple[Decimal, ...]
    unknown: int
    unstressed: int

    def replaced(self, old: NameRisk, new: NameRisk) -> BookRisk:
        """The sums with ``new`` in the place of ``old``."""
        return BookRisk(
            gross=self.gross - old.gross + new.gross,
            short=self.short - old.short + new.short,
            low=tuple([s - o + n for s, o, n in zip(self.low, old.low, new.low, strict=True)]),
            high=tuple([s - o + n for s, o, n in zip(self.high, old.high, new.high, strict=True)]),
            unknown=self.unknown - (not old.known) + (not new.known),
            unstressed=self.unstressed - (not old.stressed) + (not new.stressed),
        )


EMPTY_NAME = NameRisk(ZERO, ZERO, NOTHING, NOTHING)
EMPTY_BOOK = BookRisk(ZERO, ZERO, NOTHING, NOTHING, 0, 0)
UNKNOWN_NAME = NameRisk(ZERO, ZERO, NOTHING, NOTHING, known=False, stressed=False)


def gross_of(unit: UnitRisk | None, position: Decimal, buys: Decimal, sells: Decimal) -> Decimal:
    """``name_risk(...).gross`` alone."""
    if unit is None:
        return ZERO
    return exact(max(abs(position - sells), abs(position + buys)) * unit.notional)


def _ends(
    measures: Sequence[Decimal], least: Decimal, most: Decimal
) -> tuple[tuple[Decimal, ...], tuple[Decimal, ...]]:
    """Each measure at its lowest and at its highest. One product serves both where the quantity cannot vary; raises for
    a measure or a quantity that is no number."""
    if least == most:
        only = tuple([(least * measure).quantize(NINE_PLACES) for measure in measures])
        if not all(map(Decimal.is_finite, only)):
            raise ValueError("a measure of one unit is no number")
        return only, only
    ones = [(least * measure).quantize(NINE_PLACES) for measure in measures]
    others = [(most * measure).quantize(NINE_PLACES) for measure in measures]
    return tuple(map(min, ones, others)), tuple(map(max, ones, others))


def name_risk(unit: UnitRisk | None, position: Decimal, buys: Decimal, sells: Decimal) -> NameRisk:
    """The risk of ``position`` (signed) with ``buys`` and ``sells`` still open or in doubt, each of which may fill or
    not. Without a unit it is unknown, unless there is nothing."""
    least, most = position - sells, position + buys
    if least == most == 0:
        return EMPTY_NAME
    if unit is None:
        return UNKNOWN_NAME
    low, high = _ends(unit.measures, least, most)
    return NameRisk(
        gross=exact(max(abs(least), abs(most)) * unit.notional),
        short=exact(max(-position, ZERO) * unit.notional),
        low=low,
        high=high,
        stressed=unit.stressed,
    )


@dataclass(frozen=True)
class PartRisk:
    """One strategy's part in a name, at its worst: what it takes of headroom above the account. ``low`` and ``high``
    hold the measures before the stress cells."""

    gross: Decimal
    low: tuple[Decimal, ...]
    high: tuple[Decimal, ...]
    known: bool


NO_PART = PartRisk(ZERO, NOTHING[:STRESS], NOTHING[:STRESS], known=True)


def part_risk(unit: UnitRisk | None, position: Decimal, buys: Decimal, sells: Decimal) -> PartRisk:
    """``name_risk`` without the stress cells, for a strategy's own quantities."""
    least, most = position - sells, position + buys
    if least == most == 0:
        return NO_PART
    if unit is None:
        return replace(NO_PART, known=False)
    low, high = _ends(unit.measures[:STRESS], least, most)
    return PartRisk(gross_of(unit, position, buys, sells), low, high, known=True)


def book_of(names: Iterable[NameRisk]) -> BookRisk:
    """The sums from scratch: for proving and mending the running ones, never on the way of an order."""
    book = EMPTY_BOOK
    for name in names:
        book = book.replaced(EMPTY_NAME, name)
    return book


def attributed(parts: dict[int, Decimal], position: Decimal) -> dict[int, Decimal]:
    """Whose the account's ``position`` in a name is, by strategy, from what each has executed.

    What one sold of another's is set off, the largest first, because the broker knows one position only: a position
    that the flatten service closed takes no headroom any more. What no strategy executed (a corporate action) goes to
    the largest part.
    """
    found = dict(parts)
    longs = sorted((key for key in found if found[key] > 0), key=lambda key: -found[key])
    shorts = sorted((key for key in found if found[key] < 0), key=lambda key: found[key])
    setting_off = min(sum((found[key] for key in longs), ZERO), -sum((found[key] for key in shorts), ZERO))
    for keys, sign in ((longs, 1), (shorts, -1)):
        left = setting_off
        for key in keys:
            taken = min(left, abs(found[key]))
            found[key] -= sign * taken
            left -= taken
    rest = position - sum(found.values(), ZERO)
    if found and rest:
        found[max(found, key=lambda key: abs(parts[key]))] += rest
    return found


def worst_stress(low: Sequence[Decimal]) -> tuple[Decimal, str]:
    """The greatest loss over the stress cells, as a number at or above zero, and the cell's name."""
    cells = low[STRESS:]
    worst = min(cells)
    return max(-worst, ZERO), MEASURES[STRESS + cells.index(worst)]
