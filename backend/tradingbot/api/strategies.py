"""Strategies over REST: their builds and modes, promotion and demotion, and how far shadow is from live."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.api.schema import REASON, TEXT, body
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import FieldError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import parse_time
from backend.tradingbot.models import (
    PromotionBar,
    PromotionRequest,
    Strategy,
    StrategyBuild,
    StrategyHeartbeat,
    TradingState,
)
from backend.tradingbot.selectors.evidence import divergence_by_day, report_begins
from backend.tradingbot.services import dead_mans_switch, promotion, promotion_bars

BUILD = OpenApiParameter("build_id", str, description="A registered build; without it, orders that name none.")
SINCE = OpenApiParameter(
    "since", str, description="RFC 3339; by default since the mode began, of a live build with the canary time before."
)
BUILD_AND_REASON = body("reason", build_id=TEXT, reason=REASON)
UNTIL = OpenApiParameter("until", str, description="RFC 3339; by default now.")

ACTION = {"type": "string", "enum": ["reduce", "cancel"]}


def shown(build: StrategyBuild) -> dict[str, Any]:
    return {
        "strategy": build.strategy.code,
        "build_id": build.build_id or None,
        "mode": str(build.mode),
        "mode_since": rfc3339(build.mode_since),
        "demoted": build.demoted,
        "withdrawn_at": rfc3339(build.withdrawn_at),
        "withdrawn_why": build.withdrawn_why or None,
        "registered_at": rfc3339(build.registered_at),
        "registered_by": build.registered_by,
    }


def _strategy(request: Request, code: str) -> Strategy:
    caller(request).need_strategy(code)
    strategy = Strategy.objects.filter(code=code).first()
    if strategy is None:
        raise NotFoundError(f"there is no strategy {code}", remedy="check the name")
    return strategy


def _build(strategy: Strategy, build_id: str) -> StrategyBuild:
    build = StrategyBuild.objects.select_related("strategy").filter(strategy=strategy, build_id=build_id).first()
    if build is None:
        raise NotFoundError(f"{strategy.code} has no build {build_id or 'without a name'}", remedy="register it")
    return build


def _body(request: Request, *names: str) -> dict[str, Any]:
    """The body's fields; an unknown one is refused by name."""
    body = request.data if isinstance(request.data, dict) else {}
    errors = FieldErrors()
    for name in sorted(body.keys() - set(names)):
        errors.add(name, body[name], "is not a known field", "known: " + " ".join(names))
    build_id = body.get("build_id", "")
    if "build_id" in names and not isinstance(build_id, str):
        errors.add("build_id", build_id, "must be text", "send the registered build's id")
    if errors:
        raise InvalidInputError(errors.errors)
    return {**body, "build_id": build_id}


class Strategies(APIView):
    @extend_schema(responses={200: dict}, summary="Every strategy's builds and their modes")
    def get(self, request: Request) -> JsonResponse:
        rows = StrategyBuild.objects.select_related("strategy").all()[:2_000]
        own = caller(request).key.strategy
        return JsonResponse({"builds": [shown(row) for row in rows if own is None or own.pk == row.strategy.pk]})


