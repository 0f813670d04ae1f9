"""What people are told: a notification is written in the transaction of the fact, its deliveries follow from it.

``NotifiedFact`` is the memory of what was told of already, so that no fact makes two notifications.
"""

from django.db import models
from django.db.models import Q

SEVERITIES = ["critical", "warning", "info"]
CHANNELS = ["email", "webhook", "telegram"]
DELIVERY_STATES = ["waiting", "sent", "failed"]


class Notification(models.Model):
    """One message about one or more facts of a kind. Its text is made once, from the fact, and never changes."""

    kind = models.CharField(max_length=32)
    severity = models.CharField(max_length=8, choices=[(name, name) for name in SEVERITIES])
    subject = models.CharField(max_length=120, help_text="The scope, order, run or strategy that it is about.")
    title = models.CharField(max_length=200)
    text = models.TextField()
    at = models.DateTimeField(help_text="When it happened.")
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)
    planned_at = models.DateTimeField(null=True, blank=True, help_text="When its deliveries were written.")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=120, blank=True)
    acknowledged_note = models.CharField(max_length=200, blank=True)
    level = models.PositiveSmallIntegerField(default=0, help_text="How often it was escalated.")
    escalate_at = models.DateTimeField(null=True, blank=True, help_text="When it is sent again unless acknowledged.")

    class Meta:
        ordering = ["-id"]
        permissions = [("acknowledge_notification", "Can acknowledge a notification")]
        indexes = [
            models.Index(fields=["id"], condition=Q(planned_at__isnull=True), name="notification_unplanned"),
            models.Index(
                fields=["escalate_at"], condition=Q(escalate_at__isnull=False), name="notification_escalating"
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(severity__in=SEVERITIES), name="notification_severity_known"),
            models.CheckConstraint(
                condition=Q(acknowledged_at__isnull=True, acknowledged_by="")
                | (Q(acknowledged_at__isnull=False, escalate_at__isnull=True) & ~Q(acknowledged_by="")),
                name="notification_acknowledged_by_someone",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class NotifiedFact(models.Model):
    """A fact by its key (a journal entry, an order in doubt, a data stop) and the one notification that tells of it."""

    key = models.CharField(max_length=120, primary_key=True)
    notification = models.ForeignKey(Notification, on_delete=models.PROTECT, related_name="facts")

    class Meta:
        ordering = ["key"]

    def __str__(self) -> str:
        return self.key


class NotificationDelivery(models.Model):
    """One notification on one channel, once at each level. ``waiting`` is due at ``due_at``; attempts are counted
    before they are made, so that one that died while sending is seen."""

    notification = models.ForeignKey(Notification, on_delete=models.PROTECT, related_name="deliveries")
    channel = models.CharField(max_length=16, choices=[(name, name) for name in CHANNELS])
    level = models.PositiveSmallIntegerField(default=0)
    state = models.CharField(max_length=8, choices=[(name, name) for name in DELIVERY_STATES], default="waiting")
    attempts = models.PositiveIntegerField(default=0)
    made_at = models.DateTimeField()
    due_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "notification deliveries"
        indexes = [
            models.Index(fields=["channel", "due_at"], condition=Q(state="waiting"), name="delivery_waiting"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["notification", "channel", "level"], name="delivery_once_a_level"),
            models.CheckConstraint(condition=Q(channel__in=CHANNELS), name="delivery_channel_known"),
            models.CheckConstraint(condition=Q(state__in=DELIVERY_STATES), name="delivery_state_known"),
            models.CheckConstraint(
                condition=Q(state="sent", sent_at__isnull=False) | (~Q(state="sent") & Q(sent_at__isnull=True)),
                name="delivery_sent_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.state}"
