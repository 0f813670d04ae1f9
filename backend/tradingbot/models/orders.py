"""Orders, their executions, and the positions that executions make."""

from django.db import models
from django.db.models import Q

from backend.tradingbot.execution.order_state import Status
from backend.tradingbot.models.accounts import Account, Strategy
from backend.tradingbot.models.append_only import append_only

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
    qty = money()
    type = models.CharField(max_length=6, choices=[("market", "market"), ("limit", "limit")])
    limit_price = money(null=True, blank=True)
    time_in_force = models.CharField(max_length=3)
    status = models.CharField(max_length=16, choices=STATUSES, default=Status.NEW)
    mode = models.CharField(max_length=6, default="live")
    broker_order_id = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001  unique when known
    filled_qty = money(default=0)
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
    lookup_misses = models.PositiveIntegerField(default=0)
    first_miss_at = models.DateTimeField(null=True, blank=True)
    build_id = models.CharField(max_length=64)
    trace_id = models.CharField(max_length=32)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "client_order_id"], name="order_client_id_once"),
            models.UniqueConstraint(fields=["account", "broker_order_id"], name="order_broker_id_once"),
            models.CheckConstraint(condition=Q(qty__gt=0), name="order_qty_positive"),
            models.CheckConstraint(condition=Q(filled_qty__gte=0), name="order_filled_not_negative"),
            models.CheckConstraint(
                condition=(Q(type="limit") & Q(limit_price__gt=0)) | (Q(type="market") & Q(limit_price__isnull=True)),
                name="order_limit_price_fits_type",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in Status]), name="order_status_known"
            ),
        ]
        indexes = [
            models.Index(fields=["account", "symbol", "created_at"], name="order_lately"),
            models.Index(fields=["account", "created_at"], name="order_reductions", condition=Q(reduces=True)),
            models.Index(
                fields=["account", "symbol"],
                name="order_open",
                condition=Q(
                    status__in=["pending_submit", "in_doubt", "accepted", "partially_filled", "pending_cancel"]
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.client_order_id


class Execution(models.Model):
    """One execution as the broker reported it. Append-only; the execution id is the key of idempotence."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="executions")
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="executions")
    execution_id = models.CharField(max_length=80)
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4)
    qty = money()
    price = money()
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "execution_id"], name="execution_once"),
            models.CheckConstraint(condition=Q(qty__gt=0) & Q(price__gt=0), name="execution_positive"),
        ]
        triggers = append_only("execution")

    def __str__(self) -> str:
        return self.execution_id


class Position(models.Model):
    """The signed sum of an account's executions in one symbol, at average cost."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="positions")
    symbol = models.CharField(max_length=32)
    qty = money(default=0)
    avg_price = money(default=0)
    realized_pnl = money(default=0)

    class Meta:
        ordering = ["account", "symbol"]
        constraints = [models.UniqueConstraint(fields=["account", "symbol"], name="position_once")]

    def __str__(self) -> str:
        return f"{self.symbol} {self.qty}"
