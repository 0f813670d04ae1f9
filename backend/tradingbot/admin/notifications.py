"""What people were told, on which channel, and who has answered for it. Acknowledging asks for a note."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from backend.tradingbot.admin.asking import ask
from backend.tradingbot.admin.evidence import EvidenceAdmin, EvidenceInline, actor_of, may
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Notification, NotificationDelivery, NotifiedFact
from backend.tradingbot.services import acknowledging

ACKNOWLEDGE = "tradingbot.acknowledge_notification"
SEVERITY = {"critical": "danger", "warning": "warning", "info": ""}
DELIVERY = {"sent": "success", "failed": "danger", "waiting": "warning"}


class Answered(admin.SimpleListFilter):
    title = "acknowledged"
    parameter_name = "acknowledged"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "not yet"), ("yes", "yes"), ("none", "not needed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "no":
            return queryset.filter(acknowledged_at__isnull=True).exclude(severity="info")
        if self.value() == "yes":
            return queryset.filter(acknowledged_at__isnull=False)
        return queryset.filter(severity="info") if self.value() == "none" else queryset


class DeliveryInline(EvidenceInline):
    model = NotificationDelivery
    verbose_name_plural = "Deliveries"
    fields = ["channel", "level", "badge", "attempts", "due_at", "sent_at", "problem"]

    @display(description="State")
    def badge(self, row: NotificationDelivery) -> SafeString:
        return label(row.state, DELIVERY[row.state])


@admin.register(Notification)
class NotificationAdmin(EvidenceAdmin):
    list_display = ["at", "badge", "title", "answered", "sent"]
    list_display_links = ["title"]
    list_filter = [Answered, "severity", "kind"]
    search_fields = ["subject__exact", "trace_id__exact"]
    search_help_text = "A whole scope, client order id or trace id"
    inlines = [DeliveryInline]
    actions_detail = ["acknowledge"]
    hidden = ["planned_at", "severity"]
    groups = [
        (None, ["badge at", "title", "text", "subject kind"]),
        ("Acknowledged", ["answered acknowledged_at", "acknowledged_note", "level escalate_at"]),
        ("Made by", ["build_id trace_id"]),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        deliveries = NotificationDelivery.objects.order_by("id")
        return super().get_queryset(request).prefetch_related(Prefetch("deliveries", deliveries))

    @display(description="Severity", ordering="severity")
    def badge(self, row: Notification) -> SafeString:
        return label(row.severity, SEVERITY[row.severity])

    @display(description="Acknowledged by")
    def answered(self, row: Notification) -> SafeString | str:
        if row.severity == "info":
            return "not needed"
        return row.acknowledged_by or label("nobody yet", "warning")

    @display(description="Handed over")
    def sent(self, row: Notification) -> str:
        said = [f"{each.channel} {each.state}" for each in row.deliveries.all()]  # type: ignore[attr-defined]
        return ", ".join(said) or ("no channel is set" if row.planned_at else "being sent")

    def has_acknowledge_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, ACKNOWLEDGE)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        waits = Notification.objects.filter(pk=object_id, acknowledged_at__isnull=True).exclude(severity="info")
        return super().get_actions_detail(request, object_id) if waits.exists() else []

    @action(description="Acknowledge", permissions=["acknowledge"], url_path="acknowledge", icon="done_all")
    def acknowledge(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = Notification.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if row is None:
            raise Http404(f"there is no notification {object_id}")

        def perform(entered: dict[str, Any]) -> str:
            acknowledging.acknowledge(row.pk, actor=actor_of(request), note=entered["reason"], clock=SYSTEM_CLOCK)
            return "Acknowledged: it is not sent again."

        return ask(
            self,
            request,
            row,
            title="Acknowledge",
            explanation="You answer for it from now on, and it is not escalated any more. Say what is being done.",
            button="Acknowledge",
            facts=[("What", row.title), ("Happened", row.at), ("State now", self.answered(row))],
            perform=perform,
            danger=False,
        )


@admin.register(NotificationDelivery)
class NotificationDeliveryAdmin(EvidenceAdmin):
    """The deliveries that wait or have failed, for whoever looks after the channels."""

    list_display = ["notification", "channel", "level", "state", "attempts", "due_at", "sent_at", "problem"]
    list_filter = ["state", "channel"]
    list_select_related = ["notification"]


@admin.register(NotifiedFact)
class NotifiedFactAdmin(EvidenceAdmin):
    list_display = ["key", "notification"]
    list_select_related = ["notification"]
    search_fields = ["key__exact"]
