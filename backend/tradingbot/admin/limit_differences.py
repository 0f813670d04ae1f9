"""The page that compares all limits of two moments: what differs, which way, and who set what is in force at the later.

A pure read: the same differences as ``GET limits/differences``, with the way and the person beside each.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from backend.tradingbot.admin.limit_compare import line
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import LimitVersion
from backend.tradingbot.risk.limits import KINDS
from backend.tradingbot.selectors.limit_sets import Difference, limits_changed

SHOWN, A_WEEK = "%Y-%m-%d %H:%M:%S", timedelta(days=7)


class MomentsForm(forms.Form):
    since = forms.DateTimeField(help_text="UTC, for example 2026-03-02 15:00", widget=UnfoldAdminTextInputWidget())
    until = forms.DateTimeField(
        required=False, help_text="UTC; empty means now", widget=UnfoldAdminTextInputWidget(), label="Until"
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        values["until"] = values.get("until") or SYSTEM_CLOCK.now()
        if "since" in values and values["since"] >= values["until"]:
            self.add_error("since", "must be before the later moment; name an earlier one")
        return values


def differences_page(admin: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """Without a query: the last seven days."""
    if not admin.has_view_permission(request):
        raise PermissionDenied
    begun = SYSTEM_CLOCK.now() - A_WEEK
    form = MomentsForm(request.GET if "since" in request.GET else {"since": begun.strftime(SHOWN)})
    asked = form.is_valid()
    moments = (form.cleaned_data["since"], form.cleaned_data["until"]) if asked else None
    context = {
        **admin.admin_site.each_context(request),
        "opts": LimitVersion._meta,
        "title": "What changed in the limits",
        "form": form,
        "moments": moments,
        "differences": [] if moments is None else [_line(found) for found in limits_changed(*moments)],
    }
    return TemplateResponse(request, "admin/tradingbot/limit_differences.html", context, status=200 if asked else 422)


def _line(found: Difference) -> dict[str, Any]:
    return {"scope": found.scope, "kind": KINDS.get(found.change.kind), "version": found.version, **line(found.change)}
