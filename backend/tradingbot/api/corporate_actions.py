"""Corporate actions over REST: what is on file, entered and withdrawn by the risk role with a reason."""

from __future__ import annotations

from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import FieldError, FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_symbol
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import CorporateAction
from backend.tradingbot.models.corporate_actions import ACTION_KINDS
from backend.tradingbot.services import corporate_actions

MOST = 1_000
ENTRY = {
    "application/json": {
        "type": "object",
        "required": ["symbol", "ex_date", "ratio", "source", "reason"],
        "additionalProperties": False,
        "properties": {
            "symbol": {"type": "string"},
            "ex_date": {"type": "string", "format": "date"},
            "ratio": {"type": "string", "example": "4", "description": "New shares for each old one."},
            "kind": {"type": "string", "enum": ACTION_KINDS},
            "source": {"type": "string", "maxLength": 120},
            "reason": {"type": "string", "maxLength": 200},
        },
    }
}
REASON = {
    "application/json": {
        "type": "object",
        "required": ["reason"],
        "additionalProperties": False,
        "properties": {"reason": {"type": "string", "maxLength": 200}},
    }
}


def shown_action(row: CorporateAction) -> dict[str, Any]:
    withdrawn = {"at": rfc3339(row.withdrawn_at), "by": row.withdrawn_by, "reason": row.withdrawn_why}
    return {
        "id": row.pk,
        "symbol": row.symbol,
        "ex_date": row.ex_date.isoformat(),
        "kind": row.kind,
        "ratio": plain(row.ratio),
        "source": row.source,
        "reason": row.reason,
        "entered_at": rfc3339(row.entered_at),
        "entered_by": row.entered_by,
        "withdrawn": None if row.withdrawn_at is None else withdrawn,
    }


class CorporateActions(APIView):
    @extend_schema(
        responses={200: dict},
        summary="Corporate actions on file, the newest first",
        parameters=[OpenApiParameter("symbol", str, description="Only those of this symbol.")],
    )
    def get(self, request: Request) -> JsonResponse:
        rows = CorporateAction.objects.all()
        asked = request.query_params.get("symbol")
        if asked is not None:
            errors = FieldErrors()
            rows = rows.filter(symbol=parse_symbol(asked, "symbol", errors))
            if errors:
                raise InvalidInputError(errors.errors)
        return JsonResponse({"corporate_actions": [shown_action(row) for row in rows[:MOST]]})

    @extend_schema(request=ENTRY, responses={201: dict}, summary="Put a corporate action on file")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk")
        row = corporate_actions.enter(request.data, actor=caller(request).name, clock=SYSTEM_CLOCK)
        return JsonResponse(shown_action(row), status=201)


class WithdrawCorporateAction(APIView):
    @extend_schema(request=REASON, responses={200: dict}, summary="Withdraw a corporate action that is wrong")
    def post(self, request: Request, action_id: int) -> JsonResponse:
        caller(request).need_role("risk")
        body = request.data
        if not isinstance(body, dict) or body.keys() - {"reason"}:
            raise InvalidInputError([FieldError("body", body, "must be an object of reason", 'send {"reason": "..."}')])
        actor, reason = caller(request).name, body.get("reason")
        row = corporate_actions.withdraw(action_id, actor=actor, reason=reason, clock=SYSTEM_CLOCK)
        return JsonResponse(shown_action(row))
