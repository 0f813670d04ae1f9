"""Signs of life, written by the processes that no request reaches."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.models import Heartbeat

BEAT = """
INSERT INTO tradingbot_heartbeat AS beat (name, state, detail, since, at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET state = excluded.state, detail = excluded.detail, at = excluded.at,
  since = CASE WHEN beat.state = excluded.state THEN beat.since ELSE excluded.since END"""


def beat(name: str, state: str, detail: str = "", *, clock: Clock) -> None:
    """``name`` is alive and in ``state``; the first moment of a state is kept."""
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(BEAT, [name, state, detail[:200], now, now])


def age_of(name: str, now: datetime) -> tuple[str, float] | None:
    """The last state of ``name`` and the seconds since its last sign of life; None when there never was one."""
    found = Heartbeat.objects.filter(name=name).first()
    return None if found is None else (found.state, (now - found.at).total_seconds())
