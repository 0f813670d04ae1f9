"""Runs of the kill switch: how far each is, and what became of every order that it found open."""

from django.db import models
from django.db.models import Q

from backend.tradingbot.models.orders import Order

STAGES = ["cancelling", "flattening", "done", "stopped"]
ENDED = ["done", "stopped"]
PURPOSES = ["cancel", "flatten"]


class KillSwitchRun(models.Model):
    """One pull of the switch. It ends when nothing is open (``done``) or when the risk role stops it (``stopped``).

    ``external_orders`` are open at the broker and unknown here, by the broker's id; ``positions`` says of each position
    to be flattened what is left and what the last slice came to. Counts are None until the broker was asked.
    """

    token = models.CharField(max_length=16)
    scope = models.CharField(max_length=48)
    flatten = models.BooleanField(default=False)
    reason = models.CharField(max_length=200)
    actor = models.CharField(max_length=120)
    stage = models.CharField(max_length=10, choices=[(stage, stage) for stage in STAGES], default="cancelling")
    passes = models.PositiveIntegerField(default=0)
    slices = models.PositiveIntegerField(default=0)
    open_orders = models.PositiveIntegerField(null=True, blank=True)
    open_positions = models.PositiveIntegerField(null=True, blank=True)
    external_orders = models.JSONField(default=dict, blank=True)
    positions = models.JSONField(default=dict, blank=True)
    problem = models.CharField(max_length=300, blank=True)
    started_at = models.DateTimeField()
    last_pass_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["token"], name="kill_switch_run_token_once"),
            models.UniqueConstraint(
                fields=["scope"], condition=Q(finished_at__isnull=True), name="kill_switch_run_one_at_a_time"
            ),
            models.CheckConstraint(condition=Q(stage__in=STAGES), name="kill_switch_run_stage_known"),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True, stage__in=["cancelling", "flattening"])
                | Q(finished_at__isnull=False, stage__in=ENDED),
                name="kill_switch_run_ends_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.stage}"


class KillSwitchOrder(models.Model):
    """An order that a run found open, or that flattens it, and what the broker said to the last request."""

    run = models.ForeignKey(KillSwitchRun, on_delete=models.PROTECT, related_name="orders")
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="kill_switch_orders")
    purpose = models.CharField(max_length=7, choices=[(purpose, purpose) for purpose in PURPOSES])
    outcome = models.CharField(max_length=24, default="wish_stored")
    detail = models.CharField(max_length=200, blank=True)
    asked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "order"], name="kill_switch_order_once"),
            models.CheckConstraint(condition=Q(purpose__in=PURPOSES), name="kill_switch_order_purpose_known"),
        ]

    def __str__(self) -> str:
        return f"{self.order} {self.outcome}"
