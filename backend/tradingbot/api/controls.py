"""Permits, disabled patterns, Greeks and exposure over REST."""

from __future__ import annotations

from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.api.schema import MOMENT, REASON, TEXT, body
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import NotFoundError
from backend.tradingbot.core.values import plain
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Account, DisabledPattern, Permit
from backend.tradingbot.selectors.utilisation import exposure_of
from backend.tradingbot.services.greeks import put_greeks
from backend.tradingbot.services.permits import disabled_patterns, enable_pattern, give_permit

PERMIT = {
    "application/json": {
        "type": "object",
        "required": ["account", "strategy", "symbol", "side", "qty", "reason"],
        "additionalProperties": False,
        "properties": {
            "account": {"type": "string"},
            "strategy": {"type": "string"},
            "symbol": {"type": "string"},
            "side": {"type": "string", "enum": ["buy", "sell"]},
            "qty": {"type": "string", "example": "10"},
            "limit_price": {"type": "string", "nullable": True, "description": "null for a market order"},
            "reason": {"type": "string", "maxLength": 200},
        },
    }
}


UNIT_GREEKS = ("delta", "gamma", "theta", "vega", "beta", "iv", "dividend_yield")
GREEK_ROW = {
    "type": "object",
    "required": ["symbol"],
    "additionalProperties": False,
    "properties": {"symbol": TEXT, "time": MOMENT, **dict.fromkeys(UNIT_GREEKS, TEXT)},
}
GREEKS = body("greeks", greeks={"type": "array", "minItems": 1, "maxItems": 10_000, "items": GREEK_ROW})


def shown_permit(row: Permit) -> dict[str, Any]:
    return {
        "permit_id": row.permit_id,
        "account": row.account.code,
        "strategy": row.strategy.code,
        "symbol": row.symbol,
        "side": row.side,
        "qty": plain(row.qty),
        "limit_price": plain(row.limit_price),
        "reason": row.reason,
        "given_by": row.given_by,
        "given_at": rfc3339(row.given_at),
        "expires_at": rfc3339(row.expires_at),
        "used_at": rfc3339(row.used_at),
        "used_by": row.used_by or None,
    }


def shown_pattern(row: DisabledPattern) -> dict[str, Any]:
    return {
        "id": row.pk,
        "account": row.account.code,
        "strategy": row.strategy.code,
        "symbol": row.symbol,
        "side": row.side,
        "qty": plain(row.qty),
        "disabled_at": rfc3339(row.disabled_at),
        "why": row.why,
        "enabled_at": rfc3339(row.enabled_at),
        "enabled_by": row.enabled_by or None,
        "reason": row.reason or None,
    }


class Permits(APIView):
    @extend_schema(request=PERMIT, responses={201: dict}, summary="Let one specific order through, once, in 5 minutes")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk")
        permit = give_permit(request.data, actor=caller(request).name, clock=SYSTEM_CLOCK)
        return JsonResponse(shown_permit(permit), status=201)

    @extend_schema(responses={200: dict}, summary="The newest permits")
    def get(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk", "admin", "viewer")
        rows = Permit.objects.select_related("account", "strategy")[:200]
        return JsonResponse({"permits": [shown_permit(row) for row in rows]})


class DisabledPatterns(APIView):
    @extend_schema(responses={200: dict}, summary="Patterns that came too often, the newest first")
    def get(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk", "admin", "viewer")
        return JsonResponse({"patterns": [shown_pattern(row) for row in disabled_patterns()]})


class EnablePattern(APIView):
    @extend_schema(
        request=body("reason", reason=REASON), responses={200: dict}, summary="Let a pattern trade again, with a reason"
    )
    def post(self, request: Request, pattern_id: int) -> JsonResponse:
        caller(request).need_role("risk")
        reason = request.data.get("reason") if isinstance(request.data, dict) else None
        row = enable_pattern(pattern_id, actor=caller(request).name, reason=reason, clock=SYSTEM_CLOCK)
        return JsonResponse(shown_pattern(row))


class Greeks(APIView):
    @extend_schema(request=GREEKS, responses={200: dict}, summary="Feed Greeks by unit")
    def put(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_capability("feed")
        caller(request).need_account(code)
        may_feed = frozenset(caller(request).key.feed_symbols)
        answer = put_greeks(code, request.data, may_feed=may_feed, actor=caller(request).name, clock=SYSTEM_CLOCK)
        return JsonResponse(answer)


class Exposure(APIView):
    @extend_schema(responses={200: dict}, summary="How much of its limits an account uses")
    def get(self, request: Request, code: str) -> JsonResponse:
        caller(request).need_account(code)
        account = Account.objects.filter(code=code).first()
        if account is None:
            raise NotFoundError(f"there is no account {code}", remedy="check the name")
        return JsonResponse(exposure_of(account, hot_state(), SYSTEM_CLOCK.now()))
