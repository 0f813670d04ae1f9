"""Somebody has seen a notification and answers for it: by name, with a note, in the journal, and once."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.models import Notification
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, lock_risk


def acknowledge(notification_id: int, *, actor: str, note: Any, clock: Clock) -> Notification:
    """Somebody has seen it and says what is being done. It is not escalated any more.

    Raises NotFoundError, InvalidInputError for a note that says nothing, ConflictError when somebody was faster.
    """
    errors = FieldErrors()
    why = parse_reason(note, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic(durable=True):
        row = Notification.objects.select_for_update().filter(pk=notification_id).first()
        if row is None:
            raise NotFoundError(
                f"there is no notification {notification_id}", code="notification_not_found", remedy="see the list"
            )
        if row.acknowledged_at is not None:
            message = f"{row.acknowledged_by} has acknowledged it at {row.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC"
            raise ConflictError(message, code="acknowledged_before", remedy="nothing is to do")
        now = clock.now()
        row.acknowledged_at, row.acknowledged_by, row.acknowledged_note = now, actor, str(why)[:200]
        row.escalate_at = None
        row.save(update_fields=["acknowledged_at", "acknowledged_by", "acknowledged_note", "escalate_at"])
        data = {"notification": row.pk, "title": row.title, "note": row.acknowledged_note}
        firm = lock_risk(FIRM)
        journal.append(firm, kind="notification_acknowledged", actor=actor, subject=row.subject, data=data, at=now)
    return row
