"""Every request has a trace id, and every answer says it together with the build that gave it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from backend.tradingbot.api.errors import problem
from backend.tradingbot.infra import tracing
from backend.tradingbot.infra.build_info import build_id, build_stamp


def refused_nul() -> HttpResponse:
    """No name here has the character NUL in it, and PostgreSQL would refuse to look for it."""
    return problem(400, "invalid_input", "the address has the character NUL in it", "leave it out")


class TraceMiddleware:
    """The trace is the caller's where a W3C ``traceparent`` names one. A span is named by the route, never by the path:
    a path may carry what somebody typed."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        method = request.method or "GET"
        with (
            tracing.continued(request.headers.get("traceparent")) as trace_id,
            tracing.span(method, kind="SERVER", http__request__method=method) as span,
        ):
            nul = "\x00" in request.path_info or "%00" in request.META.get("QUERY_STRING", "")
            response = refused_nul() if nul else self.get_response(request)
            route = "" if request.resolver_match is None else "/" + request.resolver_match.route.strip("^$/")
            span.rename(f"{method} {route}".strip())
            span.note(http__route=route, http__response__status_code=response.status_code)
        response["X-Trace-Id"] = trace_id
        response["X-Build-Id"] = build_id()
        response["X-Build-Stamp"] = build_stamp()
        return response
