"""Which orders are to be looked up at the broker now, and which cancels are to be sent."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet

from backend.tradingbot.models import Order

AT_ONCE = 500


def unresolved_orders(now: datetime, grace_seconds: float) -> QuerySet[Order]:
    """Every order in doubt, and those whose sender is past its time, whose turn it is; who waited longest first."""
    overdue = Q(status="pending_submit", send_by__lt=now - timedelta(seconds=grace_seconds))
    return _due(Order.objects.filter(Q(status="in_doubt") | overdue), now)


def watched_orders(now: datetime) -> QuerySet[Order]:
    """Orders that were given up, whose exposure is still reserved, and whose turn it is."""
    return _due(Order.objects.filter(status="never_arrived", watch_until__isnull=False), now)


def cancels_to_send(sent_before: datetime) -> QuerySet[Order]:
    """Orders to be cancelled that work at the broker, and that were not asked to be since ``sent_before``."""
    wished = Q(status__in=["accepted", "partially_filled"])
    asked = Q(status="pending_cancel") & (Q(cancel_sent_at__isnull=True) | Q(cancel_sent_at__lt=sent_before))
    rows = Order.objects.select_related("account", "strategy").filter(broker_order_id__isnull=False)
    return rows.filter(wished | asked, cancel_requested_at__isnull=False).order_by("id")[:AT_ONCE]


def _due(rows: QuerySet[Order], now: datetime) -> QuerySet[Order]:
    turn = rows.filter(Q(next_lookup_at__isnull=True) | Q(next_lookup_at__lte=now))
    return turn.select_related("account", "strategy").order_by(F("next_lookup_at").asc(nulls_first=True), "id")[
        :AT_ONCE
    ]
