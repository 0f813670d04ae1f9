"""What moved our books without an order of ours: cash, entries that two people made, outcomes attested. Read-only."""

from __future__ import annotations

from django.contrib import admin

from backend.tradingbot.admin.evidence import EvidenceAdmin
from backend.tradingbot.models import Attestation, BookEntry, CashFlow, HeldReport


@admin.register(CashFlow)
class CashFlowAdmin(EvidenceAdmin):
    list_display = ["occurred_at", "account", "kind", "amount", "session", "reason", "actor"]
    list_select_related = ["account"]
    search_fields = ["activity_id"]


@admin.register(Attestation)
class AttestationAdmin(EvidenceAdmin):
    list_display = ["attested_at", "order", "outcome", "attested_by", "reason", "confirmed_by", "applied_at"]
    list_select_related = ["order"]


@admin.register(HeldReport)
class HeldReportAdmin(EvidenceAdmin):
    pass


@admin.register(BookEntry)
class BookEntryAdmin(EvidenceAdmin):
    list_display = ["at", "account", "session", "kind", "symbol", "qty", "amount", "made_by", "approved_by"]
    list_filter = ["kind", "account"]
    list_select_related = ["account"]
    search_fields = ["activity_id", "symbol", "description"]
