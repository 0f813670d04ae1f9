"""What does not agree with the broker, what that blocks, and what moved cash without an order. All read-only here."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from backend.tradingbot.admin.evidence import EvidenceAdmin
from backend.tradingbot.models import Attestation, Break, CashFlow, HeldReport, ReconciliationBlock


@admin.register(Break)
class BreakAdmin(EvidenceAdmin):
    list_display = ["opened_at", "account", "kind", "weight", "symbol", "subject", "status", "owner"]
    list_filter = ["status", "severity", "kind", "account"]
    list_select_related = ["account"]
    search_fields = ["subject", "symbol", "owner"]

    @display(description="Severity", label={"critical": "danger", "warning": "warning"}, ordering="severity")
    def weight(self, row: Break) -> str:
        return row.severity


@admin.register(ReconciliationBlock)
class ReconciliationBlockAdmin(EvidenceAdmin):
    list_display = ["placed_at", "account", "session", "reason", "placed_by", "lifted_at", "lifted_by"]
    list_select_related = ["account"]


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
