"""How far each build of a strategy is trusted, what a canary did in a day, and the book of what was only simulated.

Invariants: a build has one mode; a change of mode is append-only evidence; the shadow book is no part of the real one.
"""

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from backend.tradingbot.infra.build_info import build_stamp
from backend.tradingbot.models.accounts import Account, Strategy
from backend.tradingbot.models.append_only import append_only
from backend.tradingbot.models.orders import Order, money

MODES = ["shadow", "canary", "live"]
REQUEST_STATES = ["waiting", "approved", "refused", "expired"]
BAR_STATES = ["in_force", "waiting", "refused"]
SHADOW_STATES = ["open", "filled", "canceled", "expired"]


class StrategyBuild(models.Model):
    """A build of a strategy and its mode. The empty ``build_id`` stands for orders that name no build."""

    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT, related_name="builds")
    build_id = models.CharField(max_length=64, blank=True)
    mode = models.CharField(max_length=6, choices=[(mode, mode) for mode in MODES], default="shadow")
    mode_since = models.DateTimeField()
    demoted = models.BooleanField(default=False, help_text="Places only reductions until the strategy is flat.")
    registered_at = models.DateTimeField()
    registered_by = models.CharField(max_length=120)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.CharField(max_length=120, blank=True)
    withdrawn_why = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["strategy", "-registered_at"]
        constraints = [
            models.UniqueConstraint(fields=["strategy", "build_id"], name="strategy_build_once"),
            models.CheckConstraint(condition=Q(mode__in=MODES), name="strategy_build_mode_known"),
        ]
        permissions = [
            ("register_build", "Can register and withdraw builds of strategies"),
            ("promote_build", "Can ask for promotions, and decide those that others ask for"),
            ("demote_build", "Can demote a strategy's build at once"),
        ]

    def __str__(self) -> str:
        return f"{self.strategy}@{self.build_id or 'unnamed'}"


class ModeChange(models.Model):
    """One change of a build's mode: who, why, on what evidence. Append-only."""

    build = models.ForeignKey(StrategyBuild, on_delete=models.PROTECT, related_name="changes")
    before = models.CharField(max_length=6)
    after = models.CharField(max_length=6)
    at = models.DateTimeField()
    actor = models.CharField(max_length=120)
    second = models.CharField(max_length=120, blank=True)
    reason = models.CharField(max_length=200)
    evidence = models.JSONField(default=list)
    gateway_build_id = models.CharField(max_length=64)
    build_stamp = models.CharField(max_length=16, blank=True, default=build_stamp)

    class Meta:
        ordering = ["-id"]
        triggers = append_only("mode_change")

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"


class PromotionRequest(models.Model):
    """A promotion that waits for a second person, with the evidence as it was when it was asked for."""

    build = models.ForeignKey(StrategyBuild, on_delete=models.PROTECT, related_name="requests")
    to_mode = models.CharField(max_length=6)
    reason = models.CharField(max_length=200)
    evidence = models.JSONField(default=list)
    requested_by = models.CharField(max_length=120)
    requested_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=[(name, name) for name in REQUEST_STATES], default="waiting")
    decided_by = models.CharField(max_length=120, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["build"], condition=Q(state="waiting"), name="promotion_request_waits_once"
            ),
            models.CheckConstraint(
                condition=~Q(state="approved") | ~Q(decided_by=models.F("requested_by")),
                name="promotion_second_person",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.build} to {self.to_mode}"


