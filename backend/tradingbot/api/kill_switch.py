"""The kill switch over REST: pull it, watch it, stop it."""

from __future__ import annotations

from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import Caller, caller
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_reason, parse_scope
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import KillSwitchOrder, KillSwitchRun
from backend.tradingbot.services import kill_switch
from backend.tradingbot.services.trading_states import wait_for_sends

REQUEST_SECONDS = 10.0
SHOWN_RUNS = 50
PULL = {
    "application/json": {
        "type": "object",
        "required": ["scope"],
        "additionalProperties": False,
        "properties": {
            "scope": {"type": "string", "example": "account:demo"},
            "flatten": {"type": "boolean", "default": False},
            "reason": {"type": "string", "maxLength": 200, "default": "kill switch"},
        },
    }
}
STOP = {
    "application/json": {
        "type": "object",
        "required": ["reason"],
        "additionalProperties": False,
        "properties": {"reason": {"type": "string", "maxLength": 200}},
    }
}


def summary(run: KillSwitchRun) -> dict[str, Any]:
    return {
        "run": run.token,
        "scope": run.scope,
        "flatten": run.flatten,
        "reason": run.reason,
        "actor": run.actor,
        "stage": run.stage,
        "passes": run.passes,
        "open_orders": run.open_orders,
        "open_positions": run.open_positions,
        "problem": run.problem or None,
        "started_at": rfc3339(run.started_at),
        "last_pass_at": rfc3339(run.last_pass_at),
        "finished_at": rfc3339(run.finished_at),
    }


def shown(run: KillSwitchRun) -> dict[str, Any]:
    """The run with every order it touched: what the broker said to the last request, and where the order stands now."""
    rows = KillSwitchOrder.objects.filter(run=run).select_related("order__account")
    orders = [
        {
            "client_order_id": row.order.client_order_id,
            "account": row.order.account.code,
            "symbol": row.order.symbol,
            "purpose": row.purpose,
            "outcome": row.outcome,
            "detail": row.detail or None,
            "asked_at": rfc3339(row.asked_at),
            "status": row.order.status,
            "filled_qty": plain(row.order.filled_qty),
        }
        for row in rows
    ]
    external = [{"broker_order_id": name, **row} for name, row in sorted(run.external_orders.items())]
    positions = [{"position": name, **row} for name, row in sorted(run.positions.items())]
    return summary(run) | {"orders": orders, "external_orders": external, "positions": positions}


def _for_reader(told: dict[str, Any], reader: Caller) -> dict[str, Any]:
    """A run of a wider scope touches many accounts; a key that is bound to one reads of that one alone."""
    if reader.key.account is None:
        return told
    own = reader.key.account.code
    orders = [row for row in told["orders"] if row["account"] == own]
    positions = [row for row in told["positions"] if row["position"].startswith(f"{own} ")]
    return told | {"orders": orders, "positions": positions, "external_orders": []}


def parse_pull(body: Any) -> tuple[str, bool, str]:
    errors = FieldErrors()
    known = _fields(body, {"scope", "flatten", "reason"}, errors)
    scope = parse_scope(known.get("scope"), "scope", errors)
    flatten = known.get("flatten", False)
    if not isinstance(flatten, bool):
        errors.add("flatten", flatten, "is not a boolean", "send true or false")
    reason = parse_reason(known.get("reason", "kill switch"), "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    return scope, flatten, reason


def parse_stop(body: Any) -> str:
    errors = FieldErrors()
    reason = parse_reason(_fields(body, {"reason"}, errors).get("reason"), "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    return reason


def _fields(body: Any, known: set[str], errors: FieldErrors) -> dict[str, Any]:
    if not isinstance(body, dict):
        errors.add("body", body, "must be a JSON object", "send " + ", ".join(sorted(known)))
        return {}
    for name in body.keys() - known:
        errors.add(str(name), body[name], "is not a known field", "known: " + ", ".join(sorted(known)))
    return body


class KillSwitch(APIView):
    @extend_schema(operation_id="kill_switch_list", responses={200: dict}, summary="The newest runs of the kill switch")
    def get(self, request: Request) -> JsonResponse:
        sees = caller(request).sees
        return JsonResponse(
            {"runs": [summary(run) for run in KillSwitchRun.objects.all()[:SHOWN_RUNS] if sees(run.scope)]}
        )

    @extend_schema(request=PULL, responses={200: dict, 202: dict}, summary="Halt a scope and cancel what is open in it")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk")
        scope, flatten, reason = parse_pull(request.data)
        actor = caller(request).name
        run = kill_switch.pull(scope, flattening=flatten, reason=reason, actor=actor, clock=SYSTEM_CLOCK)
        under_way = wait_for_sends(scope, clock=SYSTEM_CLOCK)
        run = kill_switch.advance(run.token, clock=SYSTEM_CLOCK, seconds=REQUEST_SECONDS, settling=False)
        return JsonResponse(shown(run) | {"in_flight": under_way}, status=202 if run.finished_at is None else 200)


class OneKillSwitchRun(APIView):
    @extend_schema(responses={200: dict}, summary="A run of the kill switch with the outcome of every order")
    def get(self, request: Request, run: str) -> JsonResponse:
        found = kill_switch.find(run)
        caller(request).need_scope(found.scope)
        return JsonResponse(_for_reader(shown(found), caller(request)))


class StopKillSwitch(APIView):
    @extend_schema(request=STOP, responses={200: dict}, summary="End a run early; the scope stays halted")
    def post(self, request: Request, run: str) -> JsonResponse:
        caller(request).need_role("risk")
        reason = parse_stop(request.data)
        stopped = kill_switch.stop(run, reason=reason, actor=caller(request).name, clock=SYSTEM_CLOCK)
        return JsonResponse(shown(stopped))
