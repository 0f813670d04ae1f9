"""Circuit breakers by scope, and everything that ever happened to them."""

from django.db import models
from django.db.models import Q

from backend.tradingbot.infra.build_info import build_stamp
from backend.tradingbot.models.append_only import append_only

FIRST_READING, PREVIOUS_CLOSE, SUM_OF_ACCOUNTS = "first_reading", "previous_close", "accounts"
START_SOURCES = [FIRST_READING, PREVIOUS_CLOSE, SUM_OF_ACCOUNTS]


class Breaker(models.Model):
    """``scope`` is ``firm``, ``account:<code>``, ``strategy:<code>`` or ``symbol:<sym>``; ``state`` is the pure
    breaker's snapshot, restored and saved under this row's lock."""

    scope = models.CharField(max_length=48, unique=True)
    max_daily_drawdown = models.FloatField(default=0.06)
    max_error_rate_per_min = models.PositiveIntegerField(default=5)
    max_data_staleness_sec = models.FloatField(default=30)
    cooldown_sec = models.FloatField(default=1800)
    ramp_sec = models.DecimalField(
        max_digits=9,
        decimal_places=3,
        default=900,
        help_text="For so long after a reset the largest order that adds risk is only a share of its limit.",
    )
    ramp_start_pct = models.DecimalField(
        max_digits=6, decimal_places=3, default=25, help_text="That share right after the reset, in percent."
    )
    reset_at = models.DateTimeField(null=True, blank=True, help_text="When it was closed again last.")
    state = models.JSONField(default=dict)
    tripped_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    session = models.DateField(null=True, blank=True, help_text="The New York date whose start equity it holds.")
    start_source = models.CharField(max_length=16, choices=[(name, name) for name in START_SOURCES], blank=True)
    start_asked_at = models.DateTimeField(null=True, blank=True, help_text="When the broker was last asked for it.")
    realized_before = models.DecimalField(
        max_digits=28,
        decimal_places=9,
        null=True,
        blank=True,
        help_text="What the account had realised, ever, when the day began.",
    )
    evaluated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["scope"]
        permissions = [
            ("trip_breaker", "Can trip a breaker"),
            ("reset_breaker", "Can reset a breaker"),
            ("force_reset_breaker", "Can reset a breaker in its cooldown or while its cause holds"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(tripped_at__isnull=True, reason="") | (Q(tripped_at__isnull=False) & ~Q(reason="")),
                name="breaker_open_says_why",
            ),
            models.CheckConstraint(
                condition=Q(ramp_sec__gte=0, ramp_start_pct__gt=0, ramp_start_pct__lte=100), name="breaker_ramp_fits"
            ),
            models.CheckConstraint(condition=Q(start_source__in=["", *START_SOURCES]), name="breaker_source_known"),
        ]

    def __str__(self) -> str:
        return self.scope


class BreakerEvent(models.Model):
    """A trip, a later cause of an open breaker, or a reset: who, why, when and the values. Append-only."""

    breaker = models.ForeignKey(Breaker, on_delete=models.PROTECT, related_name="events")
    kind = models.CharField(max_length=16)
    at = models.DateTimeField()
    actor = models.CharField(max_length=120)
    reason = models.CharField(max_length=500)
    values = models.JSONField(default=dict)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)
    build_stamp = models.CharField(max_length=16, blank=True, default=build_stamp)

    class Meta:
        ordering = ["-id"]
        triggers = append_only("breaker_event")

    def __str__(self) -> str:
        return f"{self.kind} {self.reason}"