class PromotionBar(models.Model):
    """One version of what a profile asks for one step up. A version is never changed but for the word of the second
    person that it waits for; a step to live always needs two people."""

    profile = models.CharField(max_length=16)
    to_mode = models.CharField(max_length=6, choices=[(mode, mode) for mode in MODES[1:]])
    version = models.PositiveIntegerField()
    min_days = models.PositiveIntegerField()
    min_orders = models.PositiveIntegerField()
    max_slippage_bps = models.FloatField(null=True, blank=True, help_text="None: not asked.")
    max_fill_rate_difference = models.FloatField(null=True, blank=True, help_text="A fraction. None: not asked.")
    max_hard_verdicts = models.PositiveIntegerField(default=0)
    max_open_breaks = models.PositiveIntegerField(default=0)
    max_open_breakers = models.PositiveIntegerField(default=0)
    second_person = models.BooleanField()
    state = models.CharField(max_length=8, choices=[(name, name) for name in BAR_STATES])
    loosens = models.BooleanField()
    set_by = models.CharField(max_length=120)
    set_at = models.DateTimeField()
    reason = models.CharField(max_length=200)
    decided_by = models.CharField(max_length=120, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.CharField(max_length=200, blank=True)
    build_id = models.CharField(max_length=64)
    build_stamp = models.CharField(max_length=16, blank=True, default=build_stamp)

    class Meta:
        ordering = ["profile", "to_mode", "-version"]
        permissions = [("set_promotionbar", "Can set what a promotion asks for, and approve what others set")]
        constraints = [
            models.UniqueConstraint(fields=["profile", "to_mode", "version"], name="promotion_bar_version_once"),
            models.CheckConstraint(condition=Q(to_mode__in=MODES[1:]), name="promotion_bar_mode_known"),
            models.CheckConstraint(condition=Q(state__in=BAR_STATES), name="promotion_bar_state_known"),
            models.CheckConstraint(
                condition=~Q(to_mode="live") | Q(second_person=True), name="promotion_bar_live_needs_two"
            ),
            models.CheckConstraint(
                condition=~Q(decided_by=models.F("set_by")) | Q(decided_by=""),
                name="promotion_bar_maker_is_not_checker",
            ),
        ]
        triggers = [
            pgtrigger.ReadOnly(
                name="promotion_bar_no_change", exclude=["state", "decided_by", "decided_at", "decision_reason"]
            ),
            pgtrigger.Protect(name="promotion_bar_no_delete", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.profile} to {self.to_mode} v{self.version}"


class CanaryDay(models.Model):
    """What a canary really did in one session: orders and notional placed, and the loss as last looked at."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT)
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT)
    session = models.DateField()
    orders = models.PositiveIntegerField(default=0)
    notional = money(default=0)
    start_value = money(null=True)
    opening = models.JSONField(default=dict, help_text="Symbol to the price at which what was held began the session.")
    marks = models.JSONField(default=dict, help_text="Symbol to the price seen last in the session.")
    loss = money(default=0)

    class Meta:
        ordering = ["-session"]
        constraints = [
            models.UniqueConstraint(fields=["account", "strategy", "session"], name="canary_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.strategy} {self.session}"


class ShadowName(models.Model):
    """A strategy's shadow position in one name, its open shadow orders, and what they add to the exposure."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="shadow_names")
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT, related_name="shadow_names")
    symbol = models.CharField(max_length=32)
    position = money(default=0)
    avg_price = money(default=0)
    realized_pnl = money(default=0)
    spent = money(default=0)
    buys = money(default=0)
    sells = money(default=0)
    reserved = money(default=0)
    gross = models.DecimalField(max_digits=38, decimal_places=9, default=0)
    short = models.DecimalField(max_digits=38, decimal_places=9, default=0)
    low = ArrayField(models.DecimalField(max_digits=38, decimal_places=9), default=list)
    high = ArrayField(models.DecimalField(max_digits=38, decimal_places=9), default=list)

    class Meta:
        ordering = ["account", "strategy", "symbol"]
        constraints = [
            models.UniqueConstraint(fields=["account", "strategy", "symbol"], name="shadow_name_once"),
            models.CheckConstraint(
                condition=Q(buys__gte=0, sells__gte=0, reserved__gte=0), name="shadow_name_open_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.position}"


class ShadowOrder(models.Model):
    """The part of an order that was not placed, and what the market would have made of it."""

    order = models.OneToOneField(Order, on_delete=models.PROTECT, primary_key=True, related_name="shadow")
    qty = money()
    filled_qty = money(default=0)
    avg_price = money(null=True, blank=True)
    reserved_price = money(default=0)
    arrival_price = money(null=True, blank=True)
    first_fill_at = models.DateTimeField(null=True, blank=True)
    status = models.CharField(max_length=8, choices=[(name, name) for name in SHADOW_STATES], default="open")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(qty__gt=0), name="shadow_order_qty_positive"),
            models.CheckConstraint(
                condition=Q(filled_qty__gte=0) & Q(filled_qty__lte=models.F("qty")),
                name="shadow_order_never_over_fills",
            ),
        ]
        indexes = [models.Index(fields=["order"], name="shadow_order_open", condition=Q(status="open"))]

    def __str__(self) -> str:
        return f"{self.order} ({self.status})"


class ShadowExecution(models.Model):
    """One simulated execution, with the tick that made it. Append-only, and never among the real ones."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="shadow_executions")
    qty = money()
    price = money()
    tick = models.JSONField()
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    build_id = models.CharField(max_length=64)
    build_stamp = models.CharField(max_length=16, blank=True, default=build_stamp)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(qty__gt=0) & Q(price__gt=0), name="shadow_execution_positive")
        ]
        triggers = append_only("shadow_execution")

    def __str__(self) -> str:
        return f"{self.qty} at {self.price}"
