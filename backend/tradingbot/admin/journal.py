"""The journal: its entries, newest first, and a page to search them that says whether the chains hold.

Read-only here as in the database; look-ups are exact, because the table only grows.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminTextInputWidget

from backend.tradingbot.admin.evidence import EvidenceAdmin
from backend.tradingbot.models import JournalAnchor, JournalEntry, JournalVerdict, RiskRow
from backend.tradingbot.selectors import journal_search


class ChainFilter(admin.SimpleListFilter):
    """Chains by their risk rows: the distinct values of millions of entries are not counted out for it."""

    title = "chain"
    parameter_name = "chain"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(scope, scope) for scope in RiskRow.objects.order_by("scope").values_list("scope", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(chain=self.value()) if self.value() else queryset


class SearchForm(forms.Form):
    """Every field narrows; none is needed. Times are UTC."""

    chain = forms.CharField(required=False, max_length=48, label="Account or chain", help_text="account:main, or firm")
    kind = forms.CharField(required=False, max_length=40, help_text="breaker_trip, order_transition ...")
    subject = forms.CharField(required=False, max_length=120, label="Order id or subject")
    actor = forms.CharField(required=False, max_length=120, label="Person or key", help_text="admin:ann, key:bot")
    trace_id = forms.CharField(required=False, max_length=32, label="Trace id")
    since = forms.DateTimeField(required=False, help_text="2026-03-02 15:00")
    until = forms.DateTimeField(required=False, help_text="not included")
    before = forms.IntegerField(required=False, min_value=1, widget=forms.HiddenInput())

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, field in self.fields.items():
            if name != "before":
                field.widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"})

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        chain = values.get("chain", "")
        if chain and chain != "firm" and ":" not in chain:
            values["chain"] = f"account:{chain}"
        if values.get("since") and values.get("until") and values["since"] >= values["until"]:
            self.add_error("until", "must be after the time from which on you look")
        return values


@admin.register(JournalEntry)
class JournalEntryAdmin(EvidenceAdmin):
    list_display = ["at", "chain", "seq", "kind", "subject", "actor"]
    list_filter = [ChainFilter]
    search_fields = ["subject__exact", "trace_id__exact", "kind__exact", "actor__exact"]
    search_help_text = "A whole subject (a client order id, a scope), trace id, kind or actor"
    ordering = ["-id"]
    paginator = InfinitePaginator
    actions_list = ["search_entries"]
    groups = [
        (None, ["at", "chain seq", "kind subject", "actor"]),
        ("Data", ["data"]),
        ("Proof", ["hash", "trace_id", "build_id build_stamp"]),
    ]

    @action(description="Search", url_path="search", icon="search")
    def search_entries(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = SearchForm(request.GET or None)
        asked = form.is_valid()
        values = {name: value for name, value in form.cleaned_data.items() if value} if asked else {}
        found = journal_search.search(journal_search.Wanted(**values)) if asked else None
        anchor, anchors_said = journal_search.anchors_status()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": "Search the journal",
            "form": form,
            "found": found,
            "older": self._older(request, found),
            "chains": journal_search.chain_statuses(values.get("chain", "")),
            "anchor": anchor,
            "anchors_said": anchors_said,
        }
        status = 422 if form.is_bound and not asked else 200
        return TemplateResponse(request, "admin/tradingbot/journal_search.html", context, status=status)

    def _older(self, request: HttpRequest, found: journal_search.Found | None) -> str:
        """The address of the entries before those that are shown."""
        if found is None or not found.more:
            return ""
        query = request.GET.copy()
        query["before"] = str(found.entries[-1].pk)
        return f"?{query.urlencode()}"


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
