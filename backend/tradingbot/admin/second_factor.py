"""The pages of the second factor, and the middleware that lets nobody pass without it who has one or must have one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.safestring import SafeString
from django_otp import login
from unfold.widgets import UnfoldAdminTextInputWidget

from backend.tradingbot.admin.asking import show_refusal
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.services import second_factor

GUARDED = "/admin/"
# Signing in and out, the pages of the second factor themselves, and words without anything of trading.
OPEN = ("/admin/login/", "/admin/logout/", "/admin/second-factor/", "/admin/jsi18n/")


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=32,
        label="Code",
        widget=UnfoldAdminTextInputWidget(
            attrs={"autofocus": True, "autocomplete": "one-time-code", "inputmode": "text", "spellcheck": "false"}
        ),
    )


def verified(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_verified", bool)())


class SecondFactorMiddleware:
    """Invariant: behind it, whoever is signed in under ``/admin/`` has given the code, unless none is set or needed."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = request.path_info
        if not path.startswith(GUARDED) or path.startswith(OPEN):
            return self.get_response(request)
        user = request.user
        if not isinstance(user, User) or verified(request):
            return self.get_response(request)
        has_one = second_factor.has_one(user)
        if not has_one and not settings.TRADINGBOT.require_totp:
            return self.get_response(request)
        if request.method != "GET" or "HX-Request" in request.headers:
            return HttpResponse("The second factor is asked for first: open the page anew.", status=403)
        page = reverse("second_factor" if has_one else "second_factor_set_up")
        return HttpResponseRedirect(f"{page}?{urlencode({'next': request.get_full_path()})}")


def ask_code(request: HttpRequest) -> HttpResponse:
    """The code of a device that is set up, or one of the backup codes."""
    user = _user(request)
    if not second_factor.has_one(user):
        return HttpResponseRedirect(reverse("second_factor_set_up"))
    form = CodeForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        device = second_factor.match(user, form.cleaned_data["code"])
        if device is not None:
            login(request, device)
            request.session.cycle_key()
            return HttpResponseRedirect(_next(request))
        form.add_error("code", "This is not the code. After a wrong one, wait: each makes the next wait longer.")
    return _page(request, "ask_code", "The second factor", form=form)


def set_up(request: HttpRequest) -> HttpResponse:
    """The QR code, and once a right code was given the backup codes, both shown to their owner only."""
    user = _user(request)
    form = CodeForm(request.POST if request.method == "POST" else None)
    try:
        device = second_factor.begin(user)
        if request.method == "POST" and form.is_valid():
            device, codes = second_factor.confirm(user, form.cleaned_data["code"], clock=SYSTEM_CLOCK)
            login(request, device)
            request.session.cycle_key()
            return _page(request, "backup_codes", "Backup codes", codes=codes, go_on=_next(request))
    except TradingbotError as error:
        if second_factor.has_one(user):
            return HttpResponseRedirect(reverse("admin:index" if verified(request) else "second_factor"))
        show_refusal(form, error)
    picture = SafeString(second_factor.picture_of(device))  # drawn by segno from our own address
    secret = device.config_url.split("secret=")[1].split("&")[0]
    return _page(request, "set_up", "Set up the second factor", form=form, picture=picture, secret=secret)


def _user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return User.objects.get(pk=request.user.pk)


def _next(request: HttpRequest) -> str:
    """Where the person was going, when that is here."""
    wanted = request.POST.get("next") or request.GET.get("next", "")
    here = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if here else reverse("admin:index")


def _page(request: HttpRequest, name: str, title: str, **context: Any) -> HttpResponse:
    form = context.get("form")
    answer = TemplateResponse(
        request,
        f"admin/tradingbot/second_factor/{name}.html",
        {**admin.site.each_context(request), "title": title, "next": _next(request), **context},
        status=422 if form is not None and form.errors else 200,
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


ask_code_view, set_up_view = admin.site.admin_view(ask_code), admin.site.admin_view(set_up)
