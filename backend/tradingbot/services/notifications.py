"""The outbox: what people are to be told is written with the fact it tells of, and sent afterwards by a task.

Invariants: a notification is committed with its fact or not at all, so a fact that was rolled back notifies nobody; a
fact is told of once, by its key; writing one never raises into the fact's own transaction for want of a message queue,
because beat sweeps up what no task was sent for. docs/notifications.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import CharField, Exists, OuterRef, Value
from django.db.models.functions import Cast, Concat

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.execution.order_state import Status
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import DataStop, Notification, NotificationDelivery, NotifiedFact, Order
from backend.tradingbot.ops import notices
from backend.tradingbot.ops.notices import Notice

log = structlog.get_logger(__name__)

SEND_TASK = "tradingbot.send_notification"
MOST_LEVELS = 3
BATCH = 500
IN_DOUBT, DATA_STOP = "in_doubt:", "data_stop:"


def note(notice: Notice, keys: Sequence[str], *, subject: str, at: datetime) -> Notification | None:
    """Write ``notice`` in the caller's transaction, for those of ``keys`` that nobody was told of; None for none.

    The caller's transaction decides: rolled back, nothing was ever to be told. After its commit the sending begins.
    """
    known = set(NotifiedFact.objects.filter(key__in=keys).values_list("key", flat=True))
    fresh = [key for key in dict.fromkeys(keys) if key not in known]
    if not fresh:
        return None
    row = Notification.objects.create(
        kind=notice.kind, severity=notice.severity, subject=subject[:120], title=notice.title[:200],
        text=notice.text(at), at=at, trace_id=TRACE_ID.get(), build_id=build_id(),
        escalate_at=None if notice.severity == notices.INFO else at + escalation_pause(),
    )  # fmt: skip
    NotifiedFact.objects.bulk_create([NotifiedFact(key=key, notification=row) for key in fresh])
    transaction.on_commit(lambda: _wake(row.pk), robust=True)
    return row


def note_entry(chain: str, seq: int, kind: str, actor: str, subject: str, data: dict[str, Any], at: datetime) -> None:
    """Write the notification of a journal entry that people are told of, in the transaction that appends it."""
    notice = notices.notice_of(kind, subject, actor, data)
    if notice is not None:
        note(notice, [notice.key or f"journal:{chain}:{seq}"], subject=subject, at=at)


def escalation_pause() -> timedelta:
    return timedelta(minutes=settings.TRADINGBOT.notify_escalate_minutes)


def _wake(notification_id: int) -> None:
    """Ask the worker to send it now. Without a queue the sweep sends it later; nobody waits for it here."""
    try:
        current_app.send_task(SEND_TASK, [notification_id], retry=False, expires=60)
    except Exception as error:  # whatever keeps the queue away, the row is committed and the sweep finds it
        log.warning("notification_waits_for_the_sweep", notification=notification_id, problem=type(error).__name__)


def note_what_lasts(*, clock: Clock) -> int:
    """Tell of what is one only once it has lasted: orders in doubt, and stopped market data. How many were written."""
    now = clock.now()
    return _note_in_doubt(now) + _note_data_stops(now)


def _untold(prefix: str) -> Any:
    """That no notification tells of the row yet."""
    key = Concat(Value(prefix), Cast(OuterRef("pk"), CharField()))
    return ~Exists(NotifiedFact.objects.filter(key=key))


def _note_in_doubt(now: datetime) -> int:
    """One notification an account. The orders are locked, so that none is resolved before it is written."""
    seconds = settings.TRADINGBOT.notify_in_doubt_seconds
    written = 0
    with transaction.atomic():
        rows = Order.objects.filter(_untold(IN_DOUBT), status=Status.IN_DOUBT)
        rows = rows.filter(updated_at__lte=now - timedelta(seconds=seconds)).select_related("account")
        by_account: dict[str, list[Order]] = {}
        for order in rows.select_for_update(of=("self",), skip_locked=True).order_by("id")[:BATCH]:
            by_account.setdefault(order.account.code, []).append(order)
        for account, orders in by_account.items():
            ids, symbols = [o.client_order_id for o in orders], sorted({o.symbol for o in orders})
            notice = notices.in_doubt(account, ids, symbols, seconds)
            subject = ids[0] if len(ids) == 1 else f"account:{account}"
            written += bool(note(notice, [f"{IN_DOUBT}{order.pk}" for order in orders], subject=subject, at=now))
    return written


def _note_data_stops(now: datetime) -> int:
    """One notification of all the stops that have lasted: a feed that is wrong stops many symbols at once."""
    seconds = settings.TRADINGBOT.notify_data_stop_seconds
    with transaction.atomic():
        rows = DataStop.objects.filter(_untold(DATA_STOP), released_at__isnull=True)
        rows = rows.filter(since__lte=now - timedelta(seconds=seconds))
        lasting = list(rows.select_for_update(skip_locked=True).order_by("id")[: 10 * BATCH])
        if not lasting:
            return 0
        notice = notices.data_stopped([(stop.symbol, stop.check_name) for stop in lasting], seconds)
        subject = f"symbol:{lasting[0].symbol}" if len(lasting) == 1 else "market data"
        return int(bool(note(notice, [f"{DATA_STOP}{stop.pk}" for stop in lasting], subject=subject, at=now)))


def plan(notification_id: int, channels: Sequence[str], *, clock: Clock) -> bool:
    """Write the deliveries of a notification, one a channel; False when they were written before, or there is none."""
    with transaction.atomic(durable=True):
        row = Notification.objects.select_for_update().filter(pk=notification_id, planned_at__isnull=True).first()
        if row is None:
            return False
        row.planned_at = clock.now()
        row.save(update_fields=["planned_at"])
        _write_deliveries(row, channels, row.planned_at)
    return True


def _write_deliveries(row: Notification, channels: Sequence[str], now: datetime) -> None:
    NotificationDelivery.objects.bulk_create(
        [
            NotificationDelivery(notification=row, channel=name, level=row.level, made_at=now, due_at=now)
            for name in channels
        ],
        ignore_conflicts=True,
    )


def unplanned() -> list[int]:
    """Notifications that no task has taken up yet: the task was lost, or the process died before it could send it."""
    return list(
        Notification.objects.filter(planned_at__isnull=True).order_by("id").values_list("pk", flat=True)[:BATCH]
    )


def escalate(channels: Sequence[str], *, clock: Clock) -> int:
    """Send again, one level higher, what nobody has acknowledged in time; at most ``MOST_LEVELS`` times."""
    now = clock.now()
    with transaction.atomic(durable=True):
        late = Notification.objects.filter(planned_at__isnull=False, escalate_at__lte=now)
        rows = list(late.select_for_update(skip_locked=True).order_by("id")[:BATCH])
        for row in rows:
            row.level += 1
            row.escalate_at = now + escalation_pause() if row.level < MOST_LEVELS else None
            row.save(update_fields=["level", "escalate_at"])
            _write_deliveries(row, channels, now)
            log.warning("notification_escalated", notification=row.pk, kind=row.kind, level=row.level)
    return len(rows)
