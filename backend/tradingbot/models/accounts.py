"""Who trades: accounts with their locked risk row, strategies, and the keys that may act for them."""

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from backend.tradingbot.data.calendar import CALENDARS, XNYS
from backend.tradingbot.risk.limit_profiles import PROFILES

ROLES = ["viewer", "trader", "risk", "admin"]
CAPABILITIES = ["feed", "force_reset"]
SESSION_CALENDARS = list(CALENDARS)


class Account(models.Model):
    """One account here is one account at the broker; two local accounts never share one."""

    code = models.SlugField(max_length=32, db_index=False)
    name = models.CharField(max_length=120, blank=True)
    broker_account = models.CharField(max_length=64)
    symbols = ArrayField(models.CharField(max_length=32), default=list, help_text="What this account may trade.")
    max_tick_age_seconds = models.PositiveIntegerField(default=20, help_text="Older market data denies an order.")
    max_mark_age_seconds = models.PositiveIntegerField(
        default=60, help_text="A held symbol whose last tick is older makes equity unknown, which denies."
    )
    market_collar_bps = models.PositiveIntegerField(
        default=100, help_text="A market buy reserves the touch plus this many basis points."
    )
    session_calendar = models.CharField(
        max_length=8,
        choices=[(name, name) for name in SESSION_CALENDARS],
        default=XNYS,
        help_text="When its trading day begins: with the exchange's session, or round the clock at 17:00 New York.",
    )
    profile = models.CharField(
        max_length=32,
        choices=[(name, name) for name in PROFILES],
        default="default",
        help_text="Which controls it must have; an order is denied while one of their limits is not set.",
    )
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["code"]
        constraints = [
            models.CheckConstraint(condition=Q(session_calendar__in=SESSION_CALENDARS), name="account_calendar_known"),
            models.CheckConstraint(condition=Q(profile__in=list(PROFILES)), name="account_profile_known"),
            models.UniqueConstraint(fields=["code"], name="account_code_once"),
            models.UniqueConstraint(fields=["broker_account"], name="account_broker_account_once"),
        ]

    def __str__(self) -> str:
        return self.code


class RiskRow(models.Model):
    """The row that is locked for every change of one account's book, and the head of its journal chain.

    ``scope`` is ``account:<code>`` or ``firm``; the firm's row has a chain and no money.
    """

    scope = models.CharField(max_length=48, primary_key=True)
    account = models.OneToOneField(Account, on_delete=models.PROTECT, null=True, blank=True, related_name="risk")
    cash = models.DecimalField(max_digits=28, decimal_places=9, null=True)
    reserved_cash = models.DecimalField(max_digits=28, decimal_places=9, default=0)
    equity = models.DecimalField(max_digits=28, decimal_places=9, null=True, blank=True)
    equity_floor = models.DecimalField(
        max_digits=28,
        decimal_places=9,
        null=True,
        blank=True,
        help_text="The least it is worth when a held symbol has no fresh mark: that holding counts as worthless.",
    )
    fills_cursor = models.CharField(max_length=80, blank=True)
    reconciled_through = models.DateField(
        null=True, blank=True, help_text="Every session up to this one, from the account's first, was reconciled."
    )
    journal_seq = models.BigIntegerField(default=0)
    journal_hash = models.CharField(max_length=64, default="0" * 64)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(reserved_cash__gte=0), name="risk_row_reserved_not_negative"),
        ]

    def __str__(self) -> str:
        return self.scope


class Strategy(models.Model):
    code = models.SlugField(max_length=32, db_index=False)
    name = models.CharField(max_length=120, blank=True)
    canary_allocation = models.DecimalField(
        max_digits=5, decimal_places=4, default=Decimal("0.1"), help_text="The share of new risk a canary places."
    )
    canary_lot = models.DecimalField(max_digits=28, decimal_places=9, default=1)
    canary_at_least_one_lot = models.BooleanField(default=False)
    canary_max_orders = models.PositiveIntegerField(default=10, help_text="Real orders a session.")
    canary_max_notional = models.DecimalField(max_digits=28, decimal_places=9, default=25_000)
    canary_max_loss = models.DecimalField(max_digits=28, decimal_places=9, default=500)
    promotion_profile = models.CharField(max_length=16, default="default")
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["code"]
        verbose_name_plural = "strategies"
        constraints = [models.UniqueConstraint(fields=["code"], name="strategy_code_once")]

    def __str__(self) -> str:
        return self.code


class ApiKey(models.Model):
    """A key: the secret is random and 256 bits long, so only its SHA-256 is kept. Revocation acts at once.

    The name is the actor in the journal, so no name is ever used twice.
    """

    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    role = models.CharField(max_length=8, choices=[(role, role) for role in ROLES])
    capabilities = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    feed_symbols = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, null=True, blank=True)
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(
        null=True, blank=True, help_text="Within a minute or so; never a write a request."
    )

    class Meta:
        ordering = ["name"]
        verbose_name = "API key"
        permissions = [("revoke_apikey", "Can revoke API keys")]
        constraints = [
            models.UniqueConstraint(fields=["name"], name="api_key_name_once"),
            models.CheckConstraint(condition=Q(role__in=ROLES), name="api_key_role_known"),
            models.CheckConstraint(
                condition=~Q(role="trader") | (Q(account__isnull=False) & Q(strategy__isnull=False)),
                name="api_key_trader_is_bound",
            ),
        ]

    def __str__(self) -> str:
        return self.name
