"""API keys: made here and shown once, revoked with a reason, never changed and never deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from backend.tradingbot.admin.asking import ask
from backend.tradingbot.admin.evidence import actor_of, may
from backend.tradingbot.admin.setting_up import ServiceForm, SetUpAdmin, SymbolsField
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import ApiKey
from backend.tradingbot.models.accounts import CAPABILITIES
from backend.tradingbot.services import keys

FIELDS = ["name", "role", "account", "strategy", "capabilities", "feed_symbols"]
WHAT = {
    "feed": "feed: post ticks, bars and Greeks of the symbols below",
    "force_reset": "force_reset: reset a breaker in its cooldown or while its cause holds (risk role only)",
}


class NewKeyForm(ServiceForm):
    capabilities = forms.MultipleChoiceField(
        required=False,
        choices=[(name, WHAT.get(name, name)) for name in CAPABILITIES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
    )
    feed_symbols = SymbolsField(required=False, help_text="The symbols that it may feed, for example AAPL, MSFT.")

    class Meta:
        model = ApiKey
        fields = FIELDS
        help_texts = {
            "name": "The journal names the key by it, so a name is never used twice.",
            "account": "A trader's key acts for this account only.",
            "strategy": "A trader's key acts for this strategy only.",
        }

    def refuse(self, values: Mapping[str, Any]) -> None:
        keys.check_new_key(**{name: values[name] for name in FIELDS})


@admin.register(ApiKey)
class ApiKeyAdmin(SetUpAdmin):
    list_display = [
        "name",
        "state",
        "role",
        "account",
        "strategy",
        "capabilities_text",
        "used",
        "created_at",
        "revoked_at",
    ]
    list_filter = ["role", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["account", "strategy"]
    search_fields = ["name"]
    form = NewKeyForm
    actions_detail = ["revoke_key"]

    @display(description="State", label={"live": "success", "revoked": "danger"}, ordering="revoked_at")
    def state(self, row: ApiKey) -> str:
        return "live" if row.revoked_at is None else "revoked"

    @display(description="Capabilities")
    def capabilities_text(self, row: ApiKey) -> str:
        return ", ".join(row.capabilities) or "-"

    @display(description="Last used", ordering="last_used_at")
    def used(self, row: ApiKey) -> str:
        return "never" if row.last_used_at is None else f"{row.last_used_at:%Y-%m-%d %H:%M:%S}"

    @display(description="May feed")
    def feed_text(self, row: ApiKey) -> str:
        return ", ".join(row.feed_symbols) or "-"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, "tradingbot.revoke_apikey")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": FIELDS})]
        shown = ["name", "state", "role", "account", "strategy", "capabilities_text", "feed_text"]
        return [(None, {"fields": [*shown, "used", "created_at", "revoked_at"]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else ["state", "capabilities_text", "feed_text", "used", "created_at", "revoked_at"]

    def create(self, request: HttpRequest, values: Mapping[str, Any]) -> ApiKey:
        key, token = keys.create_key(actor=actor_of(request), **values)
        request.new_token = token  # type: ignore[attr-defined]
        return key

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The secret is in this one answer, which no cache may keep, and in no message, which would be stored."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": f"The key {obj.name}",
            "key": obj,
            "token": request.new_token,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/tradingbot/new_key.html", context, status=201)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        live = str(object_id).isdigit() and ApiKey.objects.filter(pk=object_id, revoked_at__isnull=True).exists()
        return super().get_actions_detail(request, object_id) if live else []

    @action(
        description="Revoke", permissions=["revoke"], url_path="revoke", icon="key_off", variant=ActionVariant.DANGER
    )
    def revoke_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        key = ApiKey.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if key is None:
            raise Http404(f"there is no key {object_id}")

        def perform(entered: dict[str, Any]) -> str:
            done = keys.revoke_key(key, reason=entered["reason"], actor=actor_of(request), clock=SYSTEM_CLOCK)
            return f"{key.name} is revoked: its next request is refused." if done else f"{key.name} was revoked before."

        facts = [("Role", key.role), ("Account", key.account or "-"), ("Strategy", key.strategy or "-")]
        return ask(
            self,
            request,
            key,
            title=f"Revoke {key.name}",
            explanation="The next request with this key is refused. This cannot be taken back; make a new key instead.",
            button=f"Revoke {key.name}",
            facts=[*facts, ("State now", self.state(key)), ("Made", key.created_at)],
            perform=perform,
        )
