"""Orders, their executions, and the positions that executions make."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q

from backend.tradingbot.execution.order_state import Status
from backend.tradingbot.infra.build_info import build_stamp
from backend.tradingbot.models.accounts import Account, Strategy
from backend.tradingbot.models.append_only import append_only

EXECUTION_KINDS = ["fill", "bust", "reversal", "correction"]
STATUSES = [(status.value, status.value) for status in Status]


def money(**options: object) -> models.DecimalField:
    return models.DecimalField(max_digits=28, decimal_places=9, **options)  # type: ignore[arg-type]


class Order(models.Model):
    """One order. ``order_client_id_once`` is the referee of exactly-once: one row an account and client order id."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="orders")
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT, related_name="orders")
    client_order_id = models.CharField(max_length=48)
    body_digest = models.CharField(max_length=64)
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4, choices=[("buy", "buy"), ("sell", "sell")])
    qty = money()  # what is really placed; 0 when all of it is simulated
    requested_qty = money(null=True)  # what was asked for, where that is more than what is placed
    strategy_build = models.CharField(max_length=64, blank=True)
    type = models.CharField(max_length=6, choices=[("market", "market"), ("limit", "limit")])
    limit_price = money(null=True, blank=True)
    time_in_force = models.CharField(max_length=3)
    status = models.CharField(max_length=16, choices=STATUSES, default=Status.NEW)
    mode = models.CharField(max_length=6, default="live")
    broker_order_id = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001  unique when known
    past_broker_order_ids = ArrayField(
        models.CharField(max_length=64), default=list, blank=True, help_text="Ids it had before the broker replaced it."
    )
    broker_status = models.CharField(max_length=32, blank=True, help_text="The broker's own last word.")
    broker_filled_qty = money(null=True, blank=True)
    broker_updated_at = models.DateTimeField(null=True, blank=True)
    filled_qty = money(default=0)
    reported_qty = models.DecimalField(
        max_digits=28, decimal_places=9, default=0, help_text="Executions as first reported, busted ones included."
    )
    filled_value = models.DecimalField(max_digits=38, decimal_places=18, default=0)
    avg_price = money(null=True, blank=True)
    reserved_price = money(default=0)
    reduces = models.BooleanField(default=False, help_text="It only reduced the position when it was decided.")
    greeks = models.JSONField(default=dict, blank=True, help_text="Of one unit, as the strategy sent them.")
    permit_id = models.CharField(max_length=48, blank=True)
    decision = models.JSONField(default=dict)
    snapshot = models.JSONField(default=dict)
    evidence = models.JSONField(default=dict)
    send_by = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_sent_at = models.DateTimeField(null=True, blank=True)
    lookup_misses = models.PositiveIntegerField(default=0)
    first_miss_at = models.DateTimeField(null=True, blank=True)
    last_miss_at = models.DateTimeField(null=True, blank=True)
    quiet_seconds = models.FloatField(default=0, help_text="How long the broker has said that it is not there.")
    next_lookup_at = models.DateTimeField(null=True, blank=True)
    watch_until = models.DateTimeField(
        null=True, blank=True, help_text="Given up, and its exposure stays reserved until then: it may still arrive."
    )
    build_id = models.CharField(max_length=64)
    build_stamp = models.CharField(max_length=16, blank=True, default=build_stamp)
    trace_id = models.CharField(max_length=32)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "client_order_id"], name="order_client_id_once"),
            models.UniqueConstraint(fields=["account", "broker_order_id"], name="order_broker_id_once"),
            models.CheckConstraint(
                condition=Q(qty__gt=0) | (Q(qty=0, requested_qty__gt=0) & ~Q(mode="live")),
                name="order_qty_positive_unless_simulated",
            ),
            models.CheckConstraint(
                condition=Q(requested_qty__isnull=True) | Q(requested_qty__gte=models.F("qty")),
                name="order_requested_at_least_what_is_placed",
            ),
            models.CheckConstraint(condition=Q(filled_qty__gte=0), name="order_filled_not_negative"),
            models.CheckConstraint(
                condition=(Q(type="limit") & Q(limit_price__gt=0)) | (Q(type="market") & Q(limit_price__isnull=True)),
                name="order_limit_price_fits_type",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in Status]), name="order_status_known"
            ),
            models.CheckConstraint(
                condition=Q(watch_until__isnull=True) | Q(status="never_arrived"), name="order_watched_is_given_up"
            ),
        ]
        indexes = [
            models.Index(fields=["account", "symbol", "created_at"], name="order_lately"),
            models.Index(fields=["account", "created_at"], name="order_reductions", condition=Q(reduces=True)),
            GinIndex(fields=["past_broker_order_ids"], name="order_past_broker_ids"),
            models.Index(
                fields=["account", "symbol"],
                name="order_open",
                condition=Q(
                    status__in=["pending_submit", "in_doubt", "accepted", "partially_filled", "pending_cancel"]
                ),
            ),
            models.Index(fields=["account", "symbol"], name="order_watched", condition=Q(watch_until__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.client_order_id


class Execution(models.Model):
    """One execution as the broker reported it. Append-only; the execution id is the key of idempotence.

    A ``bust`` takes back the execution that it ``corrects``, by a row of its own with the quantity negated. A
    correction is two rows: the ``reversal`` of what it ``corrects`` and the ``correction`` itself. So quantities of
    one order, and signed values of one account, always add up.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="executions")
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="executions")
    execution_id = models.CharField(max_length=80)
    kind = models.CharField(max_length=10, choices=[(kind, kind) for kind in EXECUTION_KINDS], default="fill")
    corrects = models.CharField(max_length=80, blank=True, help_text="The execution id that this row takes back.")
    broker_order_id = models.CharField(max_length=64, blank=True)
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4)
    qty = money()
    price = money()
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    source = models.CharField(max_length=16, default="activities", help_text="The way by which it came first.")
    evidence = models.JSONField(default=dict, blank=True)
    build_id = models.CharField(max_length=64)
    build_stamp = models.CharField(max_length=16, blank=True, default=build_stamp)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "execution_id"], name="execution_once"),
            models.UniqueConstraint(
                fields=["account", "corrects"],
                condition=Q(kind__in=["bust", "reversal"]),
                name="execution_taken_back_once",
            ),
            models.CheckConstraint(
                condition=Q(price__gt=0)
                & (
                    (Q(kind="fill") & Q(qty__gt=0) & Q(corrects=""))
                    | (Q(kind="correction") & Q(qty__gt=0) & ~Q(corrects=""))
                    | (Q(kind__in=["bust", "reversal"]) & Q(qty__lt=0) & ~Q(corrects=""))
                ),
                name="execution_sign_fits_kind",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "symbol", "occurred_at", "execution_id"], name="execution_in_time"),
        ]
        triggers = append_only("execution")

    def __str__(self) -> str:
        return self.execution_id


class HeldReport(models.Model):
    """A bust or a correction that came before the execution it is about; it waits here for it, and is kept."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="held_reports")
    execution_id = models.CharField(max_length=80)
    corrects = models.CharField(max_length=80)
    report = models.JSONField()
    received_at = models.DateTimeField()
    booked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["account", "execution_id"], name="held_report_once")]
        indexes = [models.Index(fields=["account", "corrects"], name="held_report_corrects")]

    def __str__(self) -> str:
        return self.execution_id


class Position(models.Model):
    """The signed sum of an account's executions in one symbol, at average cost.

    ``base_*`` is where the sum starts: what was held before the first execution here, or what a corporate action left.
    ``base_execution`` is the last execution row that the base already holds.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="positions")
    symbol = models.CharField(max_length=32)
    qty = money(default=0)
    avg_price = money(default=0)
    realized_pnl = money(default=0)
    base_qty = money(default=0)
    base_avg_price = money(default=0)
    base_realized_pnl = money(default=0)
    base_execution = models.BigIntegerField(default=0)
    last_occurred_at = models.DateTimeField(null=True, blank=True)
    last_execution_id = models.CharField(max_length=80, blank=True)

    class Meta:
        ordering = ["account", "symbol"]
        constraints = [models.UniqueConstraint(fields=["account", "symbol"], name="position_once")]

    def __str__(self) -> str:
        return f"{self.symbol} {self.qty}"
