"""Exposure follows what happens: an order takes its part, an end or an execution changes it, never by a scan.

Invariants: the caller holds the account's risk row; an account's sums, its name, its strategy's part and the headroom
above the account change by one statement or not at all; the shared rows are taken in the order of their scopes; an
order that finds too little headroom takes none. What ends or fills gives back unconditionally.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.models import Order
from backend.tradingbot.risk.exposure import EMPTY_BOOK, BookRisk, NameRisk, UnitRisk, name_risk
from backend.tradingbot.risk.gate_book import headroom_taken
from backend.tradingbot.risk.snapshot import RiskSnapshot
from backend.tradingbot.risk.snapshot_json import to_json
from backend.tradingbot.risk.unit_risk import Known, Mark, unit_risk
from backend.tradingbot.selectors.exposure import name_now
from backend.tradingbot.selectors.risk_parts import shared_scopes

WRITE = """
WITH room AS (
  SELECT * FROM unnest(%(scopes)s::text[], %(rooms)s::numeric[]) WITH ORDINALITY AS room(scope, room, number)),
taken AS (
  INSERT INTO tradingbot_sharedheadroom AS shared (scope, reserved)
  SELECT scope, greatest(%(taken)s, 0) FROM room WHERE %(taken)s <= 0 OR room IS NULL OR %(taken)s <= room
  ORDER BY number
  ON CONFLICT (scope) DO UPDATE SET reserved = greatest(shared.reserved + %(taken)s, 0)
  WHERE %(taken)s <= 0 OR coalesce(shared.reserved + %(taken)s <= (
    SELECT room.room FROM room WHERE room.scope = shared.scope), true)
  RETURNING scope),
enough AS (SELECT count(*) = cardinality(%(scopes)s::text[]) AS yes FROM taken),
sums AS (
  INSERT INTO tradingbot_accountexposure AS sums
    (account_id, gross, short, low, high, unknown, unstressed, oldest_greeks, updated_at)
  SELECT %(account)s, %(gross)s, %(short)s, %(low)s::numeric[], %(high)s::numeric[], %(unknown)s, %(unstressed)s,
    %(greeks_as_of)s::timestamptz, %(now)s FROM enough WHERE yes
  ON CONFLICT (account_id) DO UPDATE SET gross = excluded.gross, short = excluded.short, low = excluded.low,
    high = excluded.high, unknown = excluded.unknown, unstressed = excluded.unstressed,
    oldest_greeks = least(sums.oldest_greeks, excluded.oldest_greeks), updated_at = excluded.updated_at),
name AS (
  INSERT INTO tradingbot_nameexposure
    (account_id, symbol, gross, short, low, high, known, stressed, unit, supplied, supplied_by)
  SELECT %(account)s, %(symbol)s, %(name_gross)s, %(name_short)s, %(name_low)s::numeric[], %(name_high)s::numeric[],
    %(known)s, %(stressed)s, %(unit)s::jsonb, '{}', '' FROM enough WHERE yes
  ON CONFLICT (account_id, symbol) DO UPDATE SET gross = excluded.gross, short = excluded.short, low = excluded.low,
    high = excluded.high, known = excluded.known, stressed = excluded.stressed, unit = excluded.unit),
part AS (
  INSERT INTO tradingbot_strategyexposure (account_id, strategy_id, symbol, position, gross)
  SELECT %(account)s, %(strategy)s, %(symbol)s, %(part_position)s, %(part_gross)s FROM enough WHERE yes
  ON CONFLICT (account_id, strategy_id, symbol) DO UPDATE SET position = excluded.position, gross = excluded.gross)
