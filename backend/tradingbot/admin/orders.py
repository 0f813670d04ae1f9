"""Orders with their decision gate by gate, their executions, and the positions that these make. All evidence."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from backend.tradingbot.admin.builds import BUILD_FACTS
from backend.tradingbot.admin.evidence import EvidenceAdmin, EvidenceInline
from backend.tradingbot.admin.rendering import decision_table, folded, label
from backend.tradingbot.models import Account, Execution, Order, Position
from backend.tradingbot.selectors.order_story import order_story

STATUS_LABELS = {
    "filled": "success",
    "accepted": "info",
    "partially_filled": "info",
    "pending_submit": "warning",
    "in_doubt": "danger",
    "pending_cancel": "warning",
    "denied": "danger",
    "rejected": "danger",
    "never_arrived": "danger",
}

LEVELS = dict.fromkeys(("in_doubt", "never_arrived"), "danger") | {"denied": "warning", "rejected": "warning"}


class ExecutionInline(EvidenceInline):
    model = Execution
    fields = ["execution_id", "qty", "price", "occurred_at", "recorded_at"]
    ordering = ["id"]


@admin.register(Order)
class OrderAdmin(EvidenceAdmin):
    list_display = [
        "client_order_id",
        "account",
        "strategy",
        "symbol",
        "side",
        "qty",
        "state",
        "filled_qty",
        "avg_price",
        "refused_by",
        "created_at",
    ]
    list_filter = ["status", "side", "account", "strategy"]
    list_select_related = ["account", "strategy"]
    search_fields = ["client_order_id__exact", "broker_order_id__exact", "symbol__exact", "trace_id__exact"]
    search_help_text = "A whole client order id, broker's id, symbol or trace id"
    inlines = [ExecutionInline]
    change_form_before_template = "admin/tradingbot/order_now.html"
    paginator = InfinitePaginator
    hidden = ["decision", "status", "snapshot"]
    build_time, lock_hash, config_hash = BUILD_FACTS
    groups = [
        (None, ["client_order_id badge", "account strategy", "symbol side", "qty limit_price", "type time_in_force"]),
        ("At the broker", ["broker_order_id", "filled_qty avg_price", "send_by cancel_requested_at"]),
        ("Record", ["created_at updated_at", "in_journal trace_id"]),
        ("Decided by", ["build_id build_time", "lock_hash config_hash", "build_stamp"]),
        ("What the broker said", ["evidence"]),
        ("What the decision saw", ["seen"]),
    ]

    class Media:
        js = ["tradingbot/live.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        """A list never loads what was seen and said: that is most of a row."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("_changelist")
        return rows.defer("snapshot", "evidence") if is_list else rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Order], search_term: str
    ) -> tuple[QuerySet[Order], bool]:
        """By the first of the fields that knows the term, each by its index as far as there is one."""
        term = search_term.strip()
        if not term:
            return queryset, False
        accounts = list(Account.objects.values_list("pk", flat=True))
        for field in ("client_order_id", "broker_order_id"):
            found = queryset.filter(account__in=accounts, **{field: term})
            if found.exists():
                return found, False
        is_trace = len(term) == 32 and all(letter in "0123456789abcdef" for letter in term)
        return queryset.filter(**({"trace_id": term} if is_trace else {"symbol": term})), False

    @display(description="Status", label=STATUS_LABELS, ordering="status")
    def state(self, row: Order) -> str:
        return row.status

    @display(description="Status")
    def badge(self, row: Order) -> SafeString:
        return label(row.status, STATUS_LABELS.get(row.status, ""))

    @display(description="Snapshot")
    def seen(self, row: Order) -> SafeString | str:
        return folded(row.snapshot)

    @display(description="Refused by")
    def refused_by(self, row: Order) -> str:
        failed = [check["gate"] for check in row.decision.get("checks", []) if not check.get("passed")]
        return ", ".join(failed) or "-"

    @display(description="Journal")
    def in_journal(self, row: Order) -> SafeString:
        query = urlencode({"chain": f"account:{row.account.code}", "q": row.client_order_id})
        url = f"{reverse('admin:tradingbot_journalentry_changelist')}?{query}"
        return format_html('<a class="text-link" href="{}">entries about this order</a>', url)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        decision = {} if row is None else row.decision
        shown: dict[str, Any] = {"decision": decision, "decision_table": decision_table(decision)}
        if row is not None:
            shown |= {"story": order_story(row), "status_level": LEVELS.get(row.status, "normal")}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})


@admin.register(Execution)
class ExecutionAdmin(EvidenceAdmin):
    list_display = ["execution_id", "account", "order", "symbol", "side", "qty", "price", "occurred_at"]
    list_filter = ["side", "account"]
    list_select_related = ["order", "account"]
    search_fields = ["execution_id__exact", "symbol__exact"]
    search_help_text = "A whole execution id or symbol; an order's executions stand on its page"
    paginator = InfinitePaginator

    def get_queryset(self, request: HttpRequest) -> QuerySet[Execution]:
        return super().get_queryset(request).defer("order__decision", "order__snapshot", "order__evidence")


@admin.register(Position)
class PositionAdmin(EvidenceAdmin):
    list_display = ["symbol", "account", "qty", "avg_price", "realized_pnl"]
    list_filter = ["account"]
    list_select_related = ["account"]
    search_fields = ["symbol__exact"]
    paginator = InfinitePaginator
