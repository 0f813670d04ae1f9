"""Exposure as it runs along: each account's sums, each name's part in them, each strategy's part in a name, the
headroom that accounts share, and the level of the volatility index.

Invariants: an account's rows change only under its risk row's lock; the shared rows are locked after it, in the order
of their scopes; what they hold can be computed from positions and open orders at any time.
"""

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from backend.tradingbot.models.accounts import Account, Strategy
from backend.tradingbot.risk.exposure import NOTHING, STRESS
from backend.tradingbot.risk.volatility import RISING


def figure(**options: object) -> models.DecimalField:
    return models.DecimalField(max_digits=38, decimal_places=9, default=0, **options)  # type: ignore[arg-type]


def shared_measures() -> ArrayField:
    """In the order of ``risk.exposure.MEASURES``, those before the stress cells."""
    return ArrayField(models.DecimalField(max_digits=38, decimal_places=9), default=nothing_shared)


def nothing_shared() -> list[Decimal]:
    return list(NOTHING[:STRESS])


def measures() -> ArrayField:
    return ArrayField(models.DecimalField(max_digits=38, decimal_places=9), default=list)


class AccountExposure(models.Model):
    """The sums over an account's names, in the order of ``risk.exposure.MEASURES``."""

    account = models.OneToOneField(Account, on_delete=models.PROTECT, primary_key=True, related_name="exposure")
    gross = figure()
    short = figure()
    low = measures()
    high = measures()
    unknown = models.IntegerField(default=0, help_text="Names whose risk is not known.")
    unstressed = models.IntegerField(default=0, help_text="Names whose stress is not known.")
    oldest_greeks = models.DateTimeField(null=True, blank=True, help_text="Of the options held.")
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(gross__gte=0, short__gte=0, unknown__gte=0, unstressed__gte=0),
                name="account_exposure_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account}"


class NameExposure(models.Model):
    """One name's part in its account's sums, and what one unit of it risked when that was last known."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="name_exposures")
    symbol = models.CharField(max_length=32)
    gross = figure()
    short = figure()
    low = measures()
    high = measures()
    known = models.BooleanField(default=True)
    stressed = models.BooleanField(default=True)
    unit = models.JSONField(null=True, blank=True, help_text="Figures as text, exactly.")
    supplied = models.JSONField(default=dict, blank=True, help_text="Greeks of one unit as they were supplied.")
    supplied_at = models.DateTimeField(null=True, blank=True)
    supplied_by = models.CharField(max_length=120, blank=True)

    class Meta:
        ordering = ["account", "symbol"]
        constraints = [models.UniqueConstraint(fields=["account", "symbol"], name="name_exposure_once")]

    def __str__(self) -> str:
        return self.symbol


class StrategyExposure(models.Model):
    """A strategy's executed position in a name of an account, and what it takes of the headroom above the account."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="strategy_exposures")
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT, related_name="exposures")
    symbol = models.CharField(max_length=32)
    position = figure()
    gross = figure()
    low = shared_measures()
    high = shared_measures()
    known = models.BooleanField(default=True)

    class Meta:
        ordering = ["account", "strategy", "symbol"]
        constraints = [
            models.UniqueConstraint(fields=["account", "strategy", "symbol"], name="strategy_exposure_once"),
            models.CheckConstraint(condition=Q(gross__gte=0), name="strategy_exposure_not_negative"),
        ]

    def __str__(self) -> str:
        return self.symbol


class SharedHeadroom(models.Model):
    """How much of a limit above the account is taken, by ``scope``: firm, strategy, symbol, symbol within strategy."""

    scope = models.CharField(max_length=80, primary_key=True)
    reserved = figure(help_text="Gross value.")
    low = shared_measures()
    high = shared_measures()
    unknown = models.IntegerField(default=0, help_text="Parts whose risk is not known.")

    class Meta:
        ordering = ["scope"]
        constraints = [
            models.CheckConstraint(condition=Q(reserved__gte=0, unknown__gte=0), name="shared_headroom_not_negative")
        ]

    def __str__(self) -> str:
        return self.scope


class VolatilityLevel(models.Model):
    """The one row that says how wild the market is: the index as last seen and the level it has led to."""

    symbol = models.CharField(max_length=32, primary_key=True)
    level = models.CharField(max_length=8, choices=[(level.value, level.value) for level in RISING])
    value = models.DecimalField(max_digits=28, decimal_places=9)
    as_of = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(level__in=[level.value for level in RISING]), name="volatility_known"),
            models.CheckConstraint(condition=Q(value__gt=0), name="volatility_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.level}"
