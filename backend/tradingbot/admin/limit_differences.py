"""The page that compares all limits of two moments: what differs, which way, and who set what is in force at the later.

A pure read: the same differences as ``GET limits/differences``, with the way and the person beside each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from backend.tradingbot.admin.rendering import grouped
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import LimitVersion
from backend.tradingbot.risk.limits import KINDS
from backend.tradingbot.selectors.limits import limits_changed

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


@dataclass(frozen=True)
class Difference:
    scope: str
    kind: str
    gate: str
    before: str
    after: str
    change: str
    version: LimitVersion | None


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
        "differences": [] if moments is None else differences(*moments),
    }
    return TemplateResponse(request, "admin/tradingbot/limit_differences.html", context, status=200 if asked else 422)


def differences(since: datetime, until: datetime) -> list[Difference]:
    """Two statements for the values, one for the versions that stand at ``until``."""
    changed = limits_changed(since, until)
    standing = LimitVersion.objects.filter(
        state="in_force",
        effective_from__lte=until,
        set_at__lte=until,
        scope__in={each["scope"] for each in changed},
        kind__in={each["kind"] for each in changed},
    ).order_by("version")
    newest = {(row.scope, row.kind): row for row in standing if row.decided_at is None or row.decided_at <= until}
    return [_difference(each, newest.get((each["scope"], each["kind"]))) for each in changed]


def _difference(change: dict[str, Any], version: LimitVersion | None) -> Difference:
    kind, before, after = change["kind"], change["before"], change["after"]
    return Difference(
        change["scope"],
        kind,
        KINDS[kind].gate if kind in KINDS else "",
        _said(before),
        _said(after),
        way(kind, before, after),
        version,
    )


def _said(value: Decimal | None) -> str:
    return "none" if value is None else grouped(plain(value) or "none")


def way(kind: str, before: Decimal | None, after: Decimal | None) -> str:
    """Which way from one value to the other, whatever the versions between them did."""
    if before is None or after is None:
        return "new" if before is None else "taken away"
    tighter = after > before if kind in KINDS and KINDS[kind].higher_is_tighter else after < before
    return "tightened" if tighter else "loosened"
