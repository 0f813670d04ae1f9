"""Limits over REST: what is in force, setting, approving, history, differences, and replays under proposed values."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.api.schema import MOMENT, TEXT, body, nullable
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_decimal, parse_time
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import LimitVersion
from backend.tradingbot.risk.limit_profiles import PROFILES
from backend.tradingbot.risk.limit_replay import proposed_from
from backend.tradingbot.risk.limits import KINDS
from backend.tradingbot.selectors.limit_sets import Change, limits_changed
from backend.tradingbot.selectors.limits import limit_history, limit_version, limits_in_force, limits_waiting
from backend.tradingbot.selectors.replays import limit_report
from backend.tradingbot.services.limits import decide_limit, set_limit

FIELDS = {"scope", "kind", "value", "reason", "effective_from"}
BODY = {
    "application/json": {
        "type": "object",
        "required": ["scope", "kind", "value", "reason"],
        "additionalProperties": False,
        "properties": {
            "scope": {"type": "string", "example": "account:demo"},
            "kind": {"type": "string", "enum": list(KINDS)},
            "value": {"type": "string", "nullable": True, "example": "250000"},
            "reason": {"type": "string", "maxLength": 200},
            "effective_from": {"type": "string", "format": "date-time", "nullable": True},
        },
    }
}
REASON = {"application/json": {"type": "object", "required": ["reason"], "properties": {"reason": {"type": "string"}}}}
PROPOSED = {
    "type": "object",
    "required": ["scope", "kind", "value"],
    "properties": {"scope": TEXT, "kind": {"type": "string", "enum": list(KINDS)}, "value": nullable(TEXT)},
}
REPLAY = body(
    "since limits",
    since=MOMENT,
    until=nullable(MOMENT),
    account=nullable(TEXT),
    limits={"type": "array", "items": PROPOSED},
)
SINCE = OpenApiParameter("since", str, required=True, description="RFC 3339; differences from then to now.")
ONE = [OpenApiParameter(name, str, required=True) for name in ("scope", "kind")]


def shown(row: LimitVersion) -> dict[str, Any]:
    return {
        "id": row.pk,
        "scope": row.scope,
        "kind": row.kind,
        "gate": KINDS[row.kind].gate if row.kind in KINDS else None,
        "unit": KINDS[row.kind].unit if row.kind in KINDS else None,
        "version": row.version,
        "value": plain(row.value),
        "state": row.state,
        "loosens": row.loosens,
        "effective_from": rfc3339(row.effective_from),
        "set_by": row.set_by,
        "set_at": rfc3339(row.set_at),
        "reason": row.reason,
        "decided_by": row.decided_by or None,
        "decided_at": rfc3339(row.decided_at),
        "decision_reason": row.decision_reason or None,
    }


def _values(change: Change) -> dict[str, str | None]:
    return {"before": plain(change.before), "after": plain(change.after)}


def with_before(row: LimitVersion) -> dict[str, Any]:
    return shown(row) | {"before": plain(row.followed)}  # type: ignore[attr-defined]


def _body(request: Request, fields: set[str]) -> dict[str, Any]:
    errors = FieldErrors()
    if not isinstance(request.data, dict):
        errors.add("body", request.data, "must be a JSON object", "send " + ", ".join(sorted(fields)))
        raise InvalidInputError(errors.errors)
    for name in request.data.keys() - fields:
        errors.add(str(name), request.data[name], "is not a known field", "known: " + ", ".join(sorted(fields)))
    if errors:
        raise InvalidInputError(errors.errors)
    return request.data


class Limits(APIView):
    @extend_schema(responses={200: dict}, summary="The limits in force, what waits for approval, and the profiles")
    def get(self, request: Request) -> JsonResponse:
        scope = request.query_params.get("scope")
        rows = limits_in_force(None if scope is None else [scope], SYSTEM_CLOCK.now())
        profiles = {
            name: {"says": profile.says, "requires": {kind: plain(value) for kind, value in profile.values.items()}}
            for name, profile in PROFILES.items()
        }
        waiting = [with_before(row) for row in limits_waiting()]
        sees = caller(request).sees
        told = {
            "limits": [shown(row) for row in rows if sees(row.scope)],
            "waiting": [row for row in waiting if sees(row["scope"])],
        }
        return JsonResponse(told | {"profiles": profiles})

    @extend_schema(request=BODY, responses={201: dict, 202: dict}, summary="Set one limit")
    def post(self, request: Request) -> JsonResponse:
        """201 when it is in force, 202 when it waits for a second person."""
        caller(request).need_role("risk")
        body, errors = _body(request, FIELDS), FieldErrors()
        value: Decimal | None = None
        if "value" not in body:
            errors.add("value", None, "is missing", "send a decimal string, or null to take the limit away")
        elif body["value"] is not None:
            value = parse_decimal(body["value"], "value", errors, positive=False)
        start = body.get("effective_from")
        effective_from = None if start is None else parse_time(start, "effective_from", errors)
        scope, kind = body.get("scope"), body.get("kind")
        if not isinstance(scope, str) or not isinstance(kind, str):
            errors.add("scope", scope, "scope and kind must be strings", "see GET limits")
        if errors or not isinstance(scope, str) or not isinstance(kind, str):
            raise InvalidInputError(errors.errors)
        row = set_limit(
            scope,
            kind,
            value,
            actor=caller(request).name,
            reason=body.get("reason"),
            effective_from=effective_from,
            clock=SYSTEM_CLOCK,
        )
        return JsonResponse(with_before(limit_version(row.pk)), status=202 if row.state == "waiting" else 201)


class DecideLimit(APIView):
    approve = True

    @extend_schema(request=REASON, responses={200: dict}, summary="The second person's word on a loosening")
    def post(self, request: Request, version_id: int) -> JsonResponse:
        caller(request).need_role("risk")
        reason = _body(request, {"reason"}).get("reason")
        row = decide_limit(
            version_id, approve=self.approve, actor=caller(request).name, reason=reason, clock=SYSTEM_CLOCK
        )
        return JsonResponse(shown(row))


class LimitHistory(APIView):
    @extend_schema(responses={200: dict}, summary="Every version of one limit", parameters=ONE)
    def get(self, request: Request) -> JsonResponse:
        scope, kind = (request.query_params.get(name, "") for name in ("scope", "kind"))
        caller(request).need_scope(scope)
        return JsonResponse({"versions": [with_before(row) for row in limit_history(scope, kind)]})


class LimitDifferences(APIView):
    @extend_schema(responses={200: dict}, summary="What changed since a moment", parameters=[SINCE])
    def get(self, request: Request) -> JsonResponse:
        errors = FieldErrors()
        since = parse_time(request.query_params.get("since"), "since", errors)
        if since is None:
            raise InvalidInputError(errors.errors)
        changed = limits_changed(since, SYSTEM_CLOCK.now())
        changes = [
            {"scope": each.scope, "kind": each.change.kind, **_values(each.change)}
            for each in changed
            if caller(request).sees(each.scope)
        ]
        return JsonResponse({"changes": changes})


class LimitReplay(APIView):
    @extend_schema(
        request=REPLAY, responses={200: dict}, summary="Which recorded decisions would proposed limits change"
    )
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk", "admin", "viewer")
        body, errors = _body(request, {"since", "until", "account", "limits"}), FieldErrors()
        now = SYSTEM_CLOCK.now()
        since = parse_time(body.get("since"), "since", errors)
        until = now if body.get("until") is None else parse_time(body["until"], "until", errors)
        if not isinstance(body.get("limits"), list):
            errors.add(
                "limits", body.get("limits"), "must be a list", 'send [{"scope": ..., "kind": ..., "value": ...}]'
            )
        if since is not None and until is not None and until - since > timedelta(days=31):
            errors.add("since", body.get("since"), "is more than 31 days back", "use manage.py replay_limits for more")
        if errors or since is None or until is None:
            raise InvalidInputError(errors.errors)
        report = limit_report(proposed_from(body["limits"]), since, until, body.get("account"))
        return JsonResponse(report.as_dict())
