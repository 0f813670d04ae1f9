"""Attesting over REST what became of an order in doubt."""

from __future__ import annotations

from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.api.orders import shown as shown_order
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.models import Attestation, Order
from backend.tradingbot.services.attestations import attest

FIELDS = ("account", "outcome", "reason", "broker_order_id")
BODY = {
    "application/json": {
        "type": "object",
        "required": ["account", "outcome", "reason"],
        "additionalProperties": False,
        "properties": {
            "account": {"type": "string"},
            "outcome": {"type": "string", "enum": ["accepted", "rejected", "never_arrived"]},
            "reason": {"type": "string", "example": "told by the broker's desk on the phone"},
            "broker_order_id": {"type": "string", "description": "Needed for accepted, and only for it."},
        },
    }
}


def shown(attestation: Attestation) -> dict[str, Any]:
    return {
        "outcome": attestation.outcome,
        "reason": attestation.reason,
        "attested_by": attestation.attested_by,
        "attested_at": rfc3339(attestation.attested_at),
        "confirmed_by": attestation.confirmed_by or None,
        "confirmed_at": rfc3339(attestation.confirmed_at),
        "applied_at": rfc3339(attestation.applied_at),
    }


class AttestOrder(APIView):
    @extend_schema(request=BODY, responses={200: dict, 202: dict}, summary="Say what became of an order in doubt")
    def post(self, request: Request, client_order_id: str) -> JsonResponse:
        """200 when it took effect; 202 while it waits for a second person to say the same."""
        caller(request).need_role("risk")
        body = _body(request)
        order, attestation = attest(
            _find(body["account"], client_order_id),
            outcome=body.get("outcome"),
            reason=body.get("reason"),
            broker_order_id=body.get("broker_order_id") or "",
            actor=caller(request).name,
            clock=SYSTEM_CLOCK,
        )
        status = 200 if attestation.applied_at is not None else 202
        return JsonResponse({"order": shown_order(order), "attestation": shown(attestation)}, status=status)


def _body(request: Request) -> dict[str, Any]:
    body = request.data if isinstance(request.data, dict) else {}
    errors = FieldErrors()
    for name in body.keys() - set(FIELDS):
        errors.add(str(name), body[name], "is not a known field", "known: " + ", ".join(FIELDS))
    account = body.get("account")
    if not isinstance(account, str) or not account or "\x00" in account:
        errors.add("account", account, "is missing", "name the order's account")
    if errors:
        raise InvalidInputError(errors.errors)
    return body


def _find(account: str, client_order_id: str) -> Order:
    rows = Order.objects.select_related("account", "strategy")
    order = rows.filter(account__code=account, client_order_id=client_order_id).first()
    if order is None:
        raise NotFoundError(f"{account} has no order {client_order_id}", remedy="check the id and the account")
    return order
