"""The journal: one hash chain an account and one for the firm. Append-only."""

from django.db import models

from backend.tradingbot.infra.build_info import build_stamp
from backend.tradingbot.models.append_only import append_only


class JournalEntry(models.Model):
    chain = models.CharField(max_length=48)
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    kind = models.CharField(max_length=40)
    actor = models.CharField(max_length=120)
    subject = models.CharField(max_length=120)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)
    build_stamp = models.CharField(max_length=16, blank=True, default=build_stamp)
    data = models.JSONField(default=dict)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["chain", "seq"]
        verbose_name_plural = "journal entries"
        constraints = [models.UniqueConstraint(fields=["chain", "seq"], name="journal_entry_seq_once")]
        indexes = [models.Index(fields=["subject"], name="journal_entry_subject")]
        triggers = append_only("journal")

    def __str__(self) -> str:
        return f"{self.chain} {self.seq} {self.kind}"


class JournalAnchor(models.Model):
    """That an anchor was written outside the database, and its hash: shows when that file is shortened. Append-only."""

    number = models.BigIntegerField()
    at = models.DateTimeField()
    hash = models.CharField(max_length=64)
    chains = models.PositiveIntegerField(help_text="How many chains it saw.")
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["number"], name="journal_anchor_number_once")]
        triggers = append_only("journal_anchor")

    def __str__(self) -> str:
        return f"anchor {self.number}"


class JournalVerdict(models.Model):
    """What the last proof of a chain (or of ``anchors``, the file) said. Not evidence: it is overwritten."""

    scope = models.CharField(max_length=48, primary_key=True)
    verified_at = models.DateTimeField()
    entries = models.BigIntegerField()
    problem = models.CharField(max_length=500, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["scope"]

    def __str__(self) -> str:
        return f"{self.scope} {'broken' if self.problem else 'holds'}"
