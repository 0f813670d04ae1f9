"""A page of its own for an action that must not be taken by a slip: it shows the facts and asks for the reason.

The page calls one service with who and why; what the service refuses is shown beside the field, and nothing was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from backend.tradingbot.core.errors import InvalidInputError, TradingbotError


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True, "autocomplete": "off"}),
        help_text="Kept for good in the events and in the journal, with your name.",
    )


class ForceForm(ReasonForm):
    force = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Reset although the cooldown runs or the cause still holds. Recorded as forced.",
    )


def show_refusal(form: forms.BaseForm, error: TradingbotError) -> None:
    """Put what a service said at its field, or above the form."""
    if not isinstance(error, InvalidInputError):
        form.add_error(None, f"{error.message}. {error.remedy.capitalize()}." if error.remedy else error.message)
        return
    for item in error.errors:
        text = f"{item.problem}: {item.remedy}"
        known = item.field in form.fields
        form.add_error(item.field if known else None, text if known else f"{item.field} {text}")


def ask(
    admin: ModelAdmin,
    request: HttpRequest,
    row: Model,
    *,
    title: str,
    explanation: str,
    button: str,
    facts: Sequence[tuple[str, Any]],
    perform: Callable[[dict[str, Any]], str],
    form_class: type[ReasonForm] = ReasonForm,
    danger: bool = True,
) -> HttpResponse:
    """Show the page, or on POST call ``perform`` with what was entered and go back to the row with its message."""
    options = row._meta
    back = reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[row.pk])
    if "force" in request.POST and "force" not in form_class.base_fields:
        raise PermissionDenied
    form = form_class(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            messages.success(request, perform(form.cleaned_data))
            return HttpResponseRedirect(back)
        except TradingbotError as error:
            show_refusal(form, error)
    context = {
        **admin.admin_site.each_context(request),
        "opts": options,
        "title": title,
        "row": row,
        "explanation": explanation,
        "button": button,
        "facts": facts,
        "form": form,
        "variant": "danger" if danger else "primary",
        "back": back,
    }
    answer = TemplateResponse(request, "admin/tradingbot/ask.html", context)
    answer.status_code = 422 if form.errors else 200
    return answer
