"""What a breaker was shown over time, thinned out and pruned, and resets that wait for a second person."""

from django.db import models
from django.db.models import F, Q

from backend.tradingbot.models.breakers import Breaker

RESET_STATES = ["waiting", "approved", "refused", "expired"]


class EquityMark(models.Model):
    """The equity that a breaker (of an account, or the firm's) had seen at a moment, and its day's start.

    For people to look at: about one a minute and scope, and old ones are deleted.
    """

    scope = models.CharField(max_length=48)
    at = models.DateTimeField()
    equity = models.DecimalField(max_digits=28, decimal_places=9)
    start_equity = models.DecimalField(max_digits=28, decimal_places=9)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["scope", "at"], name="equity_mark_scope_at"),
            models.Index(fields=["at"], name="equity_mark_at"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.equity}"


class ResetRequest(models.Model):
    """One person's wish to reset a breaker, for the trip that was open then; another person carries it out."""

    breaker = models.ForeignKey(Breaker, on_delete=models.PROTECT, related_name="reset_requests")
    tripped_at = models.DateTimeField()
    reason = models.CharField(max_length=200)
    forced = models.BooleanField(default=False)
    requested_by = models.CharField(max_length=120)
    requested_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=[(name, name) for name in RESET_STATES], default="waiting")
    decided_by = models.CharField(max_length=120, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["breaker"], condition=Q(state="waiting"), name="reset_request_waits_once"),
            models.CheckConstraint(condition=Q(state__in=RESET_STATES), name="reset_request_state_known"),
            models.CheckConstraint(
                condition=~Q(state="approved") | ~Q(decided_by=F("requested_by")), name="reset_request_second_person"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.breaker} asked by {self.requested_by}"
