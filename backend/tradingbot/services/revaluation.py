"""Revaluation: every name of an account at today's price and Greeks, and the sums from scratch.

Invariants: prices are read before the lock is taken; what is written is what the positions and open orders say, so a
revaluation also mends whatever the running sums may have missed; a name without a price keeps the unit it last had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import OperationalError, connection

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import NotFoundError, UnavailableError
from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.core.values import plain
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import (
    Account,
    LimitVersion,
    NameExposure,
    Position,
    SharedHeadroom,
    Strategy,
    StrategyExposure,
)
from backend.tradingbot.risk.exposure import (
    BETA,
    NO_PART,
    NameRisk,
    PartRisk,
    UnitRisk,
    attributed,
    book_of,
    name_risk,
    part_risk,
)
from backend.tradingbot.risk.gates import Quote
from backend.tradingbot.risk.snapshot_json import to_json
from backend.tradingbot.risk.unit_risk import Known, Mark, SuppliedGreeks, unit_risk
from backend.tradingbot.selectors.exposure import AccountNow, account_now
from backend.tradingbot.selectors.risk_parts import ALWAYS_FRESH, stored_unit
from backend.tradingbot.services.locks import account_scope, locked_risk

log = structlog.get_logger(__name__)

ADD_SHARED = """
WITH change AS (SELECT scope, gross, low::numeric[] AS low, high::numeric[] AS high, unknown
  FROM unnest(%(scopes)s::text[], %(gross)s::numeric[], %(low)s::text[], %(high)s::text[], %(unknown)s::integer[])
    AS change(scope, gross, low, high, unknown))
