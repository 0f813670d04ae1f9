"""Market data as it was taken: bars, those of second sources, what contradicts them, stops, and what the checks said.

Invariants: a bar stands once (its primary key is symbol, interval and time) and is never overwritten by a feed; a stop
is open at most once a symbol, check and source, and says who or what released it.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from backend.tradingbot.data.frames import INTERVALS
from backend.tradingbot.models.orders import money

STOP_SOURCES = ["ticks", "bars", "cache"]
RUN_KINDS = ["live", "full", "cache"]


class Bar(models.Model):
    """One bar. ``time`` is when it begins; of a daily bar its trading date, as midnight UTC."""

    pk = models.CompositePrimaryKey("symbol", "interval", "time")
    symbol = models.CharField(max_length=32)
    interval = models.CharField(max_length=3, choices=[(name, name) for name in INTERVALS])
    time = models.DateTimeField()
    open = money()
    high = money()
    low = money()
    close = money()
    volume = money()
    source = models.CharField(max_length=80)
    ingested_at = models.DateTimeField()

    class Meta:
        ordering = ["symbol", "interval", "time"]
        constraints = [
            models.CheckConstraint(condition=Q(interval__in=list(INTERVALS)), name="bar_interval_known"),
            models.CheckConstraint(
                condition=Q(low__gt=0)
                & Q(low__lte=F("open"))
                & Q(low__lte=F("close"))
                & Q(high__gte=F("open"))
                & Q(high__gte=F("close")),
                name="bar_shape_possible",
            ),
            models.CheckConstraint(condition=Q(volume__gte=0), name="bar_volume_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.interval} {self.time}"


class SecondSourceBar(models.Model):
    """A bar as a second source tells it: kept to be compared with the one that counts, and used for nothing else.

    ``feed`` is the code of the feed that brought it. What it said first stands.
    """

    pk = models.CompositePrimaryKey("feed", "symbol", "interval", "time")
    feed = models.CharField(max_length=32)
    symbol = models.CharField(max_length=32)
    interval = models.CharField(max_length=3, choices=[(name, name) for name in INTERVALS])
    time = models.DateTimeField()
    open = money()
    high = money()
    low = money()
    close = money()
    volume = money()
    source = models.CharField(max_length=80)
    ingested_at = models.DateTimeField()

    class Meta:
        ordering = ["feed", "symbol", "interval", "time"]
        constraints = [
            models.CheckConstraint(condition=Q(interval__in=list(INTERVALS)), name="second_bar_interval_known"),
            models.CheckConstraint(condition=Q(low__gt=0) & Q(low__lte=F("high")), name="second_bar_shape_possible"),
        ]

    def __str__(self) -> str:
        return f"{self.feed} {self.symbol} {self.interval} {self.time}"


class BarConflict(models.Model):
    """Other values for a bar that is there already: kept beside it until somebody decides. ``offered`` is what came.

    ``resolution`` is ``kept`` (the bar stands) or ``replaced`` (the offered values are the bar now).
    """

    symbol = models.CharField(max_length=32)
    interval = models.CharField(max_length=3)
    time = models.DateTimeField()
    stored = models.JSONField()
    offered = models.JSONField()
    source = models.CharField(max_length=80)
    seen_at = models.DateTimeField()
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)
    resolution = models.CharField(max_length=8, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=120, blank=True)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("decide_barconflict", "Can decide conflicts between bars")]
        constraints = [
            models.UniqueConstraint(fields=["symbol", "interval", "time", "offered"], name="bar_conflict_once"),
            models.CheckConstraint(
                condition=Q(resolution__in=["", "kept", "replaced"]), name="bar_conflict_resolution"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.interval} {self.time}"


class DataStop(models.Model):
    """A symbol whose market data is not to be trusted: which check, since when, on what evidence, and its release."""

    symbol = models.CharField(max_length=32)
    check_name = models.CharField(max_length=32)
    source = models.CharField(max_length=8, choices=[(name, name) for name in STOP_SOURCES])
    since = models.DateTimeField()
    evidence = models.JSONField(default=dict)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.CharField(max_length=120, blank=True)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("release_datastop", "Can release stopped market data")]
        constraints = [
            models.UniqueConstraint(
                fields=["symbol", "check_name", "source"],
                condition=Q(released_at__isnull=True),
                name="data_stop_open_once",
            ),
            models.CheckConstraint(condition=Q(source__in=STOP_SOURCES), name="data_stop_source_known"),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True, released_by="")
                | Q(released_at__isnull=False) & ~Q(released_by="") & ~Q(reason=""),
                name="data_stop_release_has_name_and_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.check_name}"


class CheckRun(models.Model):
    """One run of the checks. ``verdicts`` holds at most the first 200; ``hard`` and ``warned`` count them all.

    ``subject`` is the feed's code, or the cache; ``session`` and ``phase`` name the full run before an open or after a
    close, of which there is one each.
    """

    kind = models.CharField(max_length=8, choices=[(name, name) for name in RUN_KINDS])
    subject = models.CharField(max_length=64)
    session = models.DateField(null=True, blank=True)
    phase = models.CharField(max_length=16, blank=True)
    started_at = models.DateTimeField()
    seconds = models.FloatField()
    symbols = models.PositiveIntegerField()
    rows = models.PositiveBigIntegerField()
    hard = models.PositiveIntegerField()
    warned = models.PositiveIntegerField()
    verdicts = models.JSONField(default=list)
    problem = models.CharField(max_length=500, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["subject", "session", "phase"],
                condition=Q(kind="full", problem=""),
                name="check_run_full_once",
            ),
        ]
        indexes = [models.Index(fields=["subject", "kind", "-id"], name="check_run_newest")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} {self.started_at}"


class Quarantine(models.Model):
    """What was put aside because it cannot be trusted: a cached file, or the rows of a batch or a file of bars."""

    kind = models.CharField(max_length=8, choices=[("file", "file"), ("rows", "rows")])
    name = models.CharField(max_length=255)
    symbols = ArrayField(models.CharField(max_length=32), default=list)
    rows = models.PositiveBigIntegerField(default=0)
    evidence = models.JSONField(default=dict)
    at = models.DateTimeField()
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "quarantine"

    def __str__(self) -> str:
        return self.name


class BarFile(models.Model):
    """How far a file of bars was taken in, so that a run that broke off goes on there. ``reading`` is how it was read:
    the symbol, interval and zone that were named for it."""

    sha256 = models.CharField(max_length=64)
    reading = models.CharField(max_length=120)
    name = models.CharField(max_length=255)
    rows_done = models.PositiveBigIntegerField(default=0)
    stored = models.PositiveBigIntegerField(default=0)
    unchanged = models.PositiveBigIntegerField(default=0)
    conflicts = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["sha256", "reading"], name="bar_file_once")]

    def __str__(self) -> str:
        return self.name
