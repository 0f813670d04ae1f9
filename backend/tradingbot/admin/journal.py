"""The journal, newest first. Read-only here as in the database; look-ups are exact, because the table only grows."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from backend.tradingbot.admin.evidence import EvidenceAdmin
from backend.tradingbot.models import JournalAnchor, JournalEntry, JournalVerdict, RiskRow


class ChainFilter(admin.SimpleListFilter):
    """Chains by their risk rows: the distinct values of millions of entries are not counted out for it."""

    title = "chain"
    parameter_name = "chain"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(scope, scope) for scope in RiskRow.objects.order_by("scope").values_list("scope", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(chain=self.value()) if self.value() else queryset


@admin.register(JournalEntry)
class JournalEntryAdmin(EvidenceAdmin):
    list_display = ["at", "chain", "seq", "kind", "subject", "actor"]
    list_filter = [ChainFilter]
    search_fields = ["subject__exact", "trace_id__exact", "kind__exact", "actor__exact"]
    search_help_text = "A whole subject (a client order id, a scope), trace id, kind or actor"
    ordering = ["-id"]
    paginator = InfinitePaginator
    groups = [
        (None, ["at", "chain seq", "kind subject", "actor"]),
        ("Data", ["data"]),
        ("Proof", ["hash", "trace_id", "build_id build_stamp"]),
    ]


@admin.register(JournalAnchor)
class JournalAnchorAdmin(EvidenceAdmin):
    list_display = ["number", "at", "chains", "hash", "build_id"]
    search_fields = ["hash__exact"]


@admin.register(JournalVerdict)
class JournalVerdictAdmin(EvidenceAdmin):
    list_display = ["scope", "state", "entries", "problem", "verified_at"]
    search_fields = ["scope"]

    @display(description="State", label={"holds": "success", "broken": "danger"}, ordering="problem")
    def state(self, row: JournalVerdict) -> str:
        return "broken" if row.problem else "holds"
