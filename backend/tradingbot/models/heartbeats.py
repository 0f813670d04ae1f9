"""Signs of life: of the processes that no request reaches, and of the strategies that asked to be watched."""

from django.db import models
from django.db.models import Q

from backend.tradingbot.models.accounts import Strategy

LOSS_ACTIONS = ["reduce", "cancel"]


class Heartbeat(models.Model):
    """``name`` is the process's, ``state`` a word of its own, ``at`` the last sign of life, ``since`` when the state
    began."""

    name = models.CharField(max_length=32, primary_key=True)
    state = models.CharField(max_length=16)
    detail = models.CharField(max_length=200, blank=True)
    since = models.DateTimeField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


class StrategyHeartbeat(models.Model):
    """The dead man's switch of a strategy: a sign of life is due ``interval_seconds`` after ``last_at``.

    Once ``lost_at`` is set it stays until a person has re-activated the strategy and it shows a sign of life again."""

    strategy = models.OneToOneField(Strategy, on_delete=models.PROTECT, primary_key=True, related_name="heartbeat")
    interval_seconds = models.PositiveIntegerField()
    action = models.CharField(max_length=6, choices=[(name, name) for name in LOSS_ACTIONS])
    last_at = models.DateTimeField()
    lost_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True, help_text="When its orders were wished away.")
    registered_at = models.DateTimeField()
    registered_by = models.CharField(max_length=120)
    ended_at = models.DateTimeField(null=True, blank=True, help_text="Given up on purpose; nothing is watched.")

    class Meta:
        ordering = ["strategy"]
        constraints = [
            models.CheckConstraint(condition=Q(action__in=LOSS_ACTIONS), name="strategy_heartbeat_action_known"),
            models.CheckConstraint(condition=Q(interval_seconds__gt=0), name="strategy_heartbeat_interval_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.strategy} every {self.interval_seconds} s"
