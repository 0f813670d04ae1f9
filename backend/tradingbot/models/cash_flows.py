"""Cash that moves by itself: deposits and withdrawals, fees, dividends, interest. Append-only."""

from django.db import models
from django.db.models import Q

from backend.tradingbot.models.accounts import Account
from backend.tradingbot.models.append_only import append_only

BROKER = "broker"  # the actor of what was read at the broker; a person's name stands for what people announced


class CashFlow(models.Model):
    """One flow, signed (a withdrawal is below zero). ``cash_flow_once`` lets each activity of the broker count once."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="cash_flows")
    activity_id = models.CharField(max_length=80)
    kind = models.CharField(max_length=8, help_text="The broker's word: CSD, CSW, JNLC, ACATC.")
    amount = models.DecimalField(max_digits=28, decimal_places=9)
    session = models.DateField(help_text="The trading date on which it happened.")
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    moved_start = models.BooleanField(help_text="Whether the start equity of the day moved with it.")
    reason = models.CharField(max_length=200)
    actor = models.CharField(max_length=120)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "activity_id"], name="cash_flow_once"),
            models.CheckConstraint(condition=~Q(amount=0), name="cash_flow_not_zero"),
        ]
        triggers = append_only("cash_flow")

    def __str__(self) -> str:
        return self.activity_id
