"""Splits and what else changes a price overnight without a trade, as somebody has put them on file: the one table.

Invariants: an entry says where it is from, who entered it and why; one stands a symbol and ex date; a wrong one is
withdrawn with a name and a reason and never changed or deleted, so that what a check was told on a day can be read.
"""

from django.db import models
from django.db.models import F, Q

from backend.tradingbot.models.orders import money

ACTION_KINDS = ["split", "stock_dividend", "spin_off"]


class CorporateAction(models.Model):
    """``ratio`` is the new shares for each old one: a close before ``ex_date`` divided by it is a price from then on.

    4 is a split of four for one, 0.1 a reverse split of one for ten.
    """

    symbol = models.CharField(max_length=32)
    ex_date = models.DateField(help_text="The first session that trades at the new price.")
    kind = models.CharField(max_length=16, choices=[(name, name) for name in ACTION_KINDS], default="split")
    ratio = money()
    source = models.CharField(max_length=120, help_text="Where it is announced: the exchange's notice, the issuer.")
    reason = models.CharField(max_length=200)
    entered_at = models.DateTimeField()
    entered_by = models.CharField(max_length=120)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.CharField(max_length=120, blank=True)
    withdrawn_why = models.CharField(max_length=200, blank=True)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-ex_date", "symbol", "-id"]
        permissions = [("enter_corporateaction", "Can put corporate actions on file and withdraw them")]
        constraints = [
            models.UniqueConstraint(
                fields=["symbol", "ex_date"], condition=Q(withdrawn_at__isnull=True), name="corporate_action_once"
            ),
            models.CheckConstraint(condition=Q(kind__in=ACTION_KINDS), name="corporate_action_kind_known"),
            models.CheckConstraint(condition=Q(ratio__gt=0) & ~Q(ratio=1), name="corporate_action_ratio_changes"),
            models.CheckConstraint(
                condition=~Q(source="") & ~Q(reason="") & ~Q(entered_by=""), name="corporate_action_says_who_and_why"
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_at__isnull=True, withdrawn_by="", withdrawn_why="")
                | Q(withdrawn_at__isnull=False, withdrawn_at__gte=F("entered_at"))
                & ~Q(withdrawn_by="")
                & ~Q(withdrawn_why=""),
                name="corporate_action_withdrawn_with_name_and_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.ex_date} {self.kind} {self.ratio.normalize():f}"
