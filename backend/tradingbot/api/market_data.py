"""Market data over REST: ticks and bars in, in batches, and what stops a symbol and releases it."""

from __future__ import annotations

from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.api.parsing import ExactJSONParser, Lines, NdjsonParser
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import FieldError, FieldErrors, InvalidInputError
from backend.tradingbot.core.market_parsing import BAR_VALUES, INTERVALS, MAX_ROWS
from backend.tradingbot.core.parsing import parse_symbol
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.selectors.market_data import overview, shown_stop
from backend.tradingbot.services.bars import post_bars
from backend.tradingbot.services.data_stops import release_symbol
from backend.tradingbot.services.market_data import post_ticks

DECIMAL = {"type": "string", "example": "190.10"}
TIME = {"type": "string", "format": "date-time"}
TICK = {
    "type": "object",
    "required": ["symbol", "price", "time"],
    "additionalProperties": False,
    "properties": {
        "symbol": {"type": "string"},
        "price": DECIMAL,
        "time": TIME,
        **{name: {**DECIMAL, "nullable": True} for name in ("bid", "ask", "size")},
    },
}
BAR = {
    "type": "object",
    "required": ["symbol", "interval", "time", *BAR_VALUES],
    "additionalProperties": False,
    "properties": {
        "symbol": {"type": "string"},
        "interval": {"type": "string", "enum": list(INTERVALS)},
        "time": TIME,
        **dict.fromkeys(BAR_VALUES, DECIMAL),
    },
}
RELEASE = {
    "application/json": {
        "type": "object",
        "required": ["reason"],
        "additionalProperties": False,
        "properties": {
            "reason": {"type": "string", "maxLength": 200},
            "check": {"type": "string", "nullable": True, "description": "One check; without it every open stop."},
        },
    }
}
SYMBOL = OpenApiParameter("symbol", str, description="Only these, separated by commas.")
FEED = OpenApiParameter(
    "feed", str, description="A declared second source: its bars are compared, and used for nothing."
)


def _batch(name: str, row: dict[str, Any]) -> dict[str, Any]:
    rows = {"type": "array", "minItems": 1, "maxItems": MAX_ROWS, "items": row}
    whole = {"type": "object", "required": [name], "additionalProperties": False, "properties": {name: rows}}
    return {"application/json": whole, "application/x-ndjson": {"type": "string", "description": "One row a line."}}


def _body(request: Request, name: str) -> Any:
    """A JSON object as it came; lines become the list that the object would hold."""
    return {name: list(request.data)} if isinstance(request.data, Lines) else request.data


class FeedView(APIView):
    parser_classes = [ExactJSONParser, NdjsonParser]

    def may_feed(self, request: Request) -> frozenset[str]:
        caller(request).need_capability("feed")
        return frozenset(caller(request).key.feed_symbols)


class Ticks(FeedView):
    @extend_schema(request=_batch("ticks", TICK), responses={200: dict}, summary="Feed ticks")
    def post(self, request: Request) -> JsonResponse:
        may_feed, actor = self.may_feed(request), caller(request).name
        body = _body(request, "ticks")
        return JsonResponse(post_ticks(body, may_feed=may_feed, clock=SYSTEM_CLOCK, actor=actor))


class Bars(FeedView):
    @extend_schema(request=_batch("bars", BAR), responses={200: dict}, summary="Feed bars", parameters=[FEED])
    def post(self, request: Request) -> JsonResponse:
        may_feed, actor = self.may_feed(request), caller(request).name
        body, feed = _body(request, "bars"), request.query_params.get("feed")
        return JsonResponse(post_bars(body, may_feed=may_feed, clock=SYSTEM_CLOCK, actor=actor, feed=feed))


class DataQuality(APIView):
    @extend_schema(responses={200: dict}, parameters=[SYMBOL], summary="Freshness, stops, feeds and the last runs")
    def get(self, request: Request) -> JsonResponse:
        asked = request.query_params.get("symbol")
        only = None if asked is None else _symbols(asked)
        return JsonResponse(overview(hot_state(), SYSTEM_CLOCK.now(), only))


class ReleaseData(APIView):
    @extend_schema(request=RELEASE, responses={200: dict}, summary="Let a stopped symbol go on, with a reason")
    def post(self, request: Request, symbol: str) -> JsonResponse:
        caller(request).need_role("risk")
        body = request.data
        if not isinstance(body, dict) or body.keys() - {"reason", "check"}:
            problem = FieldError("body", body, "must be an object of reason and check", 'send {"reason": "..."}')
            raise InvalidInputError([problem])
        check = body.get("check")
        if check is not None and (not isinstance(check, str) or "\x00" in check):
            raise InvalidInputError([FieldError("check", check, "must be a check's name", "see GET data-quality")])
        (name,) = _symbols(symbol)
        rows = release_symbol(
            name, check=check, actor=caller(request).name, reason=body.get("reason"), clock=SYSTEM_CLOCK
        )
        return JsonResponse({"released": [shown_stop(row) for row in rows]})


def _symbols(text: str) -> list[str]:
    errors = FieldErrors()
    found = [parse_symbol(part.strip(), "symbol", errors) for part in text.split(",")[:200]]
    if errors:
        raise InvalidInputError(errors.errors)
    return found
