"""The page that lays two sets of limits side by side: two profiles, an account and its profile, a scope at two moments.

A pure read. Every value stands beside the other, with the change in percent and in a word, so that no colour is needed.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from backend.tradingbot.admin.rendering import grouped
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import LimitVersion
from backend.tradingbot.risk.limit_profiles import PROFILES
from backend.tradingbot.risk.limits import KINDS
from backend.tradingbot.selectors.limit_sets import PROFILE, Change, compared, scopes_with_limits


class CompareForm(forms.Form):
    """Two sets of limits, each a profile or a scope at a moment; without a moment it is now."""

    first = forms.ChoiceField(label="From", widget=UnfoldAdminSelectWidget())
    first_at = forms.DateTimeField(label="As it stood at", required=False, help_text="2026-03-02 15:00; empty is now")
    second = forms.ChoiceField(label="To", widget=UnfoldAdminSelectWidget())
    second_at = forms.DateTimeField(label="As it stood at", required=False, help_text="2026-03-02 15:00; empty is now")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        profiles = [(f"{PROFILE}{name}", f"profile {name}") for name in PROFILES]
        choices = [*profiles, *((scope, scope) for scope in scopes_with_limits())]
        for name in ("first", "second"):
            self.fields[name].choices = choices  # type: ignore[attr-defined]
            self.fields[f"{name}_at"].widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"})

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        for name in ("first", "second"):
            if values.get(f"{name}_at") and str(values.get(name)).startswith(PROFILE):
                self.add_error(f"{name}_at", "a profile ships with the build and has no earlier state: leave it empty")
        return values


def compare_page(admin: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """GET with the form's fields in the address compares; without them it only asks what to compare."""
    if not admin.has_view_permission(request):
        raise PermissionDenied
    form = CompareForm(request.GET if "first" in request.GET else None)
    changes, now = None, SYSTEM_CLOCK.now()
    if form.is_valid():
        given = form.cleaned_data
        changes = compared(given["first"], given["first_at"] or now, given["second"], given["second_at"] or now)
    more: dict[str, Any] = {"form": form, "changes": None, "same": 0}
    if changes is not None:
        different = [change for change in changes if change.direction != "the same"]
        more |= {
            "changes": [(KINDS[change.kind], line(change)) for change in different],
            "same": len(changes) - len(different),
            "looser": sum(1 for change in different if change.direction == "looser"),
            "tighter": sum(1 for change in different if change.direction == "tighter"),
            "sides": [_side(form.cleaned_data, name, now) for name in ("first", "second")],
        }
    context = {**admin.admin_site.each_context(request), "opts": LimitVersion._meta, "title": "Compare limits", **more}
    status = 422 if form.errors else 200
    return TemplateResponse(request, "admin/tradingbot/limit_compare.html", context, status=status)


def _side(given: dict[str, Any], name: str, now: datetime) -> str:
    if given[name].startswith(PROFILE):
        return f"profile {given[name].removeprefix(PROFILE)}"
    return f"{given[name]} at {(given[f'{name}_at'] or now):%Y-%m-%d %H:%M} UTC"


def line(change: Change) -> dict[str, str]:
    """One change as text: both values, the percent with its sign, and which way."""
    return {
        "before": amount(change.before),
        "after": amount(change.after),
        "percent": percent(change),
        "direction": change.direction,
    }


def percent(change: Change) -> str:
    return "-" if change.percent is None else f"{change.percent:+,.1f} %"


def amount(value: Decimal | None) -> str:
    return "no limit" if value is None else grouped(plain(value) or "0")
