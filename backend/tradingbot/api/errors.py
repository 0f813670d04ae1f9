"""The only place that knows HTTP status codes: one table from code to status, answers by RFC 9457."""

from __future__ import annotations

from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.defaults import page_not_found, server_error
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated, UnsupportedMediaType

from backend.tradingbot.brokers.answers import BrokerInDoubtError, BrokerQueryError, BrokerUnreachableError
from backend.tradingbot.core.errors import (
    ConflictError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    TradingbotError,
    UnavailableError,
)
from backend.tradingbot.infra.logging import TRACE_ID

log = structlog.get_logger(__name__)

BY_CODE = {"client_order_id_reused": 422, "order_denied": 422, "broker_rejected": 422}
BY_KIND: list[tuple[type[Exception], int]] = [
    (InvalidInputError, 400),
    (NotAllowedError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
    (UnavailableError, 503),
    (BrokerQueryError, 503),
    (BrokerInDoubtError, 503),
    (BrokerUnreachableError, 503),
    (TradingbotError, 422),
]


def problem(status: int, code: str, detail: str, remedy: str = "", **more: Any) -> JsonResponse:
    """A problem+json answer with a stable ``code``."""
    body = {"type": f"urn:tradingbot:{code}", "title": code.replace("_", " "), "status": status, "code": code}
    body |= {"detail": detail, "remedy": remedy, "trace_id": TRACE_ID.get(), **more}
    return JsonResponse(body, status=status, content_type="application/problem+json")


def no_such_address(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What answers where no view is: the API's programs read JSON, people read the site's page."""
    if request.path.startswith("/api/"):
        return problem(404, "not_found", f"there is no {request.path[:200]}", "see /api/docs/")
    return page_not_found(request, exception)


def unexpected(request: HttpRequest) -> HttpResponse:
    """An error outside the API's views, which answer for themselves; the log has it under the trace id."""
    if request.path.startswith("/api/"):
        return problem(500, "internal_error", "the server failed", "report the trace_id; read the order before you act")
    return server_error(request)


def _explained(error: APIException, context: Any) -> tuple[str, str]:
    """What a refusal that DRF makes is about, and what to do."""
    said = str(error.detail)
    if isinstance(error, AuthenticationFailed):
        return (
            said,
            "check that the whole key was copied and that this server made it; an administrator makes a new one",
        )
    if isinstance(error, NotAuthenticated):
        scheme = context["request"].headers.get("Authorization", "").partition(" ")[0]
        said = (
            "there is no header Authorization" if not scheme else "the header Authorization bears no key after Bearer"
        )
        if scheme and scheme.lower() != "bearer":
            said = f"the header Authorization begins with {scheme[:20]!r}, not with 'Bearer'"
        return said, "send the header Authorization: Bearer <key>"
    if isinstance(error, UnsupportedMediaType):
        return said, "send JSON with the header Content-Type: application/json"
    return said, "see /api/docs/"


def problem_response(error: Exception, context: Any) -> HttpResponse | None:
    """DRF's exception handler."""
    if isinstance(error, OperationalError | InterfaceError):
        log.error("database_unavailable", problem=type(error).__name__)
        answer = problem(503, "unavailable", "the database does not answer", "repeat the same request later")
        answer["Retry-After"] = "2"
        return answer
    if isinstance(error, TradingbotError):
        status = BY_CODE.get(error.code) or next(code for kind, code in BY_KIND if isinstance(error, kind))
        more = {"errors": [e.as_dict() for e in error.errors]} if isinstance(error, InvalidInputError) else {}
        return problem(status, error.code, error.message, error.remedy, **more)
    if isinstance(error, APIException):
        code = "unauthorized" if error.status_code == 401 else str(error.default_code)
        detail, remedy = _explained(error, context)
        answer = problem(error.status_code, code, detail, remedy)
        if error.status_code == 401:
            answer["WWW-Authenticate"] = "Bearer"
        return answer
    log.exception("unexpected_error")
    return problem(500, "internal_error", "the server failed", "report the trace_id; read the order before you act")
