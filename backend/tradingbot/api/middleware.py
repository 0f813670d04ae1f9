"""Every request has a trace id, and every answer says it together with the build that gave it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from backend.tradingbot.core.ids import trace_id_from
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID


class TraceMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        trace_id = trace_id_from(request.headers.get("traceparent"))
        token = TRACE_ID.set(trace_id)
        try:
            response = self.get_response(request)
        finally:
            TRACE_ID.reset(token)
        response["X-Trace-Id"] = trace_id
        response["X-Build-Id"] = build_id()
        return response
