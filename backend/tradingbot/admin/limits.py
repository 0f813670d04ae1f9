"""Limits with their history, permits, disabled patterns, and what is used of them now.

Setting, approving, refusing and enabling ask for a reason and call one service; all else is read-only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget

from backend.tradingbot.admin.asking import ReasonForm, ask
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.limit_compare import amount, compare_page, percent
from backend.tradingbot.admin.limit_differences import differences_page
from backend.tradingbot.admin.rendering import grouped, label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_decimal
from backend.tradingbot.core.values import plain
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
from backend.tradingbot.risk.limits import KINDS
from backend.tradingbot.selectors.limit_sets import history_of
from backend.tradingbot.selectors.limits import with_followed
from backend.tradingbot.services.limits import BEGINNING, decide_limit, set_limit
from backend.tradingbot.services.permits import enable_pattern

SET_LIMIT, ENABLE = "tradingbot.set_limit", "tradingbot.enable_pattern"
STATES = {"in_force": "success", "waiting": "warning", "refused": "danger"}


class ValueForm(ReasonForm):
    value = forms.CharField(
        required=False,
        max_length=32,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "inputmode": "decimal"}),
        help_text="The new value. Left empty it takes the limit away.",
    )


def _found(admin_class: Any, request: HttpRequest, model: type[Model], object_id: str) -> Any:
    if not admin_class.has_view_permission(request):
        raise PermissionDenied
    row = admin_class.get_queryset(request).filter(pk=object_id).first() if object_id.isdigit() else None
    if row is None:
        raise Http404(f"there is no {model._meta.verbose_name} {object_id}")
    return row


@admin.register(LimitVersion)
class LimitVersionAdmin(EvidenceAdmin):
    list_display = ["scope", "kind", "before", "shown_value", "change", "badge", "version", "since", "set_by", "reason"]
    list_filter = ["state", "kind"]
    search_fields = ["scope", "kind", "set_by", "reason"]
    actions_list = ["differences", "compare"]
    actions_detail = ["new_value", "approve", "refuse"]
    change_form_before_template = "admin/tradingbot/limit_history.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[LimitVersion]:
        return with_followed(super().get_queryset(request))

    @display(description="Value")
    def shown_value(self, row: LimitVersion) -> str:
        return grouped(plain(row.value) or "taken away")

    @display(description="Before")
    def before(self, row: LimitVersion) -> str:
        return "-" if row.version == 1 else amount(row.followed)  # type: ignore[attr-defined]

    @display(description="Change")
    def change(self, row: LimitVersion) -> str:
        """Which way, as a word; the first value of a limit that stood from the start is no change."""
        if row.version == 1 and row.effective_from == BEGINNING:
            return "-"
        if row.state != "in_force":
            return "would loosen" if row.loosens else "would tighten"
        return "loosened" if row.loosens else "tightened"

    @display(description="Effective from", ordering="effective_from")
    def since(self, row: LimitVersion) -> str:
        return "the start" if row.effective_from == BEGINNING else f"{row.effective_from:%Y-%m-%d %H:%M:%S}"

    @display(description="State", ordering="state")
    def badge(self, row: LimitVersion) -> SafeString:
        """As it is now: of the versions of one limit that were ever in force, one is, the newest that is effective."""
        if row.state != "in_force":
            return label(row.state, STATES.get(row.state, ""))
        if row.replaced:  # type: ignore[attr-defined]
            return label("replaced", "")
        return label("planned", "") if row.effective_from > timezone.now() else label("in force", STATES["in_force"])

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With every version of the same limit above the one that is open, each against the value that it followed."""
        row = self.get_object(request, object_id)
        versions = [] if row is None else history_of(row.scope, row.kind)
        history = [
            {
                "row": each,
                "here": each.pk == row.pk,
                "before": self.before(each),
                "percent": percent(followed),
                "value": self.shown_value(each),
                "change": self.change(each),
                "state": self.badge(each),
                "since": self.since(each),
            }
            for each, followed in versions
        ]
        shown = {"history": history, "kind": None if row is None else KINDS.get(row.kind)}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    def has_set_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, SET_LIMIT)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what waits can be approved or refused."""
        row = LimitVersion.objects.filter(pk=object_id).first()
        waits = row is not None and row.state == "waiting"
        allowed = super().get_actions_detail(request, object_id)
        return [act for act in allowed if waits or act.action_name.endswith("new_value")]

    @action(description="What changed", url_path="differences", icon="difference")
    def differences(self, request: HttpRequest) -> HttpResponse:
        return differences_page(self, request)

    @action(description="Compare", url_path="compare", icon="compare_arrows")
    def compare(self, request: HttpRequest) -> HttpResponse:
        return compare_page(self, request)

    @action(description="New value", permissions=["set"], url_path="new-value", icon="tune")
    def new_value(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: LimitVersion = _found(self, request, LimitVersion, object_id)

        def perform(entered: dict[str, Any]) -> str:
            errors = FieldErrors()
            text = entered["value"].strip()
            value = parse_decimal(text, "value", errors, positive=False) if text else None
            if errors:
                raise InvalidInputError(errors.errors)
            made = set_limit(
                row.scope, row.kind, value, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK
            )
            waits = "waits for a second person" if made.state == "waiting" else "is in force"
            return f"Version {made.version} of {row.kind} of {row.scope} {waits}."

        return self._ask(request, row, f"New value for {row.kind} of {row.scope}", "Set it", perform, ValueForm)

    @action(description="Approve", permissions=["set"], url_path="approve", icon="check")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, approve=True)

    @action(description="Refuse", permissions=["set"], url_path="refuse", icon="close")
    def refuse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, approve=False)

    def _decide(self, request: HttpRequest, object_id: str, *, approve: bool) -> HttpResponse:
        row: LimitVersion = _found(self, request, LimitVersion, object_id)
        word = "Approve" if approve else "Refuse"

        def perform(entered: dict[str, Any]) -> str:
            decide_limit(row.pk, approve=approve, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK)
            return f"{row} is {'in force' if approve else 'refused'}."

        return self._ask(request, row, f"{word} {row}", word, perform, ReasonForm)

    def _ask(
        self,
        request: HttpRequest,
        row: LimitVersion,
        title: str,
        button: str,
        perform: Callable[[dict[str, Any]], str],
        form_class: type[ReasonForm],
    ) -> HttpResponse:
        facts = [
            ("Value", self.shown_value(row)),
            ("Before", self.before(row)),
            ("State", self.badge(row)),
            ("Set by", f"{row.set_by}: {row.reason}"),
        ]
        explanation = "Tightening acts on the very next order. Loosening waits for a second person."
        return ask(
            self,
            request,
            row,
            title=title,
            explanation=explanation,
            button=button,
            facts=facts,
            perform=perform,
            form_class=form_class,
            danger=False,
        )


@admin.register(DisabledPattern)
class DisabledPatternAdmin(EvidenceAdmin):
    list_display = ["account", "strategy", "symbol", "side", "qty", "disabled_at", "enabled_at", "enabled_by"]
    list_filter = ["account", "strategy"]
    list_select_related = ["account", "strategy"]
    actions_detail = ["enable"]

    def has_enable_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, ENABLE)

    @action(description="Enable", permissions=["enable"], url_path="enable", icon="restart_alt")
    def enable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: DisabledPattern = _found(self, request, DisabledPattern, object_id)

        def perform(entered: dict[str, Any]) -> str:
            enable_pattern(row.pk, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK)
            return f"{row} may trade again; its count begins anew."

        return ask(
            self,
            request,
            row,
            title=f"Enable {row}",
            explanation="The pattern repeated too often and was disabled. Orders like it are let through again.",
            button="Enable",
            facts=[("Why", row.why), ("Disabled", row.disabled_at)],
            perform=perform,
        )


@admin.register(Permit)
class PermitAdmin(EvidenceAdmin):
    list_display = ["permit_id", "account", "symbol", "side", "qty", "given_by", "expires_at", "used_at", "used_by"]
    list_select_related = ["account"]
    search_fields = ["permit_id", "used_by", "given_by"]


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
