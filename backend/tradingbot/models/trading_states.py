"""What people decided about trading: one row a scope that says whether it may trade. The journal has its history."""

from django.db import models
from django.db.models import Q

STATES = ["active", "reducing", "halted"]


class TradingState(models.Model):
    """``scope`` is ``firm``, ``account:<code>``, ``strategy:<code>`` or ``symbol:<sym>``; the strictest one wins.

    The first three have a row from their beginning, and an order is denied when it is gone. A symbol gets one when it
    is first restricted.
    """

    scope = models.CharField(max_length=48)
    state = models.CharField(max_length=8, choices=[(state, state) for state in STATES], default="active")
    reason = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=120, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["scope"]
        constraints = [
            models.UniqueConstraint(fields=["scope"], name="trading_state_scope_once"),
            models.CheckConstraint(condition=Q(state__in=STATES), name="trading_state_known"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.state}"
