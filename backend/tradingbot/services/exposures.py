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
from backend.tradingbot.risk.exposure import (
    EMPTY_BOOK,
    STRESS,
    THETA,
    BookRisk,
    NameRisk,
    PartRisk,
    UnitRisk,
    name_risk,
    part_risk,
)
from backend.tradingbot.risk.gate_greeks import binds_above
from backend.tradingbot.risk.shared_headroom import part_after, taken_within
from backend.tradingbot.risk.snapshot import RiskSnapshot
from backend.tradingbot.risk.snapshot_json import to_json
from backend.tradingbot.risk.unit_risk import Known, Mark, unit_risk
from backend.tradingbot.selectors.exposure import name_now
from backend.tradingbot.selectors.risk_parts import shared_scopes
from backend.tradingbot.selectors.risk_sections import ROOM


def _moved(side: str, sign: str) -> str:
    """SQL for a row's vector with the taken one added or subtracted, measure by measure."""
    return f"""(SELECT array_agg(had {sign} moves ORDER BY place)
      FROM unnest(shared.{side}, %(taken_{side})s::numeric[]) WITH ORDINALITY AS sum(had, moves, place))"""


WRITE = f"""
WITH room AS (
  SELECT scope, room, low::numeric[] AS low, high::numeric[] AS high, strict, number
  FROM unnest(%(scopes)s::text[], %(rooms)s::numeric[], %(most_low)s::text[], %(most_high)s::text[],
    %(strict)s::boolean[]) WITH ORDINALITY AS room(scope, room, low, high, strict, number)),
taken AS (
  INSERT INTO tradingbot_sharedheadroom AS shared (scope, reserved, low, high, unknown)
  SELECT scope, greatest(%(taken)s, 0), %(taken_low)s::numeric[], %(taken_high)s::numeric[],
    greatest(%(taken_unknown)s, 0)
  FROM room WHERE (%(taken)s <= 0 OR room IS NULL OR %(taken)s <= room)
    AND NOT (strict AND %(taken_unknown)s > 0)
    AND NOT EXISTS (SELECT 1 FROM unnest(%(taken_low)s::numeric[], %(taken_high)s::numeric[], room.low, room.high)
      AS part(low, high, most_low, most_high)
      WHERE part.low < 0 AND -part.low > most_low OR part.high > 0 AND part.high > most_high)
  ORDER BY number
  ON CONFLICT (scope) DO UPDATE SET reserved = greatest(shared.reserved + %(taken)s, 0),
    low = {_moved("low", "+")}, high = {_moved("high", "+")}, unknown = greatest(shared.unknown + %(taken_unknown)s, 0)
  WHERE EXISTS (SELECT 1 FROM room WHERE room.scope = shared.scope
    AND (%(taken)s <= 0 OR room.room IS NULL OR shared.reserved + %(taken)s <= room.room)
    AND NOT (strict AND shared.unknown + %(taken_unknown)s > 0)
    AND NOT EXISTS (SELECT 1 FROM unnest(shared.low, shared.high, %(taken_low)s::numeric[],
        %(taken_high)s::numeric[], room.low, room.high) AS part(low, high, taken_low, taken_high, most_low, most_high)
      WHERE taken_low < 0 AND -(part.low + taken_low) > most_low
        OR taken_high > 0 AND part.high + taken_high > most_high))
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
    %(known)s, %(stressed)s, %(unit)s::jsonb, '{{}}', '' FROM enough WHERE yes
  ON CONFLICT (account_id, symbol) DO UPDATE SET gross = excluded.gross, short = excluded.short, low = excluded.low,
    high = excluded.high, known = excluded.known, stressed = excluded.stressed, unit = excluded.unit),
part AS (
  INSERT INTO tradingbot_strategyexposure (account_id, strategy_id, symbol, position, gross, low, high, known)
  SELECT %(account)s, %(strategy)s, %(symbol)s, %(part_position)s, %(part_gross)s, %(part_low)s::numeric[],
    %(part_high)s::numeric[], %(part_known)s FROM enough WHERE yes
  ON CONFLICT (account_id, strategy_id, symbol) DO UPDATE SET position = excluded.position, gross = excluded.gross,
    low = excluded.low, high = excluded.high, known = excluded.known)
SELECT coalesce(array_agg(scope), '{{}}') FROM taken"""
ENDED_TOGETHER: ContextVar[dict[tuple[int, int, str], Order] | None] = ContextVar("ended_together", default=None)
GIVE_BACK = f"""
UPDATE tradingbot_sharedheadroom AS shared SET reserved = reserved - %(taken)s, unknown = unknown - %(taken_unknown)s,
  low = {_moved("low", "-")}, high = {_moved("high", "-")} WHERE scope = ANY(%(gave)s)"""