INSERT INTO tradingbot_sharedheadroom AS shared (scope, reserved, low, high, unknown)
SELECT scope, greatest(gross, 0), low, high, greatest(unknown, 0) FROM change ORDER BY scope
ON CONFLICT (scope) DO UPDATE SET (reserved, low, high, unknown) = (
  SELECT greatest(shared.reserved + change.gross, 0),
    (SELECT array_agg(a + b ORDER BY place) FROM unnest(shared.low, change.low) WITH ORDINALITY AS sum(a, b, place)),
    (SELECT array_agg(a + b ORDER BY place) FROM unnest(shared.high, change.high) WITH ORDINALITY AS sum(a, b, place)),
    greatest(shared.unknown + change.unknown, 0)
  FROM change WHERE change.scope = shared.scope)"""
BATCH = 500
WORTH_WRITING = Decimal("0.005")  # a share that moved less keeps the unit it had


@dataclass(frozen=True)
class Taken:
    """What is taken of headroom above the account: gross, the measures both ways, and parts that are not known."""

    gross: Decimal
    low: tuple[Decimal, ...]
    high: tuple[Decimal, ...]
    unknown: int

    @classmethod
    def of(cls, part: PartRisk) -> Taken:
        return cls(part.gross, part.low, part.high, int(not part.known))

    def plus(self, other: Taken, sign: int = 1) -> Taken:
        low, high = (
            tuple(a + sign * b for a, b in zip(mine, theirs, strict=True))
            for mine, theirs in ((self.low, other.low), (self.high, other.high))
        )
        return Taken(self.gross + sign * other.gross, low, high, self.unknown + sign * other.unknown)

    def less(self, other: Taken) -> Taken:
        return self.plus(other, -1)


NOTHING_TAKEN = Taken.of(NO_PART)


def part_of(row: StrategyExposure) -> PartRisk:
    return PartRisk(row.gross, tuple(row.low), tuple(row.high), row.known)


@dataclass(frozen=True)
class Prices:
    """The last ticks that a revaluation works with."""

    now: datetime
    quotes: Mapping[str, Quote | None]
    max_age: Decimal
    rate: Decimal

    def mark(self, symbol: str) -> Mark | None:
        quote = self.quotes.get(symbol)
        return None if quote is None else Mark(quote.price, quote.as_of)


def revalue(account: Account, *, clock: Clock) -> None:
    """Bring every name of ``account`` and its sums up to date. Raises NotFoundError, UnavailableError."""
    symbols = set(NameExposure.objects.filter(account=account).values_list("symbol", flat=True))
    symbols |= set(Position.objects.filter(account=account).exclude(qty=0).values_list("symbol", flat=True))
    prices = prices_of(account, symbols, clock.now())
    with locked_risk(account_scope(account.code)):
        revalue_now(account, account_now(account.pk), prices)


def revalue_accounts(accounts: Iterable[Account], *, clock: Clock) -> None:
    """Each; one that fails is logged and keeps its last figures, and the others are still revalued."""
    for account in accounts:
        try:
            revalue(account, clock=clock)
        except (NotFoundError, UnavailableError, OperationalError) as error:
            log.warning("revaluation_failed", account=account.code, problem=str(error))


def prices_of(account: Account, symbols: Iterable[str], now: datetime) -> Prices:
    wanted = set(symbols)
    options = (parse_option(symbol) for symbol in symbols)
    wanted |= {contract.underlying for contract in options if contract is not None}
    newest = LimitVersion.objects.filter(
        scope=account_scope(account.code), kind="greeks_max_age_seconds", state="in_force", effective_from__lte=now
    ).order_by("-version")
    row = newest.first()
    max_age = ALWAYS_FRESH if row is None or row.value is None else row.value
    return Prices(now, hot_state().quotes(wanted), max_age, Decimal(str(settings.TRADINGBOT.risk_free_rate)))


def _unit(row: NameExposure | None, symbol: str, prices: Prices) -> UnitRisk | None:
    raw: dict[str, Any] | None = None if row is None else {"unit": row.unit}
    contract = parse_option(symbol)
    stored = None
    if row is not None and row.supplied_at is not None:
        values = {name: Decimal(value) for name, value in row.supplied.items()}
        stored = SuppliedGreeks(values, row.supplied_at, "feed")
    underlying = None if contract is None else prices.mark(contract.underlying)
    known = Known(symbol, prices.now, prices.mark(symbol), underlying, stored, None, prices.max_age, prices.rate)
    unit, before = unit_risk(known)[0], stored_unit(raw)
    return before if unit is None or (before is not None and _much_the_same(unit, before)) else unit


def _much_the_same(unit: UnitRisk, before: UnitRisk) -> bool:
    """A share whose price hardly moved, at the same beta: not worth a write for every name of a large book."""
    if unit.source != "share" or before.source != "share":
        return False
    same_beta = unit.measures[BETA] * before.notional == before.measures[BETA] * unit.notional
    return same_beta and abs(unit.notional - before.notional) <= WORTH_WRITING * before.notional


def revalue_now(account: Account, found: AccountNow, prices: Prices) -> None:
    """The same under a lock that the caller holds."""
    units = {symbol: _unit(found.names.get(symbol), symbol, prices) for symbol in found.quantities}
    risks = {symbol: name_risk(units[symbol], *quantities) for symbol, quantities in found.quantities.items()}
    _save_names(account, found, units, risks)
    _save_parts(account, found, units)
    book = book_of(risks.values())
    ages = [
        unit.as_of
        for symbol, unit in units.items()
        if unit is not None and parse_option(symbol) is not None and any(found.quantities[symbol])
    ]
    sums = found.sums
    sums.gross, sums.short, sums.low, sums.high = book.gross, book.short, list(book.low), list(book.high)
    sums.unknown, sums.unstressed = book.unknown, book.unstressed
    sums.oldest_greeks, sums.updated_at = min(ages, default=None), prices.now
    sums.save()


def _save_names(
    account: Account, found: AccountNow, units: Mapping[str, UnitRisk | None], risks: Mapping[str, NameRisk]
) -> None:
    rows = []
    for symbol, risk in risks.items():
        row = found.names.get(symbol) or NameExposure(account=account, symbol=symbol)
        unit = to_json(units[symbol])
        after = (risk.gross, risk.short, list(risk.low), list(risk.high), risk.known, risk.stressed, unit)
        before = (row.gross, row.short, row.low, row.high, row.known, row.stressed, row.unit)
        if row.pk is None or before != after:
            row.gross, row.short, row.low, row.high, row.known, row.stressed, row.unit = after
            rows.append(row)
    fields = ["gross", "short", "low", "high", "known", "stressed", "unit"]
    NameExposure.objects.bulk_create(
        rows, BATCH, update_conflicts=True, unique_fields=["account", "symbol"], update_fields=fields
    )


def _save_parts(account: Account, found: AccountNow, units: Mapping[str, UnitRisk | None]) -> None:
    """Each strategy's part, and what changed of the headroom above the account."""
    rows, changes = [], {}
    whose = _attributed(found)
    for (strategy_id, symbol), (_, buys, sells) in found.strategy_quantities.items():
        row = found.parts.get((strategy_id, symbol))
        if row is None:
            row = StrategyExposure(account=account, strategy_id=strategy_id, symbol=symbol)
        position = whose[strategy_id, symbol]
        before, part = part_of(row), part_risk(units.get(symbol), position, buys, sells)
        if row.pk is None or part != before or row.position != position:
            row.position, row.gross, row.known = position, part.gross, part.known
            row.low, row.high = list(part.low), list(part.high)
            rows.append(row)
            changes[strategy_id, symbol] = Taken.of(part).less(Taken.of(before))
    StrategyExposure.objects.bulk_create(
        rows,
        BATCH,
        update_conflicts=True,
        unique_fields=["account", "strategy", "symbol"],
        update_fields=["position", "gross", "low", "high", "known"],
    )
    above = _above(changes)
    if above:
        with connection.cursor() as cursor:
            cursor.execute(ADD_SHARED, _as_columns(above))


