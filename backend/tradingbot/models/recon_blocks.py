"""Blocks on new risk: placed by the end of the day or by a person, lifted by a named person with a reason."""

from django.db import models
from django.db.models import Q

from backend.tradingbot.models.accounts import Account


class ReconciliationBlock(models.Model):
    """While it is not lifted, the account takes only orders that reduce its positions."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="blocks")
    session = models.DateField(null=True, blank=True, help_text="The session whose reconciliation placed it.")
    reason = models.CharField(max_length=200)
    placed_by = models.CharField(max_length=120)
    placed_at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.CharField(max_length=120, blank=True)
    lift_reason = models.CharField(max_length=200, blank=True)
    waived_until = models.DateTimeField(null=True, blank=True, help_text="Until then it does not block.")
    waived_by = models.CharField(max_length=120, blank=True)
    waiver_reason = models.CharField(max_length=200, blank=True)
    waived_breaks = models.JSONField(
        default=dict,
        blank=True,
        help_text="What the waiver is about: the evidence of each break that stood then, by id.",
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(lifted_at__isnull=True) | (~Q(lifted_by="") & ~Q(lift_reason="")),
                name="reconciliation_block_lifted_by_someone",
            ),
            models.CheckConstraint(
                condition=Q(waived_until__isnull=True) | (~Q(waived_by="") & ~Q(waiver_reason="")),
                name="reconciliation_block_waived_by_someone",
            ),
            models.UniqueConstraint(
                fields=["account", "session"],
                condition=Q(lifted_at__isnull=True, session__isnull=False),
                name="reconciliation_block_session_once",
            ),
        ]
        indexes = [
            models.Index(fields=["account"], name="reconciliation_block_open", condition=Q(lifted_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.reason}"
