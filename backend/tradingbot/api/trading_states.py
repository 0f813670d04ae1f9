"""Trading states over REST: who may trade, and halting and re-activating by the risk role."""

from __future__ import annotations

from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_reason, parse_scope
from backend.tradingbot.models import TradingState
from backend.tradingbot.risk.trading_state import Trading
from backend.tradingbot.services.trading_states import set_state, wait_for_sends

BODY = {
    "application/json": {
        "type": "object",
        "required": ["scope", "state", "reason"],
        "additionalProperties": False,
        "properties": {
            "scope": {"type": "string", "example": "account:demo"},
            "state": {"type": "string", "enum": [str(state) for state in Trading]},
            "reason": {"type": "string", "maxLength": 200},
        },
    }
}


def shown(row: TradingState) -> dict[str, Any]:
    return {
        "scope": row.scope,
        "state": row.state,
        "reason": row.reason or None,
        "actor": row.actor or None,
        "changed_at": rfc3339(row.changed_at),
    }


def parse_change(body: Any) -> tuple[str, Trading, str]:
    errors = FieldErrors()
    if not isinstance(body, dict):
        errors.add("body", body, "must be a JSON object", "send scope, state and reason")
        raise InvalidInputError(errors.errors)
    for name in body.keys() - {"scope", "state", "reason"}:
        errors.add(str(name), body[name], "is not a known field", "known: scope, state, reason")
    scope = parse_scope(body.get("scope"), "scope", errors)
    reason = parse_reason(body.get("reason"), "reason", errors)
    state = next((known for known in Trading if known == body.get("state")), None)
    if state is None:
        errors.add("state", body.get("state"), "is not a trading state", "use " + ", ".join(Trading))
    if errors or state is None:
        raise InvalidInputError(errors.errors)
    return scope, state, reason


class TradingStates(APIView):
    @extend_schema(responses={200: dict}, summary="Which scopes may trade")
    def get(self, request: Request) -> JsonResponse:
        sees = caller(request).sees
        return JsonResponse({"states": [shown(row) for row in TradingState.objects.all() if sees(row.scope)]})

    @extend_schema(request=BODY, responses={200: dict}, summary="Halt a scope, let it reduce only, or re-activate it")
    def put(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk")
        scope, state, reason = parse_change(request.data)
        row = set_state(scope, state, actor=caller(request).name, reason=reason, clock=SYSTEM_CLOCK)
        under_way = [] if state is Trading.ACTIVE else wait_for_sends(scope, clock=SYSTEM_CLOCK)
        return JsonResponse(shown(row) | {"in_flight": under_way})