SELECT coalesce(array_agg(scope), '{}') FROM taken"""
ENDED_TOGETHER: ContextVar[dict[tuple[int, int, str], Order] | None] = ContextVar("ended_together", default=None)
GIVE_BACK = "UPDATE tradingbot_sharedheadroom SET reserved = reserved - %s WHERE scope = ANY(%s)"
LOCK = """
SELECT scope, reserved::text FROM tradingbot_sharedheadroom WHERE scope = ANY(%s) ORDER BY scope FOR UPDATE"""


def reserve(order: Order, intent: OrderIntent, snapshot: RiskSnapshot) -> bool:
    """Take what the order may risk at its worst. False when the headroom above the account does not suffice; then
    nothing is taken."""
    after = snapshot.book_after(intent)
    if after is None:
        raise RuntimeError(f"{intent.account} has no exposure row, and its order was let through")
    added = headroom_taken(intent, snapshot)
    scopes = shared_scopes(intent)
    rooms = {room.scope: room.limit for room in snapshot.headroom}
    wish: dict[str, Any] = {
        "scopes": scopes,
        "rooms": [rooms.get(scope) for scope in scopes],
        "taken": added,
        "account": order.account.pk,
        "strategy": order.strategy.pk,
        "symbol": intent.symbol,
        "now": snapshot.now,
        "part_position": snapshot.book.strategy_position,
        "part_gross": snapshot.book.strategy_gross + added,
    }
    taken = _write(wish, after, snapshot.name_after(intent), snapshot.book.unit)
    if len(taken) == len(scopes):
        return True
    with connection.cursor() as cursor:
        cursor.execute(GIVE_BACK, [added, taken])
    return False


def locked_headroom(intent: OrderIntent) -> Mapping[str, str]:
    """What is taken above the account, by scope, with those rows locked in the order of their scopes."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [shared_scopes(intent)])
        return dict(cursor.fetchall())


@contextmanager
def once_a_name(*, now: datetime) -> Iterator[None]:
    """Many orders end in one transaction: each name is brought up to date once, at the end of the block. The rows that
    are shared with other accounts are then held for a moment only."""
    ended: dict[tuple[int, int, str], Order] = {}
    token = ENDED_TOGETHER.set(ended)
    try:
        yield
    finally:
        ENDED_TOGETHER.reset(token)
    for _, order in sorted(ended.items()):
        follow(order, now=now)


def follow(order: Order, *, now: datetime, executed: Decimal = Decimal(0), price: Decimal | None = None) -> None:
    """Bring a name up to date after ``order`` ended or was executed by ``executed`` (signed) at ``price``; position and
    order are saved already."""
    together = ENDED_TOGETHER.get()
    if together is not None and not executed:
        together[order.account.pk, order.strategy.pk, order.symbol] = order
        return
    found = name_now(order.account.pk, order.strategy.pk, order.symbol, now)
    unit = found.unit or unit_by_fill(order.symbol, price, now)
    name = name_risk(unit, *found.quantities)
    position, buys, sells = found.strategy_quantities
    part_gross = name_risk(unit, position + executed, buys, sells).gross
    scopes = sorted(_scopes_above(order))
    wish: dict[str, Any] = {
        "scopes": scopes,
        "rooms": [None] * len(scopes),
        "taken": part_gross - found.strategy_gross,
        "account": order.account.pk,
        "strategy": order.strategy.pk,
        "symbol": order.symbol,
        "now": now,
        "part_position": position + executed,
        "part_gross": part_gross,
    }
    before = EMPTY_BOOK if found.sums is None else found.sums
    _write(wish, before.replaced(found.name, name), name, unit)


def _scopes_above(order: Order) -> Sequence[str]:
    strategy = f"strategy:{order.strategy.code}"
    return "firm", strategy, f"symbol:{order.symbol}", f"{strategy}/symbol:{order.symbol}"


def unit_by_fill(symbol: str, price: Decimal | None, now: datetime) -> UnitRisk | None:
    """A share that nobody had valued yet is worth what was paid for it; an option without Greeks stays unknown."""
    if price is None or parse_option(symbol) is not None:
        return None
    mark = Mark(price, now)
    known = Known(symbol, now, mark, None, None, None, max_age=Decimal(0), rate=Decimal(0))
    return unit_risk(known)[0]


def _write(wish: dict[str, Any], sums: BookRisk, name: NameRisk, unit: UnitRisk | None) -> list[str]:
    """One statement; which of the scopes gave what was asked."""
    option = parse_option(wish["symbol"]) is not None
    figures: dict[str, Any] = {
        "gross": sums.gross,
        "short": sums.short,
        "low": list(sums.low),
        "high": list(sums.high),
        "unknown": sums.unknown,
        "unstressed": sums.unstressed,
        "greeks_as_of": unit.as_of if unit is not None and option else None,
        "name_gross": name.gross,
        "name_short": name.short,
        "name_low": list(name.low),
        "name_high": list(name.high),
        "known": name.known,
        "stressed": name.stressed,
        "unit": None if unit is None else json.dumps(to_json(unit)),
    }
    with connection.cursor() as cursor:
        cursor.execute(WRITE, {**wish, **figures})
        return list(cursor.fetchone()[0])
