"""The volatility index comes in like any tick; its level moves here, and only ``critical`` trips the firm.

Invariants: the level is one row, moved under its own lock; a reading older than the last one changes nothing; every
change of level is in the firm's journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import VolatilityLevel
from backend.tradingbot.risk.volatility import TRIP_REASON, Level, next_level
from backend.tradingbot.services import breakers, journal
from backend.tradingbot.services.locks import FIRM, lock_risk


def observe_volatility(ticks: Mapping[str, Mapping[str, Any]], *, clock: Clock) -> Level | None:
    """Take the index out of a batch of ticks (``price``, ``as_of``) by symbol; None when it is not among them."""
    symbol = settings.TRADINGBOT.volatility_symbol
    tick = ticks.get(symbol)
    if tick is None:
        return None
    value, as_of, now = Decimal(tick["price"]), datetime.fromisoformat(tick["as_of"]), clock.now()
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        row = VolatilityLevel.objects.select_for_update().filter(pk=symbol).first()
        before = Level.CALM if row is None else Level(row.level)
        if row is not None and row.as_of > as_of:
            return before
        level = next_level(before, value)
        changes = {"level": level.value, "value": value, "as_of": as_of}
        VolatilityLevel.objects.update_or_create(symbol=symbol, defaults=changes)
        if level is not before:
            data = {"before": before.value, "after": level.value, "value": plain(value) or ""}
            journal.append(firm, kind="volatility_level", actor="feed", subject=symbol, data=data, at=now)
    if level is Level.CRITICAL and before is not Level.CRITICAL:
        breakers.trip(FIRM, actor="volatility", reason=TRIP_REASON, clock=clock)
    return level
