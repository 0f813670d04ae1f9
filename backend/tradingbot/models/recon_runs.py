"""Reconciliation runs, what they matched, what people decided about breaks, and the books' entries that came of it."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from backend.tradingbot.infra.build_info import build_stamp
from backend.tradingbot.models.accounts import Account
from backend.tradingbot.models.append_only import append_only
from backend.tradingbot.models.recon import Break
from backend.tradingbot.models.statements import Statement, figure

RUN_STATES = ["running", "incomplete", "interim", "completed", "failed"]
ENTRY_KINDS = ["fee", "dividend", "interest", "flow", "corporate_action", "option_event", "other", "correction"]


class ReconPolicy(models.Model):
    """The rules of one account, or of every account (null), in versions: tolerances, which kinds only warn, the fee
    schedule, who must sign. The highest version is in force; none changes."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, null=True, blank=True, related_name="recon_policies")
    version = models.PositiveIntegerField()
    tolerances = models.JSONField(default=dict, blank=True, help_text="Only what differs from the built-in ones.")
    warnings = ArrayField(models.CharField(max_length=32), default=list, blank=True, help_text="Kinds that only warn.")
    fees = models.JSONField(default=dict, blank=True, help_text="What the broker charges; empty: nothing.")
    upload_only = models.BooleanField(
        default=False, help_text="Its statements are uploaded, never asked of the broker."
    )
    second_signer = models.BooleanField(default=False, help_text="Two people sign the day.")
    reason = models.CharField(max_length=200)
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["account", "-version"]
        verbose_name_plural = "recon policies"
        permissions = [("set_reconpolicy", "Can set tolerances, severities, fees and signers")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "version"], name="recon_policy_version_once", nulls_distinct=False
            ),
        ]
        triggers = append_only("recon_policy")

    def __str__(self) -> str:
        return f"{self.account or 'every account'} {self.version}"


