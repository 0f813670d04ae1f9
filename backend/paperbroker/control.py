"""The endpoints Alpaca has not got: quotes in, and behind PAPER_FAULTS=1 the faults, busts and the bare ledger."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backend.paperbroker.books import cash_activity_json
from backend.paperbroker.desk import Desk, number
from backend.paperbroker.faults import Faults
from backend.paperbroker.instruments import is_tradable
from backend.paperbroker.matching import Quote
from backend.paperbroker.reads import body_of
from backend.paperbroker.refusals import Refused
from backend.paperbroker.sessions import NEW_YORK, ONE_DAY, clock_json
from backend.paperbroker.shapes import activity_json, order_json

KIND = re.compile(r"[A-Z]{2,8}")


def control_routes(desk: Desk, faults: Faults, faults_enabled: bool) -> list[Route]:
    """Return the quote route and, when enabled, the control routes."""
    control = Control(desk, faults)
    routes = [Route("/paper/quotes", control.quotes, methods=["POST"])]
    if not faults_enabled:
        return routes
    return [
        *routes,
        Route("/control/faults", control.arm, methods=["POST"]),
        Route("/control/faults", control.armed, methods=["GET"]),
        Route("/control/faults", control.clear, methods=["DELETE"]),
        Route("/control/bust", control.bust, methods=["POST"]),
        Route("/control/cash", control.cash, methods=["POST"]),
        Route("/control/clock", control.clock, methods=["POST"]),
        Route("/control/execute", control.execute, methods=["POST"]),
        Route("/control/fees", control.fees, methods=["POST"]),
        Route("/control/drop_stream", control.drop_stream, methods=["POST"]),
        Route("/control/ledger", control.ledger, methods=["GET"]),
    ]


def parse_quote(item: Any) -> Quote:
    """Return a quote; a missing price or a null size stays None. Raises Refused 422."""
    if not isinstance(item, dict) or not is_tradable(item.get("symbol")):
        raise Refused(422, 40010001, "quote needs a symbol")
    prices = [number(item[name], name) if item.get(name) is not None else None for name in ("bid", "ask", "last")]
    sizes = [number(item[n], n, positive=False) if item.get(n) is not None else None for n in ("bid_size", "ask_size")]
    bid, ask, last = prices
    if bid is not None and ask is not None and ask < bid:
        raise Refused(422, 40010001, "crossed quote")
    return Quote(item["symbol"], bid, ask, sizes[0], sizes[1], last)


class Control:
    """Handlers over one desk and its faults."""

    def __init__(self, desk: Desk, faults: Faults) -> None:
        self._desk, self._faults = desk, faults

    async def quotes(self, request: Request) -> Response:
        """POST /paper/quotes: all are checked before the first is used; answers with the number of executions"""
        items = (await body_of(request)).get("quotes")
        if not isinstance(items, list):
            raise Refused(422, 40010001, "quotes must be a list")
        quotes = [parse_quote(item) for item in items]
        return JSONResponse({"quotes": len(quotes), "executions": sum(self._desk.quote(quote) for quote in quotes)})

    async def arm(self, request: Request) -> Response:
        """POST /control/faults"""
        return JSONResponse(self._faults.arm(await body_of(request)), 201)

    async def armed(self, request: Request) -> Response:
        """GET /control/faults"""
        return JSONResponse({"faults": self._faults.listing()})

    async def clear(self, request: Request) -> Response:
        """DELETE /control/faults"""
        self._faults.clear()
        return Response(status_code=204)

    async def bust(self, request: Request) -> Response:
        """POST /control/bust {execution_id, price?, qty?}: with a price or quantity it corrects instead"""
        body = await body_of(request)
        price, qty = (number(body[name], name) if body.get(name) is not None else None for name in ("price", "qty"))
        return JSONResponse(activity_json(self._desk.bust(str(body.get("execution_id")), price, qty)), 201)

    async def cash(self, request: Request) -> Response:
        """POST /control/cash {kind, amount, description?}: a deposit, a withdrawal (below zero), a fee..."""
        body = await body_of(request)
        kind, sent = body.get("kind"), str(body.get("amount"))
        if not isinstance(kind, str) or not KIND.fullmatch(kind):
            raise Refused(422, 40010001, "kind must be the broker's word, such as CSD")
        amount = number(sent.removeprefix("-"), "amount") * (-1 if sent.startswith("-") else 1)
        row = self._desk.move_cash(kind, amount, str(body.get("description") or ""))
        return JSONResponse(cash_activity_json(row), 201)

    async def clock(self, request: Request) -> Response:
        """POST /control/clock {advance_seconds} or {at} or {}: moves the broker's clock; {} sets it right again"""
        body, ledger = await body_of(request), self._desk.ledger
        real = ledger.now() - ledger.offset
        try:
            if body.get("at") is not None:
                offset = datetime.fromisoformat(str(body["at"])) - real
            else:
                advance = body.get("advance_seconds")
                offset = timedelta(0) if advance is None else ledger.offset + timedelta(seconds=float(advance))
        except (TypeError, ValueError, OverflowError):
            raise Refused(422, 40010001, "at must be a time with its zone, advance_seconds a number") from None
        ledger.set_clock(offset)
        self._desk.keep_house()
        return JSONResponse(clock_json(ledger.now()))

    async def execute(self, request: Request) -> Response:
        """POST /control/execute {client_order_id or order_id, qty, price}: whatever the order's state and quantity"""
        body, ledger = await body_of(request), self._desk.ledger
        named = ledger.order_by_client_id(str(body.get("client_order_id")))
        order_id = str(body.get("order_id")) if named is None else named["id"]
        qty, price = number(body.get("qty"), "qty"), number(body.get("price"), "price")
        return JSONResponse(activity_json(self._desk.execute(order_id, qty, price)), 201)

    async def fees(self, request: Request) -> Response:
        """POST /control/fees: posts the fees of every day up to today now, as the next session would"""
        now = self._desk.ledger.now()
        tomorrow = now.astimezone(NEW_YORK).date() + ONE_DAY
        return JSONResponse({"posted": self._desk.fees.post(now, before=tomorrow)})

    async def drop_stream(self, request: Request) -> Response:
        """POST /control/drop_stream: closes every trading stream"""
        return JSONResponse({"closed": self._desk.hub.close_all()})

    async def ledger(self, request: Request) -> Response:
        """GET /control/ledger: every order with its refused resubmissions, every execution, positions, cash"""
        ledger = self._desk.ledger
        orders = [
            {**order_json(row), "refused_duplicates": row["refused_duplicates"], "reject_reason": row["reject_reason"]}
            for row in ledger.rows("select * from orders order by seq")
        ]
        executions = [
            {**activity_json(row), "execution_id": row["id"]}
            for row in ledger.rows("select * from executions order by seq")
        ]
        positions = {row["symbol"]: row["qty"] for row in ledger.rows("select * from positions order by symbol")}
        return JSONResponse({"orders": orders, "executions": executions, "positions": positions,
                             "cash": ledger.account()["cash"]})  # fmt: skip
