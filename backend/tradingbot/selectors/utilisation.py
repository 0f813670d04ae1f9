"""How much of its limits an account uses, for people: exposure, Greeks, the stress grid, headroom above, rates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.values import plain
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.models import (
    Account,
    AccountExposure,
    LimitVersion,
    NameExposure,
    Order,
    RiskRow,
    SharedHeadroom,
)
from backend.tradingbot.risk.exposure import BETA, DELTA, GAMMA, MEASURES, NET, STRESS, THETA, VEGA, worst_stress
from backend.tradingbot.risk.limits import SHARED, SHARED_KINDS
from backend.tradingbot.risk.shared_headroom import KINDS
from backend.tradingbot.selectors.limits import limits_in_force

LARGEST = 50
GREEKS = {"delta": DELTA, "gamma": GAMMA, "theta": THETA, "vega": VEGA, "beta_exposure": BETA}


def exposure_of(account: Account, hot: HotState | None, now: datetime) -> dict[str, Any]:
    """What ``GET accounts/{code}/exposure`` shows; without ``hot`` the rates are left out. Raises UnavailableError when
    they cannot be read."""
    scope = f"account:{account.code}"
    limits = {row.kind: row for row in limits_in_force([scope], now)}
    sums = AccountExposure.objects.filter(pk=account.pk).first()
    risk = RiskRow.objects.get(pk=scope)
    answer: dict[str, Any] = {
        "account": account.code,
        "profile": account.profile,
        "as_of": rfc3339(now),
        "equity": plain(risk.equity),
        "cash": plain(risk.cash),
        "reserved_cash": plain(risk.reserved_cash),
        "rates": None if hot is None else _rates(account, hot, now, limits),
        "headroom": _headroom(now),
    }
    if sums is None:
        return answer | {"portfolio": None, "names": [], "stress": None}
    names = NameExposure.objects.filter(account=account).exclude(gross=0, known=True).order_by("-gross")[:LARGEST]
    return answer | {
        "updated_at": rfc3339(sums.updated_at),
        "unknown_names": sums.unknown,
        "unstressed_names": sums.unstressed,
        "oldest_greeks": rfc3339(sums.oldest_greeks),
        "portfolio": _portfolio(sums, limits),
        "names": [_name(row, limits, risk.equity) for row in names],
        "stress": _stress(sums, limits),
    }


def _used(value: Decimal, row: LimitVersion | None) -> dict[str, str | None]:
    if row is None or row.value is None:
        return {"value": plain(value), "limit": None, "used": None}
    used = plain(round(value / row.value, 4)) if row.value > 0 else None
    return {"value": plain(value), "limit": plain(row.value), "used": used}


def _two_sided(low: Decimal, high: Decimal, row: LimitVersion | None) -> dict[str, Any]:
    return {"low": plain(low), "high": plain(high), **_used(max(abs(low), abs(high)), row)}


def _greeks(whose: str, low: list[Decimal], high: list[Decimal], limits: Mapping[str, LimitVersion]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, index in GREEKS.items():
        if name == "theta":
            row = limits.get(f"{whose}_theta_loss_max")
            shown[name] = {"low": plain(low[index]), "high": plain(high[index])}
            shown[name] |= _used(max(-low[index], Decimal(0)), row)
        else:
            shown[name] = _two_sided(low[index], high[index], limits.get(f"{whose}_{name}_max"))
    return shown


def _portfolio(sums: AccountExposure, limits: Mapping[str, LimitVersion]) -> dict[str, Any]:
    return {
        "gross": _used(sums.gross, limits.get(SHARED)),
        "net": _two_sided(sums.low[NET], sums.high[NET], limits.get("net_exposure_max")),
        "short_value": plain(sums.short),
        **_greeks("portfolio", sums.low, sums.high, limits),
    }


def _name(row: NameExposure, limits: Mapping[str, LimitVersion], equity: Decimal | None) -> dict[str, Any]:
    share = None if equity is None or equity <= 0 else row.gross / equity * 10_000
    return {
        "symbol": row.symbol,
        "known": row.known,
        "gross": plain(row.gross),
        "net": {"low": plain(row.low[NET]), "high": plain(row.high[NET])},
        "concentration_bps": None if share is None else _used(round(share, 2), limits.get("concentration_max_bps")),
        "source": None if row.unit is None else row.unit.get("source"),
        "as_of": None if row.unit is None else row.unit.get("as_of"),
        **_greeks("name", row.low, row.high, limits),
    }


def _stress(sums: AccountExposure, limits: Mapping[str, LimitVersion]) -> dict[str, Any]:
    """The grid: the least that each cell can bring, open orders filled or not."""
    loss, cell = worst_stress(sums.low)
    cells = [{"cell": MEASURES[index], "profit": plain(sums.low[index])} for index in range(STRESS, len(MEASURES))]
    return {"worst": {"cell": cell, **_used(loss, limits.get("stress_loss_max"))}, "cells": cells}


def _headroom(now: datetime) -> list[dict[str, Any]]:
    """Limits above the account, and how much all accounts together take of them, at the worse of both ends."""
    found = limits_in_force(None, now, SHARED_KINDS)
    rows = [row for row in found if not row.scope.startswith("account:")]
    taken = {room.scope: room for room in SharedHeadroom.objects.filter(scope__in=[row.scope for row in rows])}
    return [
        {"scope": row.scope, "kind": row.kind, **_used(_taken(taken.get(row.scope), row.kind), row)} for row in rows
    ]


def _taken(room: SharedHeadroom | None, kind: str) -> Decimal:
    if room is None:
        return Decimal(0)
    if kind == SHARED:
        return Decimal(room.reserved)
    index = KINDS[kind][1]
    decay = max(-room.low[index], Decimal(0))
    return decay if index == THETA else max(abs(room.low[index]), abs(room.high[index]))


def _rates(account: Account, hot: HotState, now: datetime, limits: Mapping[str, LimitVersion]) -> dict[str, Any]:
    """Orders and cancels in the last 60 seconds. Cancels are counted and never held back."""
    second = Decimal(str(round(now.timestamp(), 3)))
    orders = hot.counted(f"account:{account.code}", second)
    since = now - timedelta(seconds=60)
    cancels = Order.objects.filter(Q(account=account) & Q(cancel_requested_at__gt=since)).count()
    return {
        "orders": _used(Decimal(orders), limits.get("order_rate_account_per_min")),
        "cancels": {"value": str(cancels), "limit": None, "used": None},
    }
