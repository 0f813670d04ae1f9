"""Reads of exposure: one name as it stands, for following what happens to it; a whole account, for revaluing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from backend.tradingbot.models import AccountExposure, NameExposure, Position, StrategyExposure
from backend.tradingbot.risk.exposure import BookRisk, NameRisk, PartRisk, UnitRisk
from backend.tradingbot.selectors.risk_parts import book_risk, name_risk_of, part_risk_of, stored_unit
from backend.tradingbot.selectors.risk_sections import COUNTED, EXPOSURE

Quantities = tuple[Decimal, Decimal, Decimal]  # position, open purchases, open sales


@dataclass(frozen=True)
class NameNow:
    """One name of an account as the database has it inside the caller's transaction."""

    sums: BookRisk | None
    name: NameRisk
    unit: UnitRisk | None
    quantities: Quantities
    part: PartRisk
    strategy_quantities: Quantities


def name_now(account_id: int, strategy_id: int, symbol: str, now: datetime) -> NameNow:
    """By one statement. The caller holds the account's risk row."""
    about: dict[str, Any] = {
        "account": account_id,
        "strategy": strategy_id,
        "symbol": symbol,
        "client_order_id": "",
        "now": now,
    }
    columns = ", ".join(f"({sql}) AS {name}" for name, sql in EXPOSURE.items())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns}", about)
        found = [None if text is None else json.loads(text) for text in cursor.fetchone()]
    said: Mapping[str, Any] = dict(zip(EXPOSURE, found, strict=True))
    working, part = said["working"], said["strategy_part"]
    return NameNow(
        sums=book_risk(said["sums"]),
        name=name_risk_of(said["name"]),
        unit=stored_unit(said["name"]),
        quantities=(Decimal(said["position"] or 0), Decimal(working["buys"]), Decimal(working["sells"])),
        part=part_risk_of(part),
        strategy_quantities=(
            Decimal(part["position"] if part else 0),
            Decimal(working["strategy_buys"]),
            Decimal(working["strategy_sells"]),
        ),
    )


@dataclass(frozen=True)
class AccountNow:
    """Everything an account's exposure is made of: quantities by symbol and by (strategy, symbol), and the rows."""

    sums: AccountExposure
    quantities: Mapping[str, Quantities]
    strategy_quantities: Mapping[tuple[int, str], Quantities]
    names: Mapping[str, NameExposure]
    parts: Mapping[tuple[int, str], StrategyExposure]


WORKING = f"""
    SELECT symbol, strategy_id, coalesce(sum(qty - filled_qty) FILTER (WHERE side = 'buy'), 0),
      coalesce(sum(qty - filled_qty) FILTER (WHERE side = 'sell'), 0)
    FROM tradingbot_order WHERE account_id = %s AND {COUNTED} GROUP BY symbol, strategy_id"""


def account_now(account_id: int) -> AccountNow:
    """Five statements, whatever the size. The caller holds the account's risk row when it means to write."""
    zero = Decimal(0)
    held = dict(Position.objects.filter(account=account_id).exclude(qty=0).values_list("symbol", "qty"))
    names = {row.symbol: row for row in NameExposure.objects.filter(account=account_id)}
    parts = {
        (row.strategy.pk, row.symbol): row
        for row in StrategyExposure.objects.select_related("strategy").filter(account=account_id)
    }
    with connection.cursor() as cursor:
        cursor.execute(WORKING, [account_id])
        working = cursor.fetchall()
    traded = {symbol for _, symbol in parts}
    by_name = {symbol: (held.get(symbol, zero), zero, zero) for symbol in {*held, *names, *traded}}
    by_part = {key: (row.position, zero, zero) for key, row in parts.items()}
    for symbol, strategy, buys, sells in working:
        position, open_buys, open_sells = by_name.get(symbol, (held.get(symbol, zero), zero, zero))
        by_name[symbol] = (position, open_buys + buys, open_sells + sells)
        by_part[strategy, symbol] = (by_part.get((strategy, symbol), (zero, zero, zero))[0], buys, sells)
    return AccountNow(AccountExposure.objects.get(pk=account_id), by_name, by_part, names, parts)