class ReconRun(models.Model):
    """One account and session. Run again, it is the same row with newer results.

    ``cut`` is the instant that it closes the books at, ``opening_cut`` the one before; ``watermarks`` are the highest
    ids of executions, entries and cash flows that it has seen, so that the next run takes up what came later.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="recon_runs")
    session = models.DateField()
    state = models.CharField(max_length=10, choices=[(state, state) for state in RUN_STATES], default="running")
    attempts = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)
    started_by = models.CharField(max_length=120)
    failure = models.CharField(max_length=500, blank=True)
    statements = models.ManyToManyField(Statement, blank=True, related_name="runs")
    opening_cut = models.DateTimeField(null=True, blank=True)
    cut = models.DateTimeField(null=True, blank=True)
    watermarks = models.JSONField(default=dict)
    opening = models.JSONField(default=dict, help_text="Positions, cash, equity, lots and marks at the opening cut.")
    closing = models.JSONField(default=dict, help_text="The same at the cut, ours and the broker's.")
    counts = models.JSONField(default=dict, help_text="Executions matched, by pass.")
    proofs = models.JSONField(default=dict)
    pnl = models.JSONField(default=dict)
    tolerances = models.JSONField(default=dict)
    severities = models.JSONField(default=dict)
    result_digest = models.CharField(
        max_length=64, blank=True, help_text="Of everything found; same inputs, same digest."
    )
    notified_digest = models.CharField(max_length=64, blank=True, help_text="The result that the summary was sent for.")
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)
    build_stamp = models.CharField(max_length=16, blank=True, default=build_stamp)

    class Meta:
        ordering = ["-session", "account"]
        permissions = [("start_reconrun", "Can reconcile a session by hand")]
        constraints = [
            models.UniqueConstraint(fields=["account", "session"], name="recon_run_once"),
            models.CheckConstraint(condition=Q(state__in=RUN_STATES), name="recon_run_state_known"),
            models.CheckConstraint(
                condition=~Q(state="completed") | (Q(completed_at__isnull=False) & Q(cut__isnull=False)),
                name="recon_run_completed_has_a_cut",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.session}"


class Match(models.Model):
    """A match that needed more than the same execution id: which of ours are which of theirs, by which pass, under
    which tolerances. Matches by execution id are counted on the run, since anyone can make them again."""

    run = models.ForeignKey(ReconRun, on_delete=models.PROTECT, related_name="matches")
    match_pass = models.CharField(max_length=24)
    tolerances = models.CharField(max_length=60, help_text="The version that it was made under.")
    ours = ArrayField(models.CharField(max_length=120))
    theirs = ArrayField(models.CharField(max_length=120))
    found_break = models.ForeignKey(Break, on_delete=models.PROTECT, null=True, blank=True, related_name="matches")
    made_by = models.CharField(max_length=120)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "matches"

    def __str__(self) -> str:
        return f"{self.match_pass} {', '.join(self.ours)}"


class BreakEvent(models.Model):
    """Something that happened to a break: what, who, why, when. Append-only."""

    found_break = models.ForeignKey(Break, on_delete=models.PROTECT, related_name="events")
    kind = models.CharField(max_length=16)
    before = models.CharField(max_length=16, blank=True)
    after = models.CharField(max_length=16)
    at = models.DateTimeField()
    actor = models.CharField(max_length=120)
    reason = models.CharField(max_length=500, blank=True)
    data = models.JSONField(default=dict, blank=True)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["id"]
        triggers = append_only("break_event")

    def __str__(self) -> str:
        return f"{self.kind} {self.actor}"


class BookEntry(models.Model):
    """An entry of our books that is no execution: an activity that was taken over, or a correction that two people
    made. ``book_entry_activity_once`` lets each activity of the broker count once. Append-only."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="book_entries")
    session = models.DateField()
    kind = models.CharField(max_length=20, choices=[(kind, kind) for kind in ENTRY_KINDS])
    activity_id = models.CharField(max_length=120, blank=True)
    found_break = models.ForeignKey(Break, on_delete=models.PROTECT, null=True, blank=True, related_name="entries")
    symbol = models.CharField(max_length=32, blank=True)
    qty = figure(default=0)
    amount = figure(default=0)
    covers = models.DateField(null=True, blank=True, help_text="The session that a fee was earned in.")
    description = models.CharField(max_length=500, blank=True)
    made_by = models.CharField(max_length=120)
    approved_by = models.CharField(max_length=120, blank=True)
    at = models.DateTimeField()
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "book entries"
        constraints = [
            models.UniqueConstraint(
                fields=["account", "activity_id"], condition=~Q(activity_id=""), name="book_entry_activity_once"
            ),
            models.CheckConstraint(condition=Q(kind__in=ENTRY_KINDS), name="book_entry_kind_known"),
            models.CheckConstraint(
                condition=Q(found_break__isnull=True) | (~Q(approved_by="") & ~Q(approved_by=F("made_by"))),
                name="book_entry_two_people",
            ),
        ]
        triggers = append_only("book_entry")

    def __str__(self) -> str:
        return f"{self.kind} {self.symbol} {self.qty} {self.amount}"


class Affirmation(models.Model):
    """One account's positions and cash at the end of one session, with their hash, to be signed by a person."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="affirmations")
    session = models.DateField()
    run = models.ForeignKey(ReconRun, on_delete=models.PROTECT, related_name="affirmations")
    snapshot = models.JSONField()
    sha256 = models.CharField(max_length=64)
    needs_second = models.BooleanField(default=False)
    due_at = models.DateTimeField()
    made_at = models.DateTimeField()
    signed_by = models.CharField(max_length=120, blank=True)
    signed_at = models.DateTimeField(null=True, blank=True)
    second_by = models.CharField(max_length=120, blank=True)
    second_at = models.DateTimeField(null=True, blank=True)
    replaced_at = models.DateTimeField(null=True, blank=True, help_text="A correction changed the figures.")
    alerted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-session", "account"]
        permissions = [("sign_affirmation", "Can sign the positions and the cash of a day")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "session"], condition=Q(replaced_at__isnull=True), name="affirmation_stands_once"
            ),
            models.CheckConstraint(
                condition=Q(second_by="") | (~Q(second_by=F("signed_by")) & ~Q(signed_by="")),
                name="affirmation_second_is_another",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.session}"
