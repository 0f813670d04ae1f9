"""Strategies: made and changed through the services, with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from backend.tradingbot.admin.asking import ReasonForm, ask
from backend.tradingbot.admin.evidence import actor_of, may
from backend.tradingbot.admin.setting_up import ReasonField, ServiceForm, SetUpAdmin
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Strategy, StrategyBuild
from backend.tradingbot.services import accounts, promotion

CANARY = {
    "canary_allocation": "The share of new risk that a canary places, 0.1 is 10 %.",
    "canary_lot": "It is rounded down to this.",
    "canary_at_least_one_lot": "Place one lot where the share is less.",
    "canary_max_orders": "Real orders with new risk in a session.",
    "canary_max_notional": "Their value in a session.",
    "canary_max_loss": "A session's loss at which it is demoted.",
}
CHANGES = ["name", "active"]
NEW = ["code", "name"]


class StrategyForm(ServiceForm):
    reason = ReasonField()

    class Meta:
        model = Strategy
        fields = CHANGES

    def refuse(self, values: Mapping[str, Any]) -> None:
        accounts.check_strategy_change({name: values[name] for name in CHANGES}, values["reason"])


class NewStrategyForm(ServiceForm):
    class Meta:
        model = Strategy
        fields = NEW

    def refuse(self, values: Mapping[str, Any]) -> None:
        accounts.check_new_strategy(**{name: values[name] for name in NEW})


class BuildForm(ReasonForm):
    field_order = ["build_id", "reason"]
    build_id = forms.CharField(
        max_length=64,
        widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True, "autocomplete": "off"}),
        help_text="What the strategy sends in X-Strategy-Build, for example its commit: A-Z a-z 0-9 . _ + -",
    )


def _field(kind: type[forms.Field], says: str) -> forms.Field:
    return kind(widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}), help_text=says)


class CanaryForm(ReasonForm):
    canary_allocation = _field(forms.DecimalField, CANARY["canary_allocation"])
    canary_lot = _field(forms.DecimalField, CANARY["canary_lot"])
    canary_at_least_one_lot = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget(), help_text=CANARY["canary_at_least_one_lot"]
    )
    canary_max_orders = _field(forms.IntegerField, CANARY["canary_max_orders"])
    canary_max_notional = _field(forms.DecimalField, CANARY["canary_max_notional"])
    canary_max_loss = _field(forms.DecimalField, CANARY["canary_max_loss"])
    promotion_profile = _field(forms.CharField, "What its promotions ask for; see What promotions ask.")
    field_order = [*CANARY, "promotion_profile", "reason"]


@admin.register(Strategy)
class StrategyAdmin(SetUpAdmin):
    list_display = ["code", "name", "state", "modes", "promotion_profile", "created_at"]
    search_fields = NEW
    actions_detail = ["register", "canary"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Strategy]:
        return super().get_queryset(request).prefetch_related("builds")

    @display(description="Builds and modes")
    def modes(self, row: Strategy) -> SafeString | str:
        builds = [build for build in row.builds.all() if not build.withdrawn_at][:5]  # type: ignore[attr-defined]
        links = [
            (reverse("admin:tradingbot_strategybuild_change", args=[b.pk]), b.build_id or "unnamed", b.mode)
            for b in builds
        ]
        return format_html_join(", ", '<a class="text-link" href="{}">{}</a>: {}', links) or "-"

    @display(description="Builds and modes")
    def modes_shown(self, row: Strategy) -> SafeString | str:
        return self.modes(row)

    def has_canary_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, "tradingbot.promote_build")

    @action(description="Canary and profile", permissions=["canary"], url_path="canary", icon="tune")
    def canary(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._found(request, object_id)
        form_class: Any = type("PrefilledCanaryForm", (CanaryForm,), {})
        for name in (*CANARY, "promotion_profile"):
            form_class.base_fields[name].initial = getattr(row, name)

        def perform(entered: dict[str, Any]) -> str:
            changes = {name: entered[name] for name in (*CANARY, "promotion_profile")}
            accounts.change_strategy(row.code, changes, actor=actor_of(request), reason=entered["reason"])
            return f"The caps and the profile of {row} are set."

        says = "The caps act on the next order. The profile is changed only while every build is in shadow."
        return ask(
            self, request, row, title=f"Canary and profile of {row}", explanation=says, button="Set them",
            facts=[("Builds and modes", self.modes(row))], perform=perform, form_class=form_class, danger=False,
        )  # fmt: skip

    def _found(self, request: HttpRequest, object_id: str) -> Strategy:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = Strategy.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if row is None:
            raise Http404(f"there is no strategy {object_id}")
        return row

    def has_register_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, "tradingbot.register_build")

    @action(description="Register a build", permissions=["register"], url_path="register-build", icon="add")
    def register(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._found(request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            about: dict[str, Any] = {"actor": actor_of(request), "reason": entered["reason"], "clock": SYSTEM_CLOCK}
            build = promotion.register_build(row, entered["build_id"].strip(), **about)
            return f"{build} is on file, in {build.mode}."

        says = "A new build begins in shadow, whatever the builds before it were trusted with."
        known = (
            ", ".join(
                StrategyBuild.objects.filter(strategy=row).exclude(build_id="").values_list("build_id", flat=True)[:20]
            )
            or "none"
        )
        return ask(
            self, request, row, title=f"Register a build of {row}", explanation=says, button="Register",
            facts=[("On file", known)], perform=perform, form_class=BuildForm, danger=False,
        )  # fmt: skip

    @display(description="State", label={"active": "success", "switched off": "danger"}, ordering="active")
    def state(self, row: Strategy) -> str:
        return "active" if row.active else "switched off"

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        return super().get_form(request, obj, change, form=StrategyForm if obj else NewStrategyForm, **options)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else ["code", "created_at", "modes_shown", "promotion_profile", *CANARY]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["code", "name"]})]
        why = [("Why", {"fields": ["reason"]})] if self.has_change_permission(request, obj) else []
        trust = [("How it is trusted", {"fields": ["modes_shown", "promotion_profile", *CANARY]})]
        return [(None, {"fields": ["code", "created_at", "name", "active"]}), *trust, *why]

    def create(self, request: HttpRequest, values: Mapping[str, Any]) -> Strategy:
        return accounts.create_strategy(actor=actor_of(request), **values)

    def change(self, request: HttpRequest, row: Strategy, changes: Mapping[str, Any], reason: str) -> Strategy:
        return accounts.change_strategy(row.code, changes, actor=actor_of(request), reason=reason)
