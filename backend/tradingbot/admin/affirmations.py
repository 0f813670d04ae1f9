"""Affirming a day: the figures on both sides, their hash, and a signature by one person or by two.

Whoever signs is shown the figures whose hash goes with the signature; figures that changed meanwhile are not signed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from backend.tradingbot.admin.entering import enter, row_of
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Affirmation
from backend.tradingbot.selectors.recon_runs import SIGNED
from backend.tradingbot.services import affirmations
from backend.tradingbot.services.recon_page import figure

SIGN = "tradingbot.sign_affirmation"
STATES = {
    "signed": "success", "waits": "warning", "waits for a second": "warning", "overdue": "danger", "replaced": "",
}  # fmt: skip


def state_of(row: Affirmation) -> str:
    if row.replaced_at is not None:
        return "replaced"
    if affirmations.is_signed(row):
        return "signed"
    if row.due_at < SYSTEM_CLOCK.now():
        return "overdue"
    return "waits for a second" if row.signed_by else "waits"


def figures_of(row: Affirmation) -> list[tuple[str, str, str, bool]]:
    """``(what, ours, the broker's, equal)``: cash first, then every symbol that either side holds."""
    told = row.snapshot
    lines = [("cash", told.get("cash"), told.get("broker_cash"), 2)]
    ours, theirs = told.get("positions") or {}, told.get("broker_positions") or {}
    lines += [(symbol, ours.get(symbol, "0"), theirs.get(symbol, "0"), 0) for symbol in sorted({*ours, *theirs})]
    return [(name, figure(a, places), figure(b, places), _equal(a, b)) for name, a, b, places in lines]


def _equal(one: Any, other: Any) -> bool:
    return one is not None and other is not None and Decimal(str(one)) == Decimal(str(other))


class SignatureForm(forms.Form):
    sha256 = forms.CharField(max_length=64, widget=forms.HiddenInput())


class WaitingFilter(admin.SimpleListFilter):
    title, parameter_name = "signature", "signature"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waits", "Waits"), ("overdue", "Overdue"), ("signed", "Signed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Affirmation]) -> QuerySet[Affirmation]:
        stands = Q(replaced_at=None)
        wanted = {
            "waits": stands & ~SIGNED,
            "overdue": stands & ~SIGNED & Q(due_at__lt=SYSTEM_CLOCK.now()),
            "signed": stands & SIGNED,
        }.get(self.value() or "")
        return queryset if wanted is None else queryset.filter(wanted)


@admin.register(Affirmation)
class AffirmationAdmin(EvidenceAdmin):
    list_display = ["session", "account", "badge", "due_at", "signed_by", "second_by", "hash_short"]
    list_filter = [WaitingFilter, "account"]
    list_select_related = ["account"]
    ordering = [F("session").desc(), "account__code", "-id"]
    actions_detail = ["sign"]
    change_form_template = "admin/tradingbot/page_form.html"
    change_form_before_template = "admin/tradingbot/affirmation.html"

    class Media:
        css = {"all": ["tradingbot/recon.css"]}

    @display(description="State")
    def badge(self, row: Affirmation) -> SafeString:
        found = state_of(row)
        return label(found, STATES[found])

    @display(description="Hash")
    def hash_short(self, row: Affirmation) -> str:
        return row.sha256[:12]

    def has_sign_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, SIGN)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return []

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """What is signed, or has given way to newer figures, is not signed again."""
        row = Affirmation.objects.filter(pk=object_id, replaced_at=None).first()
        waits = row is not None and not affirmations.is_signed(row)
        return super().get_actions_detail(request, object_id) if waits else []

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        shown = {} if row is None else {"row": row, "badge": self.badge(row), "lines": figures_of(row)}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    @action(description="Sign", permissions=["sign"], url_path="sign", icon="draw", variant=ActionVariant.PRIMARY)
    def sign(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: Affirmation = row_of(self, request, object_id)
        back = reverse("admin:tradingbot_affirmation_change", args=[row.pk])

        def perform(entered: dict[str, Any]) -> tuple[str, str]:
            done = affirmations.sign(row.pk, sha256=entered["sha256"], actor=actor_of(request), clock=SYSTEM_CLOCK)
            return ("It is affirmed." if affirmations.is_signed(done) else "Signed; a second person has to sign."), back

        figures = render_to_string("admin/tradingbot/affirmation.html", {"row": row, "lines": figures_of(row)})
        return enter(
            self, request, title=f"Sign {row.account.code}, session {row.session}", button="Sign these figures",
            explanation="With your name you affirm the positions and the cash below, as they stood at the cut.",
            form_class=SignatureForm, perform=perform, back=back, initial={"sha256": row.sha256},
            figures=figures,
        )  # fmt: skip
