"""What brokers told us, as it came and as it was read. Append-only: a correction is a new statement."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from backend.tradingbot.models.accounts import Account
from backend.tradingbot.models.append_only import append_only

STATEMENT_SOURCES = ["broker", "alpaca_json", "flex_xml", "csv"]


def figure(**options: object) -> models.DecimalField:
    return models.DecimalField(max_digits=28, decimal_places=9, **options)  # type: ignore[arg-type]


class CsvMappingVersion(models.Model):
    """How one broker's CSV is read. A version never changes; the highest of a name is used unless one is named."""

    name = models.CharField(max_length=60)
    version = models.PositiveIntegerField()
    body = models.JSONField()
    reason = models.CharField(max_length=200)
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name", "-version"]
        permissions = [("save_csvmappingversion", "Can save how a broker's CSV is read")]
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="csv_mapping_version_once")]
        triggers = append_only("csv_mapping")

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Statement(models.Model):
    """One statement of one account and session. ``statement_once``: the same bytes of a day, read in the same way, are
    stored once.

    ``cash`` and ``equity`` are null when it does not tell them; ``sections`` are those it tells.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="statements")
    session = models.DateField()
    source = models.CharField(max_length=12, choices=[(name, name) for name in STATEMENT_SOURCES])
    name = models.CharField(max_length=120)
    sha256 = models.CharField(max_length=64)
    size = models.PositiveIntegerField()
    as_of = models.DateTimeField(help_text="The instant that its positions and its cash stand for.")
    sections = ArrayField(models.CharField(max_length=12), default=list)
    counts = models.JSONField(default=dict)
    totals = models.JSONField(default=dict)
    controls = models.JSONField(default=list, help_text="What it was said to hold: rows and totals by section.")
    problems = models.JSONField(default=list, help_text="Why it must not be compared; empty when it is whole.")
    cash = figure(null=True, blank=True)
    equity = figure(null=True, blank=True)
    mapping = models.ForeignKey(CsvMappingVersion, on_delete=models.PROTECT, null=True, blank=True)
    received_at = models.DateTimeField()
    received_by = models.CharField(max_length=120)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        permissions = [("upload_statement", "Can upload a statement")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "session", "source", "sha256", "mapping"],
                nulls_distinct=False,
                name="statement_once",
            ),
            models.CheckConstraint(condition=Q(source__in=STATEMENT_SOURCES), name="statement_source_known"),
        ]
        triggers = append_only("statement")

    def __str__(self) -> str:
        return f"{self.account} {self.session} {self.source} {self.sha256[:12]}"


class StatementChoice(models.Model):
    """A person's word that an earlier statement counts for its session again. ``after`` is the newest statement of the
    session at that moment: one that is received later counts in its turn. Append-only."""

    statement = models.ForeignKey(Statement, on_delete=models.PROTECT, related_name="choices")
    after = models.ForeignKey(Statement, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=200)
    chosen_by = models.CharField(max_length=120)
    chosen_at = models.DateTimeField()
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        triggers = append_only("statement_choice")

    def __str__(self) -> str:
        return f"{self.statement_id} by {self.chosen_by}"  # type: ignore[attr-defined]


class StatementFile(models.Model):
    """The bytes as they came, deflated. Kept apart, so that listing statements does not read them."""

    statement = models.OneToOneField(Statement, on_delete=models.PROTECT, primary_key=True, related_name="file")
    deflated = models.BinaryField()

    class Meta:
        triggers = append_only("statement_file")

    def __str__(self) -> str:
        return str(self.pk)


class StatementLine(models.Model):
    """What every line of a statement has in common."""

    statement = models.ForeignKey(Statement, on_delete=models.PROTECT, related_name="+", db_index=True)

    class Meta:
        abstract = True


class StatementExecution(StatementLine):
    execution_id = models.CharField(max_length=120, blank=True)
    order_id = models.CharField(max_length=120, blank=True)
    client_order_id = models.CharField(max_length=120, blank=True)
    symbol = models.CharField(max_length=120)
    side = models.CharField(max_length=4)
    qty = figure()
    price = figure()
    occurred_at = models.DateTimeField()
    trade_date = models.DateField()
    fee = figure(null=True)
    kind = models.CharField(max_length=10)
    refers_to = models.CharField(max_length=120, blank=True)
    multiplier = figure()

    class Meta:
        triggers = append_only("statement_execution")

    def __str__(self) -> str:
        return self.execution_id or str(self.pk)


class StatementOrder(StatementLine):
    order_id = models.CharField(max_length=120, blank=True)
    client_order_id = models.CharField(max_length=120, blank=True)
    symbol = models.CharField(max_length=120)
    side = models.CharField(max_length=4)
    qty = figure(null=True)
    filled_qty = figure()
    status = models.CharField(max_length=40)

    class Meta:
        triggers = append_only("statement_order")

    def __str__(self) -> str:
        return self.order_id or str(self.pk)


class StatementPosition(StatementLine):
    symbol = models.CharField(max_length=120)
    qty = figure()
    avg_price = figure(null=True)
    mark = figure(null=True)
    multiplier = figure()

    class Meta:
        triggers = append_only("statement_position")

    def __str__(self) -> str:
        return self.symbol


class StatementActivity(StatementLine):
    activity_id = models.CharField(max_length=120)
    kind = models.CharField(max_length=20)
    symbol = models.CharField(max_length=120, blank=True)
    amount = figure()
    qty = figure(null=True)
    date = models.DateField()
    covers = models.DateField(null=True)
    description = models.CharField(max_length=500, blank=True)

    class Meta:
        triggers = append_only("statement_activity")

    def __str__(self) -> str:
        return self.activity_id
