"""Breakers, build and health over REST."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.api.errors import problem
from backend.tradingbot.api.schema import A_BREAKER, REASON, body, listed
from backend.tradingbot.brokers.registry import broker_fault
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.infra.build_info import build_facts, build_stamp, version_info
from backend.tradingbot.models import Breaker
from backend.tradingbot.selectors.database_server import durability_faults, server_settings
from backend.tradingbot.services import breakers, stream
from backend.tradingbot.services.breaker_resets import ask_reset
from backend.tradingbot.services.heartbeats import age_of

STREAM_SILENT_SECONDS = 15


def shown(row: Breaker) -> dict[str, Any]:
    status = breakers.restore(row, SYSTEM_CLOCK).status()
    day = row.state if row.session is not None and isinstance(row.state, dict) else {}
    return {
        "scope": row.scope,
        "tripped": row.tripped_at is not None,
        "reason": row.reason or None,
        "tripped_at": rfc3339(row.tripped_at),
        "cooldown_remaining_sec": status["cooldown_remaining_sec"],
        "later_causes": status["later_causes"],
        "holding_causes": status["holding_causes"],
        "errors_last_min": status["errors_last_min"],
        "session": None if row.session is None else str(row.session),
        "start_equity": day.get("start_equity"),
        "last_equity": day.get("last_equity"),
        "realized_today": day.get("last_realized"),
        "evaluated_at": rfc3339(row.evaluated_at),
        "reset_at": rfc3339(row.reset_at),
        "share_of_order_size": str(round(breakers.share_of_size(row, SYSTEM_CLOCK.now()), 4)),
        "may_reset": "the risk role, with a reason",
    }


def _body(request: Request) -> dict[str, Any]:
    return request.data if isinstance(request.data, dict) else {}


class Breakers(APIView):
    @extend_schema(responses={200: listed("breakers", A_BREAKER)}, summary="Every breaker")
    def get(self, request: Request) -> JsonResponse:
        sees = caller(request).sees
        return JsonResponse({"breakers": [shown(row) for row in Breaker.objects.all() if sees(row.scope)]})


class TripBreaker(APIView):
    @extend_schema(request=body("reason", reason=REASON), responses={200: A_BREAKER}, summary="Stop a scope now")
    def post(self, request: Request, scope: str) -> JsonResponse:
        caller(request).need_role("risk", "admin")
        reason = _body(request).get("reason")
        return JsonResponse(shown(breakers.trip(scope, actor=caller(request).name, reason=reason, clock=SYSTEM_CLOCK)))


class ResetBreaker(APIView):
    @extend_schema(
        request=body("reason", reason=REASON, force={"type": "boolean", "default": False}),
        responses={200: A_BREAKER, 202: A_BREAKER},
        summary="Re-arm a scope, with a reason; 202: a second person must",
    )
    def post(self, request: Request, scope: str) -> JsonResponse:
        caller(request).need_role("risk")
        body = _body(request)
        force = body.get("force") is True
        if force:
            caller(request).need_capability("force_reset")
        answer = ask_reset(
            scope, actor=caller(request).name, reason=body.get("reason"), force=force, clock=SYSTEM_CLOCK
        )
        if answer.request is None:
            return JsonResponse(shown(answer.row))
        waits = {"asked_by": answer.request.requested_by, "expires_at": rfc3339(answer.request.expires_at)}
        return JsonResponse(shown(answer.row) | {"waits_for_second_person": waits}, status=202)


class Build(APIView):
    @extend_schema(responses={200: dict}, summary="Which build answers")
    def get(self, request: Request) -> JsonResponse:
        return JsonResponse({**version_info(), **build_facts(), "build_stamp": build_stamp()})


def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """Everything that an order needs answers, and the database keeps what it confirms."""
    faults: dict[str, str] = {}
    try:
        unsafe = durability_faults(server_settings())
        if unsafe:
            faults["database"] = "; ".join(unsafe)
    except Error as error:
        faults["database"] = type(error).__name__
    try:
        hot_state().ping()
    except TradingbotError as error:
        faults["market_data_store"] = error.message
    wrong = broker_fault(settings.TRADINGBOT)
    if wrong is not None:
        faults["broker"] = wrong
    if faults:
        return problem(503, "not_ready", "; ".join(f"{name}: {why}" for name, why in faults.items()), faults=faults)
    return JsonResponse({"status": "ready", "trade_updates": _trade_updates()})


def _trade_updates() -> str:
    """How the stream goes. Without it fills come by polling, so that this says something and fails nothing."""
    try:
        found = age_of(stream.NAME, SYSTEM_CLOCK.now())
    except Error:
        return "unknown"
    if found is None:
        return "never started"
    state, age = found
    return state if age < STREAM_SILENT_SECONDS else f"silent for {int(age)} s"
