"""Every request has a trace id, and every answer says it together with the build that gave it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from backend.tradingbot.api.errors import problem
from backend.tradingbot.core.ids import trace_id_from
from backend.tradingbot.infra.build_info import build_id, build_stamp
from backend.tradingbot.infra.logging import TRACE_ID


def refused_nul() -> HttpResponse:
    """No name here has the character NUL in it, and PostgreSQL would refuse to look for it."""
    return problem(400, "invalid_input", "the address has the character NUL in it", "leave it out")


class TraceMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        trace_id = trace_id_from(request.headers.get("traceparent"))
        token = TRACE_ID.set(trace_id)
        try:
            nul = "\x00" in request.path_info or "%00" in request.META.get("QUERY_STRING", "")
            response = refused_nul() if nul else self.get_response(request)
        finally:
            TRACE_ID.reset(token)
        response["X-Trace-Id"] = trace_id
        response["X-Build-Id"] = build_id()
        response["X-Build-Stamp"] = build_stamp()
        return response
