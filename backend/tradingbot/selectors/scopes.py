"""Which orders and positions a scope covers."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from backend.tradingbot.models import Order

FIELD_OF = {"account": "account__code", "strategy": "strategy__code", "symbol": "symbol"}


def covered_by(scope: str) -> Q:
    """The orders of ``firm``, ``account:<code>``, ``strategy:<code>`` or ``symbol:<sym>``."""
    if scope == "firm":
        return Q()
    kind, _, key = scope.partition(":")
    return Q(**{FIELD_OF[kind]: key})


def in_flight(scope: str, now: datetime, read_timeout: float) -> QuerySet[Order]:
    """Orders that were decided and whose sender may be sending them, or waiting for the answer, right now."""
    alive = now - timedelta(seconds=read_timeout)
    return Order.objects.filter(covered_by(scope), status="pending_submit", send_by__gt=alive)
