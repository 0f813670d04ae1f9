"""Limits as versions, the permits for single orders, and patterns that were disabled.

Invariants: a version is never changed but for the word of the second person that it waits for; one permit lets one
order through, once; a disabled pattern stands once and is enabled again by a named person only.
"""

import pgtrigger
from django.db import models
from django.db.models import Q

from backend.tradingbot.models.accounts import Account, Strategy

LIMIT_STATES = ["in_force", "waiting", "refused"]


class LimitVersion(models.Model):
    """One value of one limit from ``effective_from`` on, until a later version of the same is effective.

    ``value`` None takes the limit away. ``state`` is ``waiting`` while a loosening waits for its second person.
    """

    scope = models.CharField(max_length=80)
    kind = models.CharField(max_length=40)
    version = models.PositiveIntegerField()
    value = models.DecimalField(max_digits=28, decimal_places=9, null=True, blank=True)
    effective_from = models.DateTimeField()
    state = models.CharField(max_length=8, choices=[(name, name) for name in LIMIT_STATES])
    loosens = models.BooleanField()
    set_by = models.CharField(max_length=120)
    reason = models.CharField(max_length=200)
    set_at = models.DateTimeField()
    previous = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="next", help_text="The version before."
    )
    decided_by = models.CharField(max_length=120, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.CharField(max_length=200, blank=True)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        permissions = [("set_limit", "Can set limits, and approve those that others set")]
        constraints = [
            models.UniqueConstraint(fields=["scope", "kind", "version"], name="limit_version_once"),
            models.CheckConstraint(condition=Q(value__isnull=True) | Q(value__gte=0), name="limit_not_negative"),
            models.CheckConstraint(condition=Q(state__in=LIMIT_STATES), name="limit_state_known"),
            models.CheckConstraint(
                condition=~Q(decided_by=models.F("set_by")) | Q(decided_by=""), name="limit_maker_is_not_checker"
            ),
        ]
        triggers = [
            pgtrigger.ReadOnly(
                name="limit_version_no_change",
                exclude=["state", "decided_by", "decided_at", "decision_reason"],
            ),
            pgtrigger.Protect(name="limit_version_no_delete", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.scope} v{self.version}"


class Permit(models.Model):
    """A risk officer's word for one specific order: bound to everything that makes the order what it is."""

    permit_id = models.CharField(max_length=48)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="permits")
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT, related_name="permits")
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4, choices=[("buy", "buy"), ("sell", "sell")])
    qty = models.DecimalField(max_digits=28, decimal_places=9)
    limit_price = models.DecimalField(max_digits=28, decimal_places=9, null=True, blank=True)
    reason = models.CharField(max_length=200)
    given_by = models.CharField(max_length=120)
    given_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    used_by = models.CharField(max_length=48, blank=True, help_text="The client order id.")
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["permit_id"], name="permit_id_once"),
            models.CheckConstraint(condition=Q(qty__gt=0), name="permit_qty_positive"),
            models.CheckConstraint(
                condition=Q(used_at__isnull=True, used_by="") | (Q(used_at__isnull=False) & ~Q(used_by="")),
                name="permit_used_by_an_order",
            ),
        ]

    def __str__(self) -> str:
        return self.permit_id


class DisabledPattern(models.Model):
    """One strategy's order that came too often: same symbol, side and quantity. Denied until somebody enables it."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="disabled_patterns")
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT, related_name="disabled_patterns")
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4)
    qty = models.DecimalField(max_digits=28, decimal_places=9)
    disabled_at = models.DateTimeField()
    why = models.CharField(max_length=200)
    enabled_at = models.DateTimeField(null=True, blank=True)
    enabled_by = models.CharField(max_length=120, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    trace_id = models.CharField(max_length=32, blank=True)
    build_id = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        permissions = [("enable_pattern", "Can enable a pattern that was disabled")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "strategy", "symbol", "side", "qty"],
                condition=Q(enabled_at__isnull=True),
                name="disabled_pattern_stands_once",
            ),
            models.CheckConstraint(
                condition=Q(enabled_at__isnull=True) | (~Q(enabled_by="") & ~Q(reason="")),
                name="disabled_pattern_enabled_by_someone",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.qty} {self.symbol}"
