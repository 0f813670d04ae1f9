"""Breaks: what our books and the broker's disagree on, from the moment it is seen until a person has closed it.

Invariants: a difference stands once (one break that is not closed an account, kind and subject); what a break says
about a resolution is only there when it was resolved.
"""

from django.db import models
from django.db.models import Q

from backend.tradingbot.models.accounts import Account
from backend.tradingbot.ops.recon_kinds import BreakKind

BREAK_KINDS = [str(kind) for kind in BreakKind]
BREAK_STATUSES = ["open", "assigned", "explained", "force_matched", "written_off", "closed"]
UNRESOLVED_BREAKS = ["open", "assigned"]
SEVERITIES = ["warning", "critical"]


class Break(models.Model):
    """One difference. ``subject`` names the thing it is about within its kind (an order, an execution, a symbol);
    ``ours``, ``theirs`` and ``difference`` are the figures as plain text in JSON."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="breaks")
    kind = models.CharField(max_length=32, choices=[(kind, kind) for kind in BREAK_KINDS])
    severity = models.CharField(max_length=8, choices=[(name, name) for name in SEVERITIES])
    symbol = models.CharField(max_length=32, blank=True)
    subject = models.CharField(max_length=120)
    ours = models.JSONField(default=dict, blank=True)
    theirs = models.JSONField(default=dict, blank=True)
    difference = models.JSONField(default=dict, blank=True)
    suggested_explanation = models.CharField(max_length=500, blank=True)
    status = models.CharField(max_length=16, choices=[(name, name) for name in BREAK_STATUSES], default="open")
    owner = models.CharField(max_length=120, blank=True)
    session = models.DateField(null=True, blank=True, help_text="The session that it was first found in.")
    last_session = models.DateField(null=True, blank=True, help_text="The session that it was last found in.")
    value = models.DecimalField(max_digits=28, decimal_places=9, default=0, help_text="Dollars at stake.")
    digest = models.CharField(max_length=64, blank=True, help_text="Of the evidence; it changes when the figures do.")
    effects = models.JSONField(default=dict, blank=True, help_text="What our books lack to agree: positions, cash.")
    carry = models.JSONField(default=dict, blank=True, help_text="The executions that later runs match again.")
    booked_at = models.DateTimeField(null=True, blank=True, help_text="When its effects were entered in our books.")
    opened_at = models.DateTimeField()
    opened_by = models.CharField(max_length=120, help_text="What found it: gateway, recovery, a reconciliation run.")
    updated_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=120, blank=True)
    resolution = models.CharField(max_length=500, blank=True, help_text="The reason given by who resolved it.")
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=120, blank=True)
    cleared_session = models.DateField(
        null=True, blank=True, help_text="The session whose run no longer found it and closed it."
    )
    notes = models.JSONField(default=list, blank=True, help_text="[{at, by, text}], oldest first.")
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "kind", "subject"], condition=~Q(status="closed"), name="break_stands_once"
            ),
            models.CheckConstraint(condition=Q(kind__in=BREAK_KINDS), name="break_kind_known"),
            models.CheckConstraint(condition=Q(status__in=BREAK_STATUSES), name="break_status_known"),
            models.CheckConstraint(condition=Q(severity__in=SEVERITIES), name="break_severity_known"),
            models.CheckConstraint(
                condition=Q(status__in=UNRESOLVED_BREAKS)
                | (Q(resolved_at__isnull=False) & ~Q(resolved_by="") & ~Q(resolution="")),
                name="break_resolved_by_someone",
            ),
        ]
        indexes = [models.Index(fields=["account", "status"], name="break_account_status")]
        permissions = [
            ("work_break", "Can assign, explain, match and write off breaks"),
            ("close_break", "Can close a break that another person has resolved"),
            ("waive_block", "Can waive a block of the next session"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"
