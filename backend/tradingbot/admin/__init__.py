"""The admin: evidence is read-only; what acts calls a service."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from backend.tradingbot.models import (
    Account,
    ApiKey,
    Breaker,
    BreakerEvent,
    Execution,
    JournalEntry,
    Order,
    Position,
    RiskRow,
    Strategy,
)


class EvidenceAdmin(ModelAdmin):
    """Rows that people read and never edit."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Order)
class OrderAdmin(EvidenceAdmin):
    list_display = ["client_order_id", "account", "symbol", "side", "qty", "status", "filled_qty", "created_at"]
    list_filter = ["status", "symbol", "side"]
    list_select_related = ["account"]
    search_fields = ["client_order_id", "broker_order_id", "trace_id"]


@admin.register(Execution)
class ExecutionAdmin(EvidenceAdmin):
    list_display = ["execution_id", "order", "symbol", "side", "qty", "price", "occurred_at"]
    list_select_related = ["order"]
    search_fields = ["execution_id"]


@admin.register(Breaker)
class BreakerAdmin(EvidenceAdmin):
    list_display = ["scope", "tripped_at", "reason", "cooldown_sec"]


@admin.register(BreakerEvent)
class BreakerEventAdmin(EvidenceAdmin):
    list_display = ["at", "breaker", "kind", "actor", "reason"]
    list_select_related = ["breaker"]


@admin.register(JournalEntry)
class JournalEntryAdmin(EvidenceAdmin):
    list_display = ["at", "chain", "seq", "kind", "actor", "subject"]
    list_filter = ["chain", "kind"]
    search_fields = ["subject", "trace_id"]


@admin.register(ApiKey)
class ApiKeyAdmin(EvidenceAdmin):
    list_display = ["name", "role", "account", "strategy", "created_at", "revoked_at"]
    exclude = ["digest"]
    list_select_related = ["account", "strategy"]


@admin.register(Account)
class AccountAdmin(EvidenceAdmin):
    list_display = ["code", "name", "broker_account", "active"]


@admin.register(RiskRow)
class RiskRowAdmin(EvidenceAdmin):
    list_display = ["scope", "cash", "reserved_cash", "journal_seq"]


admin.site.register([Strategy, Position], EvidenceAdmin)