LOCK = f"SELECT scope, {ROOM}::text FROM tradingbot_sharedheadroom WHERE scope = ANY(%s) ORDER BY scope FOR UPDATE"


def reserve(order: Order, intent: OrderIntent, snapshot: RiskSnapshot) -> bool:
    """Take what the order may risk at its worst. False when the headroom above the account does not suffice; then
    nothing is taken."""
    after = snapshot.book_after(intent)
    if after is None:
        raise RuntimeError(f"{intent.account} has no exposure row, and its order was let through")
    book, scopes = snapshot.book, shared_scopes(intent)
    before = PartRisk(book.strategy_gross, book.strategy_low, book.strategy_high, book.strategy_known)
    wish: dict[str, Any] = {
        "scopes": scopes,
        **_conditions(intent, snapshot, scopes),
        **_change(before, part_after(intent, snapshot)),
        "account": order.account.pk,
        "strategy": order.strategy.pk,
        "symbol": intent.symbol,
        "now": snapshot.now,
        "part_position": book.strategy_position,
    }
    gave = _write(wish, after, snapshot.name_after(intent), book.unit)
    if len(gave) == len(scopes):
        return True
    with connection.cursor() as cursor:
        cursor.execute(GIVE_BACK, {**wish, "gave": gave})
    return False


def _conditions(intent: OrderIntent, snapshot: RiskSnapshot, scopes: Sequence[str]) -> dict[str, Any]:
    """Under which each scope gives: its gross limit, the most of each measure either way, and whether a part whose risk
    is not known forbids it."""
    rooms = {room.scope: room.limit for room in snapshot.headroom}
    most, reduces = taken_within(intent, snapshot, greeks=binds_above(intent, snapshot)), snapshot.is_reduction(intent)
    limited = [rooms.get(scope) is not None or scope in most for scope in scopes]
    return {
        "rooms": [rooms.get(scope) for scope in scopes],
        "most_low": [_literal(most.get(scope, {})) for scope in scopes],
        "most_high": [_literal({**most.get(scope, {}), THETA: None}) for scope in scopes],
        "strict": [has_limit and not reduces for has_limit in limited],
    }


def _literal(most: Mapping[int, Decimal | None]) -> str:
    """A PostgreSQL array of one limit a measure, NULL where there is none."""
    limits = (most.get(index) for index in range(STRESS))
    return "{" + ",".join("NULL" if limit is None else str(limit) for limit in limits) + "}"


def _change(before: PartRisk, after: PartRisk) -> dict[str, Any]:
    """The strategy's part as it becomes, and what that takes of the headroom above the account."""
    return {
        "taken": after.gross - before.gross,
        "taken_low": [new - old for new, old in zip(after.low, before.low, strict=True)],
        "taken_high": [new - old for new, old in zip(after.high, before.high, strict=True)],
        "taken_unknown": before.known - after.known,
        "part_gross": after.gross,
        "part_low": list(after.low),
        "part_high": list(after.high),
        "part_known": after.known,
    }


def locked_headroom(intent: OrderIntent) -> Mapping[str, Mapping[str, Any]]:
    """What is taken above the account, by scope, with those rows locked in the order of their scopes."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [shared_scopes(intent)])
        return {scope: json.loads(room) for scope, room in cursor.fetchall()}


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
    scopes = sorted(_scopes_above(order))
    nothing = [None] * len(scopes)
    wish: dict[str, Any] = {
        "scopes": scopes,
        "rooms": nothing,
        "most_low": nothing,
        "most_high": nothing,
        "strict": [False] * len(scopes),
        **_change(found.part, part_risk(unit, position + executed, buys, sells)),
        "account": order.account.pk,
        "strategy": order.strategy.pk,
        "symbol": order.symbol,
        "now": now,
        "part_position": position + executed,
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
