"""The answer to whoever has failed to sign in too often: until when, and who can help before that."""

from __future__ import annotations

from typing import Any

from axes.helpers import get_client_ip_address, get_client_username, get_cool_off
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from backend.tradingbot.core.clock import SYSTEM_CLOCK


def address_of(request: HttpRequest) -> str:
    """Whose address counts: the connection's, or behind ``TRUSTED_PROXIES`` proxies what the outermost of them saw."""
    proxies = settings.TRADINGBOT.trusted_proxies
    seen = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    if proxies and len(seen) >= proxies:
        return seen[-proxies]
    return str(request.META.get("REMOTE_ADDR", ""))


def locked_out(request: HttpRequest, _: Any = None, credentials: dict[str, Any] | None = None) -> HttpResponse:
    """429 with the moment at which the next attempt counts again."""
    name, pause = get_client_username(request, credentials) or "", get_cool_off(request)
    failed = AccessAttempt.objects.filter(username=name, ip_address=get_client_ip_address(request))
    last = failed.order_by("-attempt_time").values_list("attempt_time", flat=True).first() or SYSTEM_CLOCK.now()
    context = {
        **admin.site.each_context(request),
        "title": "Locked",
        "name": name,
        "failures": settings.AXES_FAILURE_LIMIT,
        "until": None if pause is None else last + pause,
    }
    answer = TemplateResponse(request, "admin/tradingbot/locked_out.html", context, status=429)
    if pause is not None:
        answer.headers["Retry-After"] = str(max(int((last + pause - SYSTEM_CLOCK.now()).total_seconds()), 1))
    return answer.render()
