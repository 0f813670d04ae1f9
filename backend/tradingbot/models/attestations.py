"""What a person says became of an order that nobody could find out about, and who confirmed it."""

from django.db import models
from django.db.models import F, Q

from backend.tradingbot.models.orders import Order

ATTESTED_OUTCOMES = ["accepted", "rejected", "never_arrived"]


class Attestation(models.Model):
    """One outcome attested for one order. It takes effect when ``applied_at`` is set, never before."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="attestations")
    outcome = models.CharField(max_length=16, choices=[(outcome, outcome) for outcome in ATTESTED_OUTCOMES])
    broker_order_id = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=500)
    attested_by = models.CharField(max_length=120)
    attested_at = models.DateTimeField()
    confirmed_by = models.CharField(max_length=120, blank=True)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    applied_at = models.DateTimeField(null=True, blank=True)
    overtaken_at = models.DateTimeField(
        null=True, blank=True, help_text="The order's fate became known before it was confirmed."
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(applied_at__isnull=True, overtaken_at__isnull=True),
                name="attestation_waits_once",
            ),
            models.CheckConstraint(condition=Q(outcome__in=ATTESTED_OUTCOMES), name="attestation_outcome_known"),
            models.CheckConstraint(condition=~Q(reason=""), name="attestation_has_a_reason"),
            models.CheckConstraint(
                condition=~Q(confirmed_by=F("attested_by")), name="attestation_confirmed_by_another"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order} {self.outcome}"
