"""Limits with their history, permits, disabled patterns, and what is used of them now. Read-only."""

from __future__ import annotations

from django.contrib import admin

from backend.tradingbot.admin.evidence import EvidenceAdmin
from backend.tradingbot.models import (
    AccountExposure,
    DisabledPattern,
    LimitVersion,
    NameExposure,
    Permit,
    SharedHeadroom,
    StrategyExposure,
    VolatilityLevel,
)


@admin.register(LimitVersion)
class LimitVersionAdmin(EvidenceAdmin):
    list_display = ["scope", "kind", "value", "state", "version", "effective_from", "set_by", "reason"]
    list_filter = ["state", "loosens"]
    search_fields = ["scope", "kind", "set_by"]


@admin.register(Permit)
class PermitAdmin(EvidenceAdmin):
    list_display = ["permit_id", "account", "symbol", "side", "qty", "given_by", "expires_at", "used_at", "used_by"]
    list_select_related = ["account"]
    search_fields = ["permit_id", "used_by", "given_by"]


@admin.register(DisabledPattern)
class DisabledPatternAdmin(EvidenceAdmin):
    list_display = ["disabled_at", "account", "strategy", "symbol", "side", "qty", "why", "enabled_at", "enabled_by"]
    list_select_related = ["account", "strategy"]
    search_fields = ["symbol", "why"]


@admin.register(AccountExposure)
class AccountExposureAdmin(EvidenceAdmin):
    list_select_related = ["account"]


@admin.register(NameExposure)
class NameExposureAdmin(EvidenceAdmin):
    list_select_related = ["account"]
    search_fields = ["symbol"]


@admin.register(StrategyExposure)
class StrategyExposureAdmin(EvidenceAdmin):
    list_select_related = ["account", "strategy"]
    search_fields = ["symbol"]


@admin.register(SharedHeadroom)
class SharedHeadroomAdmin(EvidenceAdmin):
    search_fields = ["scope"]


@admin.register(VolatilityLevel)
class VolatilityLevelAdmin(EvidenceAdmin):
    search_fields = ["symbol"]
