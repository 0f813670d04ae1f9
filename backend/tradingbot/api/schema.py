"""What the OpenAPI schema says of keys and of refusals, and how it names the calls."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from backend.tradingbot.execution.order_state import Status


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "backend.tradingbot.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An API key; `manage.py key create` makes one."}


PROBLEM = {
    "type": "object",
    "description": "RFC 9457: what is wrong and what to do about it. `code` is stable.",
    "required": ["type", "title", "status", "code", "detail", "remedy", "trace_id"],
    "properties": {
        "type": {"type": "string", "example": "urn:tradingbot:invalid_order"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "example": "invalid_order"},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "value", "problem", "remedy"],
                "properties": {name: {"type": "string"} for name in ("field", "value", "problem", "remedy")},
            },
        },
    },
}
TEXT, NUMBER = {"type": "string"}, {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"}
MOMENT = {"type": "string", "format": "date-time"}


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"nullable": True}


def _whole(**properties: Any) -> dict[str, Any]:
    """An object that has all of these, and nothing else."""
    names = list(properties)
    return {"type": "object", "required": names, "additionalProperties": False, "properties": properties}


CHECK = {
    "type": "object",
    "description": "What one gate said.",
    "required": ["gate", "passed", "code", "message", "remedy"],
    "properties": {
        "gate": TEXT,
        "passed": {"type": "boolean"},
        "code": TEXT,
        "message": TEXT,
        "remedy": TEXT,
        **{name: {"nullable": True} for name in ("value", "limit", "headroom")},
    },
}
DECISION = {
    "type": "object",
    "required": ["allowed", "checks"],
    "properties": {
        "allowed": {"type": "boolean"},
        "checks": {"type": "array", "items": {"$ref": "#/components/schemas/Check"}},
    },
}
ORDER = _whole(
    client_order_id=TEXT,
    account=TEXT,
    strategy=TEXT,
    symbol=TEXT,
    side={"type": "string", "enum": ["buy", "sell"]},
    qty=NUMBER,
    type={"type": "string", "enum": ["market", "limit"]},
    limit_price=nullable(NUMBER),
    time_in_force=TEXT,
    status={"type": "string", "enum": [str(status) for status in Status]},
    mode=TEXT,
    broker_order_id=nullable(TEXT),
    placed_qty=NUMBER,
    filled_qty=NUMBER,
    avg_price=nullable(NUMBER),
    shadow={"type": "object", "nullable": True},
    strategy_build=nullable(TEXT),
    decision={"$ref": "#/components/schemas/Decision"},
    build_id=TEXT,
    build_stamp=nullable(TEXT),
    trace_id=TEXT,
    created_at=MOMENT,
    updated_at=MOMENT,
)
BREAKER = _whole(
    scope=TEXT,
    tripped={"type": "boolean"},
    reason=nullable(TEXT),
    tripped_at=nullable(MOMENT),
    cooldown_remaining_sec={"type": "number"},
    later_causes={"type": "array", "items": {}},
    holding_causes={"type": "array", "items": {}},
    errors_last_min={"type": "integer"},
    session=nullable(TEXT),
    start_equity={"nullable": True},
    last_equity={"nullable": True},
    realized_today={"nullable": True},
    evaluated_at=nullable(MOMENT),
    reset_at=nullable(MOMENT),
    share_of_order_size=NUMBER,
    may_reset=TEXT,
)
COMPONENTS = {"Problem": PROBLEM, "Check": CHECK, "Decision": DECISION, "Order": ORDER, "Breaker": BREAKER}
AN_ORDER = {"$ref": "#/components/schemas/Order"}
A_DECISION = {"$ref": "#/components/schemas/Decision"}
A_BREAKER = {"$ref": "#/components/schemas/Breaker"}


REASON = {"type": "string", "maxLength": 200, "example": "agreed with the desk"}
DATE = {"type": "string", "format": "date"}


def body(required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON body of these fields and no other; ``required`` names those that must be there."""
    needed = {"required": required.split()} if required else {}
    return {"application/json": {"type": "object", **needed, "additionalProperties": False, "properties": properties}}


def listed(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """An object with one list in it."""
    rows = {"type": "array", "items": item}
    return {"type": "object", "required": [name], "properties": {name: rows}}


REFUSALS = {
    "400": "A field is missing, unknown or wrong; every one is named.",
    "401": "No key, or one that is not known or was revoked.",
    "403": "The key's role, account or capability does not allow this.",
    "404": "What was named does not exist.",
    "409": "The request contradicts what is already so.",
    "415": "The body is neither of the types that this call reads.",
    "422": "Understood and refused.",
    "503": "The database, the market data store or the broker does not answer; nothing was promised.",
}


def add_refusals(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Every call can be refused in the same form: said once in the components, referred to by each call."""
    result.setdefault("components", {}).setdefault("schemas", {}).update(COMPONENTS)
    refusal = {"$ref": "#/components/schemas/Problem"}
    for methods in result["paths"].values():
        for call in methods.values():
            for status, says in REFUSALS.items():
                known = call["responses"].setdefault(status, {"description": says})
                known["content"] = {"application/problem+json": {"schema": refusal}}
                known["description"] = known.get("description") or says
    return result


class NamedCalls(AutoSchema):
    """Names a call after its method and address, so that a list and one of its items never share a name."""

    def get_operation_id(self) -> str:
        """``GET /api/v1/orders/{client_order_id}`` -> ``get_orders_by_client_order_id``."""
        address = re.sub(r"^/(api/v\d+/)?", "", self.path)
        words = re.sub(r"\{(\w+)\}", r"by_\1", address)
        return "_".join([self.method.lower(), *re.findall(r"\w+", words)])
