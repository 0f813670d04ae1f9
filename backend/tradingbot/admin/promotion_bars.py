"""What promotions ask for, by profile and step: every version, setting a new one, and the second person's word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from backend.tradingbot.admin.asking import ReasonForm, ask
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import PromotionBar
from backend.tradingbot.services import promotion_bars

SET = "tradingbot.set_promotionbar"
STATES = {"in_force": "success", "waiting": "warning", "refused": "danger"}


def _number(kind: type[forms.Field], says: str, required: bool = True) -> forms.Field:
    widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "inputmode": "decimal"})
    return kind(required=required, widget=widget, help_text=says)


def _told(value: float | None) -> str:
    """A bound in words: none is a number too, and what is not asked for says so."""
    if value is None:
        return "not asked"
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.10g}"


class BarForm(ReasonForm):
    min_days = _number(forms.IntegerField, "Session days with orders in the mode before.")
    min_orders = _number(forms.IntegerField, "Orders that the gates let through in it.")
    max_slippage_bps = _number(
        forms.FloatField, "Shadow against live, at most within both intervals. Empty: any.", False
    )
    max_fill_rate_difference = _number(forms.FloatField, "The same of fill rates, 0.2 is 20 %. Empty: any.", False)
    max_hard_verdicts = _number(forms.IntegerField, "Hard stops of market data allowed in its symbols.")
    max_open_breaks = _number(forms.IntegerField, "Open breaks allowed in its accounts.")
    max_open_breakers = _number(
        forms.IntegerField, "Open breakers allowed of the firm, the strategy and its accounts together."
    )
    second_person = forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget())
    field_order = [*promotion_bars.FIELDS, "reason"]


@admin.register(PromotionBar)
class PromotionBarAdmin(EvidenceAdmin):
    list_display = ["profile", "to_mode", "version", "badge", "min_days", "min_orders", "max_slippage_bps", "set_by"]
    list_filter = ["state", "profile", "to_mode"]
    search_fields = ["profile", "set_by", "reason"]
    actions_detail = ["new_version", "approve", "refuse"]
    hidden = ["state"]
    groups = [
        (None, ["profile to_mode", "version badge"]),
        ("What it asks for", [
            "min_days min_orders", "max_slippage_bps max_fill_rate_difference", "max_hard_verdicts max_open_breaks",
            "max_open_breakers second_person", "loosens",
        ]),
        ("Record", ["set_by set_at", "reason", "decided_by decided_at", "decision_reason", "build_id build_stamp"]),
    ]  # fmt: skip

    @display(description="State", ordering="state")
    def badge(self, row: PromotionBar) -> SafeString:
        return label(row.state.replace("_", " "), STATES.get(row.state, ""))

    def has_set_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, SET)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what waits can be approved or refused."""
        row = PromotionBar.objects.filter(pk=object_id).first()
        waits = row is not None and row.state == "waiting"
        allowed = super().get_actions_detail(request, object_id)
        return [act for act in allowed if waits or act.action_name.endswith("new_version")]

    @action(description="New version", permissions=["set"], url_path="new-version", icon="tune")
    def new_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._found(request, object_id)
        now = {name: getattr(row, name) for name in promotion_bars.FIELDS}
        prefilled: Any = type("PrefilledBarForm", (BarForm,), {})
        for name, value in now.items():
            prefilled.base_fields[name].initial = value

        def perform(entered: dict[str, Any]) -> str:
            values = {name: entered[name] for name in promotion_bars.FIELDS}
            about: dict[str, Any] = {"actor": actor_of(request), "reason": entered["reason"], "clock": SYSTEM_CLOCK}
            made = promotion_bars.set_bar(row.profile, row.to_mode, values, **about)
            waits = "waits for a second person" if made.state == "waiting" else "is in force"
            return f"Version {made.version} of {row.profile} to {row.to_mode} {waits}."

        return self._ask(request, row, f"New version of {row.profile} to {row.to_mode}", "Set it", perform, prefilled)

    @action(description="Approve", permissions=["set"], url_path="approve", icon="check")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, approve=True)

    @action(description="Refuse", permissions=["set"], url_path="refuse", icon="close")
    def refuse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, approve=False)

    def _decide(self, request: HttpRequest, object_id: str, *, approve: bool) -> HttpResponse:
        row = self._found(request, object_id)
        word = "Approve" if approve else "Refuse"

        def perform(entered: dict[str, Any]) -> str:
            about: dict[str, Any] = {"actor": actor_of(request), "reason": entered["reason"], "clock": SYSTEM_CLOCK}
            promotion_bars.decide_bar(row.pk, approve=approve, **about)
            return f"{row} is {'in force' if approve else 'refused'}."

        return self._ask(request, row, f"{word} {row}", word, perform, ReasonForm)

    def _found(self, request: HttpRequest, object_id: str) -> PromotionBar:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = PromotionBar.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if row is None:
            raise Http404(f"there is no version {object_id}")
        return row

    def _ask(
        self, request: HttpRequest, row: PromotionBar, title: str, button: str,
        perform: Callable[[dict[str, Any]], str], form_class: type[ReasonForm],
    ) -> HttpResponse:  # fmt: skip
        facts = [("State", self.badge(row)), ("Set by", f"{row.set_by}: {row.reason}")]
        facts += [(name.replace("_", " ").capitalize(), _told(getattr(row, name))) for name in promotion_bars.FIELDS]
        says = "Asking for more acts at once. Asking for less waits for a second person."
        return ask(
            self, request, row, title=title, explanation=says, button=button, facts=facts, perform=perform,
            form_class=form_class, danger=False,
        )  # fmt: skip
