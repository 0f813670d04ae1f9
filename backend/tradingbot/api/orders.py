"""Orders over REST: parse, call one service, render."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.api.errors import problem
from backend.tradingbot.api.schema import A_DECISION, AN_ORDER, listed
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import FieldError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import CODE, parse_order, parse_symbol
from backend.tradingbot.core.values import OrderIntent, plain
from backend.tradingbot.execution.order_state import UNRESOLVED, Status
from backend.tradingbot.models import Order, ShadowOrder
from backend.tradingbot.services.cancels import cancel_order
from backend.tradingbot.services.mass_cancel import cancel_all
from backend.tradingbot.services.orders import check_order, submit_order
from backend.tradingbot.services.promotion import BUILD_ID

BODY = {
    "application/json": {
        "type": "object",
        "required": ["client_order_id", "account", "strategy", "symbol", "side", "qty", "type"],
        "additionalProperties": False,
        "properties": {
            "client_order_id": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,48}$"},
            "account": {"type": "string"},
            "strategy": {"type": "string"},
            "symbol": {"type": "string"},
            "side": {"type": "string", "enum": ["buy", "sell"]},
            "qty": {"type": "string", "example": "10"},
            "type": {"type": "string", "enum": ["market", "limit"]},
            "limit_price": {"type": "string", "nullable": True, "example": "190.10"},
            "time_in_force": {"type": "string", "enum": ["day", "gtc", "ioc"]},
            "greeks": {"type": "object", "additionalProperties": {"type": "string"}},
            "permit_id": {"type": "string", "nullable": True},
        },
    }
}
CANCEL_ALL = {
    "application/json": {
        "type": "object",
        "required": ["account"],
        "additionalProperties": False,
        "properties": {
            "account": {"type": "string"},
            "strategy": {"type": "string", "nullable": True},
            "symbol": {"type": "string", "nullable": True},
        },
    }
}
NEW_ID = ", then send a new id"
ANSWER = {200: AN_ORDER, 201: AN_ORDER, 202: AN_ORDER}
ACCOUNT = OpenApiParameter("account", str, required=True, description="The account's code.")
STATUS = OpenApiParameter("status", str, enum=list(map(str, Status)), description="Only orders that stand so now.")


def shown(order: Order) -> dict[str, Any]:
    return {
        "client_order_id": order.client_order_id,
        "account": order.account.code,
        "strategy": order.strategy.code,
        "symbol": order.symbol,
        "side": order.side,
        "qty": plain(order.qty if order.requested_qty is None else order.requested_qty),
        "type": order.type,
        "limit_price": plain(order.limit_price),
        "time_in_force": order.time_in_force,
        "status": str(order.status),
        "mode": order.mode,
        "broker_order_id": order.broker_order_id,
        "placed_qty": "0" if order.status == Status.DENIED else plain(order.qty),
        "filled_qty": plain(order.filled_qty),
        "avg_price": plain(order.avg_price),
        "shadow": _shadow(order),
        "strategy_build": order.strategy_build or None,
        "decision": order.decision,
        "build_id": order.build_id,
        "build_stamp": order.build_stamp or None,
        "trace_id": order.trace_id,
        "created_at": rfc3339(order.created_at),
        "updated_at": rfc3339(order.updated_at),
    }


def _shadow(order: Order) -> dict[str, Any] | None:
    """What became of the part that was only simulated; None for an order without one."""
    known: dict[str, Any] = order._state.fields_cache  # a list reads it together with the orders
    part: ShadowOrder | None = known.get("shadow")
    if order.requested_qty is not None and "shadow" not in known:
        part = ShadowOrder.objects.filter(pk=order.pk).first()
    if part is None:
        return None
    figures = {"qty": part.qty, "filled_qty": part.filled_qty, "avg_price": part.avg_price}
    return {"status": part.status, **{name: plain(value) for name, value in figures.items()}}


def _denial(order: Order) -> str:
    """Why: what the gates said, or what stopped the order between its decision and the send."""
    if "deny" in order.evidence:
        return str(order.evidence["deny"]["message"])
    failed = [check for check in order.decision["checks"] if not check["passed"]]
    return "; ".join(f"{check['gate']}: {check['message']}" for check in failed)


def _remedy(order: Order) -> str:
    """What each gate that failed advises, once each."""
    if "deny" in order.evidence:
        return "nothing was sent; wait until what stopped it is re-armed" + NEW_ID
    advice = [check["remedy"].removesuffix(NEW_ID) for check in order.decision["checks"] if not check["passed"]]
    known = list(dict.fromkeys(each for each in advice if each))
    return "; ".join(known or ["mend it"]) + NEW_ID


def rendered(order: Order, *, replayed: bool) -> JsonResponse:
    """201 new, 200 replayed, 202 not known yet, 422 denied or rejected."""
    if order.status == Status.DENIED:
        answer = problem(422, "order_denied", _denial(order), _remedy(order), order=shown(order))
    elif order.status == Status.REJECTED:
        why = order.evidence.get("reject", {})
        detail = str(why.get("message", "the broker rejected the order"))
        remedy = "mend what the broker names, then send a new id"
        answer = problem(422, "broker_rejected", detail, remedy, order=shown(order))
    else:
        status = 202 if order.status in UNRESOLVED else (200 if replayed else 201)
        answer = JsonResponse(shown(order), status=status)
        if status == 202:
            answer["Retry-After"] = "2"
    if replayed:
        answer["Idempotent-Replayed"] = "true"
    return answer


class Orders(APIView):
    @extend_schema(request=BODY, responses=ANSWER, summary="Place one order, once")
    def post(self, request: Request) -> JsonResponse:
        intent = _intent(request)
        account, strategy = caller(request).parties(intent.account, intent.strategy)
        submission = submit_order(intent, account=account, strategy=strategy, actor=caller(request).name)
        return rendered(submission.order, replayed=submission.replayed)

    @extend_schema(
        responses={200: listed("orders", AN_ORDER)},
        summary="The newest 200 orders of an account",
        parameters=[ACCOUNT, STATUS],
    )
    def get(self, request: Request) -> JsonResponse:
        account, status = _account(request), _status(request)
        rows = Order.objects.select_related("account", "strategy", "shadow").filter(account__code=account)
        rows = rows.filter(status=status) if status else rows
        return JsonResponse({"orders": [shown(order) for order in rows[:200]]})


class OrderCheck(APIView):
    @extend_schema(request=BODY, responses={200: A_DECISION}, summary="The decision alone; nothing is written")
    def post(self, request: Request) -> JsonResponse:
        intent = _intent(request)
        caller(request).parties(intent.account, intent.strategy)
        return JsonResponse(check_order(intent, actor=caller(request).name).as_dict())


class CancelAll(APIView):
    @extend_schema(request=CANCEL_ALL, responses={202: dict}, summary="Cancel every open order of an account")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("trader", "risk", "admin")
        account, strategy, symbol = _wanted(request.data)
        own = caller(request).key.strategy
        caller(request).need_account(account, strategy)
        outcomes = cancel_all(
            account,
            strategy=own.code if own is not None else strategy,
            symbol=symbol,
            actor=caller(request).name,
            clock=SYSTEM_CLOCK,
        )
        orders = [
            {**shown(order), "outcome": outcome.word, "detail": outcome.detail or None} for order, outcome in outcomes
        ]
        return JsonResponse({"orders": orders}, status=202)


class OneOrder(APIView):
    @extend_schema(responses={200: AN_ORDER}, summary="One order as it stands", parameters=[ACCOUNT])
    def get(self, request: Request, client_order_id: str) -> JsonResponse:
        return JsonResponse(shown(_find(request, client_order_id)))

    @extend_schema(responses={202: AN_ORDER}, summary="Cancel an order", parameters=[ACCOUNT])
    def delete(self, request: Request, client_order_id: str) -> JsonResponse:
        caller(request).need_role("trader", "risk", "admin")
        order = _find(request, client_order_id)
        caller(request).need_account(order.account.code, order.strategy.code)
        order = cancel_order(order, actor=caller(request).name, clock=SYSTEM_CLOCK)
        return JsonResponse(shown(order), status=202)


def _wanted(body: Any) -> tuple[str, str | None, str | None]:
    """Whose orders are to go: the account, and optionally one strategy's and one symbol's."""
    errors = FieldErrors()
    known = body if isinstance(body, dict) else {}
    for name in known.keys() - {"account", "strategy", "symbol"}:
        errors.add(str(name), known[name], "is not a known field", "known: account, strategy, symbol")
    account, strategy, symbol = (known.get(name) for name in ("account", "strategy", "symbol"))
    if not isinstance(account, str) or not CODE.fullmatch(account):
        errors.add("account", account, "is not an account's code", "name the account")
    if strategy is not None and not (isinstance(strategy, str) and CODE.fullmatch(strategy)):
        errors.add("strategy", strategy, "is not a strategy's code", "leave it out for all of them")
    if symbol is not None:
        parse_symbol(symbol, "symbol", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    return str(account), strategy, symbol


def _intent(request: Request) -> OrderIntent:
    """The body, and from the header ``X-Strategy-Build`` the build of the strategy that sends it."""
    build = request.headers.get("X-Strategy-Build", "").strip()
    if build and not BUILD_ID.fullmatch(build):
        problem = "must be 1 to 64 of A-Z a-z 0-9 . _ + -"
        raise InvalidInputError([FieldError("X-Strategy-Build", build, problem, "send the registered build's id")])
    return replace(parse_order(request.data), strategy_build=build)


def _account(request: Request) -> str:
    account = request.query_params.get("account", "")
    if not account or "\x00" in account:
        raise InvalidInputError([FieldError("account", account, "is missing", "add ?account=<code>")])
    caller(request).need_account(account)
    return account


def _status(request: Request) -> str | None:
    status = request.query_params.get("status")
    if status is not None and status not in set(map(str, Status)):
        raise InvalidInputError([FieldError("status", status, "is not a status", "use " + ", ".join(map(str, Status)))])
    return status


def _find(request: Request, client_order_id: str) -> Order:
    account = _account(request)
    rows = Order.objects.select_related("account", "strategy")
    order = rows.filter(account__code=account, client_order_id=client_order_id).first()
    if order is None:
        raise NotFoundError(f"{account} has no order {client_order_id}", remedy="check the id and the account")
    return order