class Builds(APIView):
    @extend_schema(
        request=body("build_id", build_id=TEXT),
        responses={201: dict},
        summary="Register a build; a new one begins in shadow",
    )
    def post(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_role("trader", "risk", "admin")
        strategy = _strategy(request, code)
        build_id = _body(request, "build_id")["build_id"]
        build = promotion.register_build(strategy, build_id, actor=caller(request).name, clock=SYSTEM_CLOCK)
        return JsonResponse(shown(build), status=201)


def heart(row: StrategyHeartbeat) -> dict[str, Any]:
    state = TradingState.objects.filter(scope=f"strategy:{row.strategy.code}").values_list("state", flat=True).first()
    return {
        "strategy": row.strategy.code,
        "state": "ended" if row.ended_at else "lost" if row.lost_at else "watched",
        "interval": row.interval_seconds,
        "action": row.action,
        "last_at": rfc3339(row.last_at),
        "due_at": rfc3339(row.last_at + timedelta(seconds=row.interval_seconds)),
        "lost_at": rfc3339(row.lost_at),
        "trading_state": state,
    }


class StrategyHeart(APIView):
    """The dead man's switch of one strategy."""

    @extend_schema(
        request=body("", interval={"type": "integer", "minimum": 1, "maximum": 3600}, action=ACTION),
        responses={200: dict},
        summary="A sign of life; the first one says after how many seconds of silence the strategy may only reduce",
    )
    def post(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_role("trader")
        strategy = _strategy(request, code)
        return JsonResponse(
            heart(dead_mans_switch.beat(strategy, request.data, actor=caller(request).name, clock=SYSTEM_CLOCK))
        )

    @extend_schema(responses={200: dict}, summary="When the last sign of life came, and whether it is lost")
    def get(self, request: Request, code: str) -> JsonResponse:
        row = StrategyHeartbeat.objects.select_related("strategy").filter(strategy=_strategy(request, code)).first()
        if row is None:
            message = f"{code} has registered no heartbeat"
            raise NotFoundError(message, code="heartbeat_not_found", remedy="POST strategies/<code>/heartbeat")
        return JsonResponse(heart(row))

    @extend_schema(
        request=body("reason", reason=REASON), responses={200: dict}, summary="End the watch before switching it off"
    )
    def delete(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_role("trader", "risk")
        strategy, why = _strategy(request, code), _body(request, "reason").get("reason")
        return JsonResponse(
            heart(dead_mans_switch.end(strategy, actor=caller(request).name, reason=why, clock=SYSTEM_CLOCK))
        )


class WithdrawBuild(APIView):
    @extend_schema(request=BUILD_AND_REASON, responses={200: dict}, summary="Stop a build for good")
    def post(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_role("risk", "admin")
        body = _body(request, "build_id", "reason")
        about: dict[str, Any] = {"actor": caller(request).name, "reason": body.get("reason"), "clock": SYSTEM_CLOCK}
        return JsonResponse(shown(promotion.withdraw_build(_strategy(request, code), body["build_id"], **about)))


class Promote(APIView):
    @extend_schema(
        request=BUILD_AND_REASON,
        responses={200: dict, 202: dict},
        summary="One step up, by evidence; 202 when a second person must approve",
    )
    def post(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_role("risk")
        body = _body(request, "build_id", "reason")
        about: dict[str, Any] = {"actor": caller(request).name, "reason": body.get("reason"), "clock": SYSTEM_CLOCK}
        done = promotion.promote(_strategy(request, code), body["build_id"], **about)
        if isinstance(done, PromotionRequest):
            waits = {"to": done.to_mode, "requested_by": done.requested_by, "expires_at": rfc3339(done.expires_at)}
            return JsonResponse({**shown(done.build), "waits_for_second_person": waits}, status=202)
        return JsonResponse(shown(done))


class DecidePromotion(APIView):
    @extend_schema(
        request=body("approve", build_id=TEXT, approve={"type": "boolean"}),
        responses={200: dict},
        summary="The second person approves or refuses",
    )
    def post(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_role("risk")
        body = _body(request, "build_id", "approve")
        if not isinstance(body.get("approve"), bool):
            remedy = "send true to approve, false to refuse"
            raise InvalidInputError([FieldError("approve", body.get("approve"), "must be true or false", remedy)])
        about: dict[str, Any] = {"approve": body["approve"], "actor": caller(request).name, "clock": SYSTEM_CLOCK}
        return JsonResponse(shown(promotion.decide(_strategy(request, code), body["build_id"], **about)))


class Demote(APIView):
    @extend_schema(
        request=body("to reason", build_id=TEXT, reason=REASON, to={"type": "string", "enum": ["shadow", "canary"]}),
        responses={200: dict},
        summary="Trust it less, at once",
    )
    def post(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_role("risk", "admin")
        body = _body(request, "build_id", "to", "reason")
        about: dict[str, Any] = {"to": body.get("to"), "reason": body.get("reason"), "actor": caller(request).name}
        done = promotion.demote(_strategy(request, code), body["build_id"], **about, clock=SYSTEM_CLOCK)
        return JsonResponse(shown(done))


class PromotionProfiles(APIView):
    @extend_schema(responses={200: dict}, summary="What each promotion profile asks for, every version of it")
    def get(self, request: Request) -> JsonResponse:
        return JsonResponse({"versions": [shown_bar(row) for row in PromotionBar.objects.all()[:1_000]]})

    @extend_schema(request=dict, responses={201: dict}, summary="Set what a step up asks for; asking for less waits")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk")
        body = request.data if isinstance(request.data, dict) else {}
        about: dict[str, Any] = {"actor": caller(request).name, "reason": body.get("reason"), "clock": SYSTEM_CLOCK}
        asked = {name: value for name, value in body.items() if name not in ("profile", "to_mode", "reason")}
        row = promotion_bars.set_bar(body.get("profile"), body.get("to_mode"), asked, **about)
        return JsonResponse(shown_bar(row), status=201)


class DecideProfile(APIView):
    approve = True

    @extend_schema(
        request=body("reason", reason=REASON),
        responses={200: dict},
        summary="The second person's word on what a step asks for",
    )
    def post(self, request: Request, number: int) -> JsonResponse:
        caller(request).need_role("risk")
        reason = request.data.get("reason") if isinstance(request.data, dict) else None
        about: dict[str, Any] = {"actor": caller(request).name, "reason": reason, "clock": SYSTEM_CLOCK}
        return JsonResponse(shown_bar(promotion_bars.decide_bar(number, approve=self.approve, **about)))


def shown_bar(row: PromotionBar) -> dict[str, Any]:
    asks = {name: getattr(row, name) for name in promotion_bars.FIELDS}
    about = {"id": row.pk, "profile": row.profile, "to_mode": row.to_mode, "version": row.version, "state": row.state}
    who = {"set_by": row.set_by, "set_at": rfc3339(row.set_at), "reason": row.reason}
    return {**about, **asks, **who, "decided_by": row.decided_by or None, "decided_at": rfc3339(row.decided_at)}


class DivergenceReport(APIView):
    @extend_schema(
        responses={200: dict},
        summary="Shadow against live with 95 % intervals, and what the next step still lacks",
        parameters=[BUILD, SINCE, UNTIL],
    )
    def get(self, request: Request, code: str) -> JsonResponse:
        build = _build(_strategy(request, code), request.query_params.get("build_id", ""))
        errors = FieldErrors()
        since, until = (_time(request, name, errors) for name in ("since", "until"))
        if errors:
            raise InvalidInputError(errors.errors)
        target, asked = promotion.conditions(build, clock=SYSTEM_CLOCK)
        whole, by_day = divergence_by_day(build, since or report_begins(build), until)
        report = {**whole.as_dict(), "days": [{"day": str(day), **one.as_dict()} for day, one in by_day.items()]}
        step = {"to": target, "conditions": [vars(condition) for condition in asked]}
        return JsonResponse({**shown(build), "divergence": report, "next_step": step})


def _time(request: Request, name: str, errors: FieldErrors) -> datetime | None:
    raw = request.query_params.get(name)
    return None if raw is None else parse_time(raw, name, errors)
