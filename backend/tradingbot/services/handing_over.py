"""Sending what waits in the outbox, a channel at a time, again and again until it is taken.

Invariants: one sender a channel (a session lock, which goes with its process); an attempt is committed before it is
made and its end after, so a process that is killed between the two sends it again (at least once; the far side can tell
by the key) and nothing is lost; a channel that is down holds up no other; a burst is one message, not a hundred.
"""

from __future__ import annotations

from datetime import timedelta
from zlib import crc32

import structlog
from django.conf import settings
from django.db.models import F
from django.urls import reverse

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.infra.metrics import NOTIFICATION_SECONDS, NOTIFICATIONS
from backend.tradingbot.models import NotificationDelivery
from backend.tradingbot.services import channels, notifications
from backend.tradingbot.services.locks import advisory_lock

log = structlog.get_logger(__name__)

CHANNEL_LOCK = 7_331
FEW, MOST = 3, 100
LONGEST_PAUSE = 300.0
GIVEN_UP_AFTER = timedelta(hours=24)


def take_up(notification_id: int, *, clock: Clock) -> list[str]:
    """Plan the deliveries of a notification; the channels that have something to send now."""
    notifications.plan(notification_id, channels.configured(settings.TRADINGBOT), clock=clock)
    return due_channels(clock=clock)


def sweep(*, clock: Clock) -> list[str]:
    """What beat does every second: tell of what lasts, take up what was missed, escalate; the channels to send on."""
    wanted = channels.configured(settings.TRADINGBOT)
    notifications.note_what_lasts(clock=clock)
    for pk in notifications.unplanned():
        notifications.plan(pk, wanted, clock=clock)
    notifications.escalate(wanted, clock=clock)
    return due_channels(clock=clock)


def due_channels(*, clock: Clock) -> list[str]:
    rows = NotificationDelivery.objects.filter(state="waiting", due_at__lte=clock.now()).order_by("channel")
    return list(rows.values_list("channel", flat=True).distinct())


def hand_over(channel: str, *, clock: Clock) -> int:
    """Send all that is due on ``channel``; how many notifications were taken. Nothing while another sends on it."""
    taken = 0
    with advisory_lock(CHANNEL_LOCK, crc32(channel.encode())) as held:
        while held:
            batch = _due(channel, clock)
            if not batch:
                break
            for group in [[row] for row in batch] if len(batch) <= FEW else [batch]:
                if not _try(channel, group, clock):
                    return taken
                taken += len(group)
    return taken


def _due(channel: str, clock: Clock) -> list[NotificationDelivery]:
    rows = NotificationDelivery.objects.select_related("notification").filter(channel=channel, state="waiting")
    return list(rows.filter(due_at__lte=clock.now()).order_by("id")[:MOST])


def _try(channel: str, rows: list[NotificationDelivery], clock: Clock) -> bool:
    """One attempt at one message. False ends this pass: what fails now fails for the next message too."""
    mine = NotificationDelivery.objects.filter(pk__in=[row.pk for row in rows])
    mine.update(attempts=F("attempts") + 1)
    title, text = message_of(rows)
    key = f"notification-{rows[0].notification.pk}-{rows[0].level}" + (f"-and-{len(rows) - 1}" if rows[1:] else "")
    try:
        if channel not in channels.configured(settings.TRADINGBOT):
            raise channels.NotHandedOverError("the channel is not configured any more")
        channels.send(channel, settings.TRADINGBOT, key=key, title=title, text=text)
    except channels.NotHandedOverError as error:
        _put_off(rows, error, clock)
        NOTIFICATIONS.labels(channel, "failed").inc(len(rows))
        log.error("notification_not_handed_over", channel=channel, notifications=_ids(rows), problem=error.problem)
        return False
    now = clock.now()
    mine.update(state="sent", sent_at=now, problem="")
    NOTIFICATIONS.labels(channel, "sent").inc(len(rows))
    for row in rows:
        if row.level == 0:
            NOTIFICATION_SECONDS.labels(channel).observe(max((now - row.notification.at).total_seconds(), 0.0))
    log.info("notification_handed_over", channel=channel, notifications=_ids(rows))
    return True


def _ids(rows: list[NotificationDelivery]) -> list[int]:
    return [row.notification.pk for row in rows]


def _put_off(rows: list[NotificationDelivery], error: channels.NotHandedOverError, clock: Clock) -> None:
    """Twice as long after each attempt; a day after it was written it is given up, and stands in the page as failed."""
    now = clock.now()
    for row in rows:
        pause = max(min(2.0 ** min(row.attempts + 1, 12), LONGEST_PAUSE), error.retry_after)
        given_up = now - row.made_at >= GIVEN_UP_AFTER
        NotificationDelivery.objects.filter(pk=row.pk).update(
            due_at=now + timedelta(seconds=pause), problem=error.problem, state="failed" if given_up else "waiting"
        )


def message_of(rows: list[NotificationDelivery]) -> tuple[str, str]:
    """Title and text of one message about one notification or many."""
    if len(rows) == 1:
        row = rows[0].notification
        title = f"NOT ACKNOWLEDGED ({rows[0].level}): {row.title}" if rows[0].level else row.title
        return title, f"{row.text}\nPage: {link_to(row.pk)}"
    lines = [f"{row.notification.at:%H:%M:%S} UTC {row.notification.title}" for row in rows]
    worst = sum(row.notification.severity == "critical" for row in rows)
    title = f"{len(rows)} notifications, {worst} of them critical; the first: {rows[0].notification.title}"
    return title, "\n".join([*lines, f"Page: {link_to(None)}"])


def link_to(notification_id: int | None) -> str:
    """The page of a notification, or of all of them, under PUBLIC_URL."""
    name = "admin:tradingbot_notification_"
    path = reverse(f"{name}changelist") if notification_id is None else reverse(f"{name}change", args=[notification_id])
    return settings.TRADINGBOT.public_url.rstrip("/") + path
