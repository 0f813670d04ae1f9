"""A page for an act that has no row yet: starting a run, uploading a statement, saving the next version of a rule.

The page calls one service; what the service refuses is shown at its field, and nothing was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from backend.tradingbot.admin.asking import show_refusal
from backend.tradingbot.core.errors import TradingbotError


def row_of(admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The row that an address names, for those who may see it."""
    if not admin.has_view_permission(request):
        raise PermissionDenied
    model: type[Model] = admin.model
    row = model._default_manager.filter(pk=object_id).first() if object_id.isdigit() and len(object_id) < 19 else None
    if row is None:
        raise Http404(f"there is no {model._meta.verbose_name} {object_id}")
    return row


def enter(
    admin: ModelAdmin,
    request: HttpRequest,
    *,
    title: str,
    explanation: str,
    button: str,
    form_class: type[forms.Form],
    perform: Callable[[dict[str, Any]], tuple[str, str]],
    back: str,
    facts: Sequence[tuple[str, Any]] = (),
    initial: Mapping[str, Any] | None = None,
    figures: Any = "",
    danger: bool = False,
    post_to: str = "",
) -> HttpResponse:
    """Show the form, or on POST call ``perform``, which returns the message and where to go; a refusal is a 422.

    With ``post_to`` the form is only shown, and sent to that address.
    """
    posted = request.method == "POST" and not post_to
    form = form_class(request.POST, request.FILES) if posted else form_class(initial=dict(initial or {}))
    if posted and form.is_valid():
        try:
            message, url = perform(form.cleaned_data)
            messages.success(request, message)
            return HttpResponseRedirect(url)
        except TradingbotError as error:
            show_refusal(form, error)
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.model._meta,
        "title": title,
        "explanation": explanation,
        "button": button,
        "facts": facts,
        "figures": figures,
        "form": form,
        "variant": "danger" if danger else "primary",
        "back": back,
        "post_to": post_to,
    }
    answer = TemplateResponse(request, "admin/tradingbot/enter.html", context)
    answer.status_code = 422 if form.errors else 200
    return answer