def _above(parts: Mapping[tuple[int, str], Taken]) -> dict[str, Taken]:
    """What ``parts``, by strategy and symbol, come to in each scope above the account."""
    codes = dict(Strategy.objects.values_list("pk", "code"))
    above: dict[str, Taken] = {}
    for (strategy_id, symbol), part in parts.items():
        strategy = f"strategy:{codes[strategy_id]}"
        for scope in ("firm", strategy, f"symbol:{symbol}", f"{strategy}/symbol:{symbol}"):
            above[scope] = above.get(scope, NOTHING_TAKEN).plus(part)
    return above


def _as_columns(above: Mapping[str, Taken]) -> dict[str, Any]:
    """For the statement: a column a figure, vectors as PostgreSQL writes arrays."""
    rows = above.values()
    vectors = {side: ["{" + ",".join(map(str, getattr(row, side))) + "}" for row in rows] for side in ("low", "high")}
    counts = {"gross": [row.gross for row in rows], "unknown": [row.unknown for row in rows]}
    return {"scopes": list(above), **vectors, **counts}


def _attributed(found: AccountNow) -> dict[tuple[int, str], Decimal]:
    by_symbol: dict[str, dict[int, Decimal]] = {}
    for (strategy_id, symbol), (position, _, _) in found.strategy_quantities.items():
        by_symbol.setdefault(symbol, {})[strategy_id] = position
    return {
        (strategy_id, symbol): position
        for symbol, parts in by_symbol.items()
        for strategy_id, position in attributed(parts, found.quantities[symbol][0]).items()
    }


def unproven(account: Account) -> list[str]:
    """Where the running sums differ from positions and open orders at the units last known, in words."""
    with locked_risk(account_scope(account.code)):
        found = account_now(account.pk)
    units = {symbol: stored_unit({"unit": row.unit}) for symbol, row in found.names.items()}
    risks = {symbol: name_risk(units.get(symbol), *quantities) for symbol, quantities in found.quantities.items()}
    problems = []
    for symbol, risk in risks.items():
        row = found.names.get(symbol)
        stored = None if row is None else (row.gross, row.short, tuple(row.low), tuple(row.high), row.known)
        if stored != (risk.gross, risk.short, risk.low, risk.high, risk.known):
            problems.append(f"{symbol} should be {plain(risk.gross)}")
    book, sums = book_of(risks.values()), found.sums
    proven = (book.gross, book.short, book.low, book.high, book.unknown)
    if (sums.gross, sums.short, tuple(sums.low), tuple(sums.high), sums.unknown) != proven:
        problems.append(f"the sums are {plain(sums.gross)}, should be {plain(book.gross)}")
    for (strategy, symbol), quantities in found.strategy_quantities.items():
        part, wanted = found.parts.get((strategy, symbol)), part_risk(units.get(symbol), *quantities)
        if part is None or part_of(part) != wanted:
            problems.append(f"a strategy's part in {symbol} should be {plain(wanted.gross)}")
    return problems


def unproven_headroom() -> list[str]:
    """Scopes above the accounts whose taken headroom is not the sum of the strategies' parts."""
    parts: dict[tuple[int, str], Taken] = {}
    for part in StrategyExposure.objects.select_related("strategy"):
        key = (part.strategy.pk, part.symbol)
        parts[key] = parts.get(key, NOTHING_TAKEN).plus(Taken.of(part_of(part)))
    above = {scope: taken for scope, taken in _above(parts).items() if taken != NOTHING_TAKEN}
    rows = {row.scope: Taken(row.reserved, tuple(row.low), tuple(row.high), row.unknown) for row in shared_rows()}
    wrong = sorted(scope for scope in {*above, *rows} if above.get(scope) != rows.get(scope))
    return [f"{scope} has {_told(rows.get(scope))} taken, should be {_told(above.get(scope))}" for scope in wrong]


def shared_rows() -> list[SharedHeadroom]:
    """The rows of headroom of which something is taken."""
    rows = SharedHeadroom.objects.all()
    return [row for row in rows if row.reserved or row.unknown or any(row.low) or any(row.high)]


def _told(taken: Taken | None) -> str:
    if taken is None:
        return "nothing"
    vectors = " ".join(f"{name} {'/'.join(str(plain(v)) for v in getattr(taken, name))}" for name in ("low", "high"))
    return f"{plain(taken.gross)} ({vectors}, {taken.unknown} unknown)"
