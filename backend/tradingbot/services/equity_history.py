"""The equity that breakers were shown, kept about once a minute for the charts, and pruned. Not evidence."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import connection

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.models import EquityMark

EVERY = timedelta(seconds=55)
KEEP = """
INSERT INTO tradingbot_equitymark (scope, at, equity, start_equity)
SELECT scope, %s, (state->>'last_equity')::numeric, (state->>'start_equity')::numeric
FROM tradingbot_breaker
WHERE session IS NOT NULL AND evaluated_at > %s AND state->>'last_equity' ~ '^-?[0-9.]+$'
  AND state->>'start_equity' ~ '^-?[0-9.]+$'
"""
PRUNE_AT_MOST = 5_000


def keep_marks(*, clock: Clock) -> None:
    """One row for every breaker that was evaluated of late, in one statement; nothing when the last are fresh."""
    now = clock.now()
    newest = EquityMark.objects.order_by("-at").values_list("at", flat=True).first()
    if newest is not None and timedelta(0) <= now - newest < EVERY:
        return
    with connection.cursor() as cursor:
        cursor.execute(KEEP, [now, now - timedelta(seconds=3 * settings.TRADINGBOT.mark_seconds)])
    oldest = now - timedelta(hours=settings.TRADINGBOT.equity_history_hours)
    old = EquityMark.objects.filter(at__lt=oldest).order_by("at").values("pk")[:PRUNE_AT_MOST]
    EquityMark.objects.filter(pk__in=old).delete()
