"""The endpoints of the trading API besides submission: look-ups, lists, cancels, account, activities, market days."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from backend.paperbroker.books import cash_activity_json
from backend.paperbroker.desk import Desk
from backend.paperbroker.faults import Faults
from backend.paperbroker.instruments import is_tradable
from backend.paperbroker.ledger import OPEN, time_text
from backend.paperbroker.refusals import Refused
from backend.paperbroker.sessions import calendar_json, clock_json
from backend.paperbroker.shapes import account_json, activity_json, asset_json, order_json, positions_json

Handler = Callable[[Request], Awaitable[Response]]
STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"


def read_routes(desk: Desk, faults: Faults) -> list[tuple[str, str, str, Handler]]:
    """Return (path, method, fault target, handler)."""
    reads = Reads(desk, faults)
    return [
        ("/v2/orders:by_client_order_id", "GET", "lookup", reads.by_client_id),
        ("/v2/orders", "GET", "lookup", reads.orders),
        ("/v2/orders", "DELETE", "cancel", reads.cancel_all),
        ("/v2/orders/{order_id}", "GET", "lookup", reads.order),
        ("/v2/orders/{order_id}", "DELETE", "cancel", reads.cancel),
        ("/v2/orders/{order_id}", "PATCH", "submit", reads.replace),
        ("/v2/account", "GET", "read", reads.account),
        ("/v2/positions", "GET", "read", reads.positions),
        ("/v2/positions/{symbol}", "GET", "read", reads.position),
        ("/v2/account/activities", "GET", "read", reads.activities),
        ("/v2/account/activities/{activity_type}", "GET", "read", reads.activities),
        ("/v2/clock", "GET", "read", reads.clock),
        ("/v2/calendar", "GET", "read", reads.calendar),
        ("/v2/assets", "GET", "read", reads.assets),
        ("/v2/assets/{symbol}", "GET", "read", reads.asset),
    ]


async def body_of(request: Request) -> dict[str, Any]:
    """Return a JSON object. Raises Refused 422."""
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(422, 40010001, "body must be a JSON object")
    return body


def choice(request: Request, name: str, allowed: tuple[str, ...], default: str) -> str:
    """Return a query parameter out of a fixed set. Raises Refused 422."""
    value = request.query_params.get(name, default)
    if value not in allowed:
        raise Refused(422, 40010001, f"invalid {name}")
    return value


def count(request: Request, name: str, default: int, most: int) -> int:
    """Return a page size. Raises Refused 422."""
    value = request.query_params.get(name, str(default))
    if not value.isdigit() or not 0 < int(value) <= most:
        raise Refused(422, 40010001, f"{name} must be 1 to {most}")
    return int(value)


def moment(request: Request, name: str) -> str | None:
    """Return an ISO time of the query in the ledger's own form. Raises Refused 422."""
    value = request.query_params.get(name)
    if not value:
        return None
    try:
        # An unescaped "+" of an offset arrives as a blank.
        parsed = datetime.fromisoformat(value.replace(" ", "+"))
    except ValueError:
        raise Refused(422, 40010001, f"invalid {name}") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC).strftime(STAMP)


def day(request: Request, name: str, default: date) -> date:
    """Return a date of the query. Raises Refused 422."""
    value = request.query_params.get(name)
    try:
        return date.fromisoformat(value[:10]) if value else default
    except ValueError:
        raise Refused(422, 40010001, f"invalid {name}") from None


def _within(request: Request, at: str) -> bool:
    after, until = moment(request, "after"), moment(request, "until")
    return (after is None or at > after) and (until is None or at < until)


class Reads:
    """Handlers over one desk."""

    def __init__(self, desk: Desk, faults: Faults) -> None:
        self._desk, self._ledger, self._faults = desk, desk.ledger, faults

    async def by_client_id(self, request: Request) -> Response:
        """GET /v2/orders:by_client_order_id"""
        client_id = request.query_params.get("client_order_id", "")
        row = self._ledger.order_by_client_id(client_id)
        if row is None or self._faults.hides(client_id):
            raise Refused(404, 40410000, f"order not found for {client_id}")
        return JSONResponse(order_json(row))

    async def order(self, request: Request) -> Response:
        """GET /v2/orders/{id}"""
        row = self._ledger.order(request.path_params["order_id"])
        if row is None:
            raise Refused(404, 40410000, f"order not found for {request.path_params['order_id']}")
        return JSONResponse(order_json(row))

    async def orders(self, request: Request) -> Response:
        """GET /v2/orders: status, limit, after, until, direction, symbols, side"""
        status = choice(request, "status", ("open", "closed", "all"), "open")
        direction = choice(request, "direction", ("asc", "desc"), "desc")
        limit = self._faults.page_size(count(request, "limit", 50, 500))
        clauses, values = ["1 = 1"], []
        if status != "all":
            marks = ", ".join(f"'{name}'" for name in OPEN)
            clauses.append(f"status {'in' if status == 'open' else 'not in'} ({marks})")
        for name, sign in (("after", ">"), ("until", "<")):
            if at := moment(request, name):
                clauses.append(f"created_at {sign} ?")
                values.append(at)
        if symbols := request.query_params.get("symbols"):
            wanted = symbols.split(",")
            clauses.append(f"symbol in ({', '.join('?' for _ in wanted)})")
            values += wanted
        if side := request.query_params.get("side"):
            clauses.append("side = ?")
            values.append(side)
        statement = f"select * from orders where {' and '.join(clauses)} order by seq {direction} limit {limit}"
        return JSONResponse([order_json(row) for row in self._ledger.rows(statement, *values)])

    async def cancel(self, request: Request) -> Response:
        """DELETE /v2/orders/{id}"""
        order = self._ledger.order(request.path_params["order_id"])
        fault = self._faults.for_cancel(order["symbol"]) if order is not None and order["status"] in OPEN else None
        self._desk.cancel(request.path_params["order_id"], fault)
        return Response(status_code=204)

    async def replace(self, request: Request) -> Response:
        """PATCH /v2/orders/{id}: qty, limit_price, time_in_force and client_order_id of the order in its place"""
        order = self._desk.replace(request.path_params["order_id"], await body_of(request))
        self._desk.match(order["symbol"])
        return JSONResponse(order_json(order))

    async def cancel_all(self, request: Request) -> Response:
        """DELETE /v2/orders: one status an order"""
        items: list[dict[str, Any]] = []
        for row in self._ledger.open_orders():
            fault = self._faults.for_cancel(row["symbol"])
            if fault is not None and fault.mode == "cancel_refused":
                items.append({"id": row["id"], "status": 500, "body": {"code": 50010000, "message": fault.message}})
                continue
            if row["status"] != "pending_cancel":
                self._desk.cancel(row["id"], fault)
            ended = self._ledger.order(row["id"])
            items.append({"id": row["id"], "status": 200, "body": order_json(ended) if ended else None})
        return JSONResponse(items, 207)

    async def account(self, request: Request) -> Response:
        """GET /v2/account"""
        self._desk.close_books()
        return JSONResponse(account_json(self._ledger, self._desk.buying_power(), self._desk.books.last_close()))

    async def positions(self, request: Request) -> Response:
        """GET /v2/positions"""
        return JSONResponse(positions_json(self._ledger))

    async def position(self, request: Request) -> Response:
        """GET /v2/positions/{symbol}"""
        for shown in positions_json(self._ledger):
            if request.path_params["symbol"] in (shown["symbol"], shown["asset_id"]):
                return JSONResponse(shown)
        raise Refused(404, 40410000, "position does not exist")

    async def activities(self, request: Request) -> Response:
        """GET /v2/account/activities[/type]: executions, or cash activities; a page ends where the next token starts"""
        if request.query_params.get("category") == "non_trade_activity":
            return self._cash_activities(request, None)
        names = request.path_params.get("activity_type") or request.query_params.get("activity_types", "FILL")
        if "FILL" not in names.split(","):
            return self._cash_activities(request, names.split(","))
        direction = choice(request, "direction", ("asc", "desc"), "desc")
        size = self._faults.page_size(count(request, "page_size", 100, 100))
        clauses, values = ["1 = 1"], []
        for symbol, seconds in self._faults.filed_late():
            clauses.append("(at < ? or (? is not null and symbol != ?))")
            values += [time_text(self._ledger.now() - timedelta(seconds=seconds)), symbol, symbol]
        for name, sign in (("after", ">"), ("until", "<")):
            if at := moment(request, name):
                clauses.append(f"at {sign} ?")
                values.append(at)
        if token := request.query_params.get("page_token"):
            last = self._ledger.row("select seq from executions where activity_id = ?", token)
            if last is None:
                raise Refused(422, 40010001, "invalid page_token")
            clauses.append(f"seq {'>' if direction == 'asc' else '<'} {last['seq']}")
        statement = f"select * from executions where {' and '.join(clauses)} order by seq {direction} limit {size}"
        return JSONResponse([activity_json(row) for row in self._ledger.rows(statement, *values)])

    def _cash_activities(self, request: Request, kinds: list[str] | None) -> Response:
        found = [row for row in self._desk.books.activities(kinds) if _within(request, row["at"])]
        if choice(request, "direction", ("asc", "desc"), "desc") == "desc":
            found.reverse()
        ids = [row["id"] for row in found]
        token = request.query_params.get("page_token")
        if token and token not in ids:
            raise Refused(422, 40010001, "invalid page_token")
        first = ids.index(token) + 1 if token else 0
        page = found[first : first + self._faults.page_size(count(request, "page_size", 100, 100))]
        return JSONResponse([cash_activity_json(row) for row in page])

    async def clock(self, request: Request) -> Response:
        """GET /v2/clock"""
        return JSONResponse(clock_json(self._ledger.now()))

    async def calendar(self, request: Request) -> Response:
        """GET /v2/calendar: start and end, this year by default"""
        this_year = self._ledger.now().year
        start = day(request, "start", date(this_year, 1, 1))
        end = day(request, "end", date(this_year, 12, 31))
        if (end - start).days > 3700:
            raise Refused(422, 40010001, "at most ten years at once")
        return JSONResponse(calendar_json(start, end))

    async def assets(self, request: Request) -> Response:
        """GET /v2/assets: the symbols ever quoted or ordered"""
        statement = "select symbol from quotes union select symbol from orders order by symbol"
        return JSONResponse([asset_json(row["symbol"]) for row in self._ledger.rows(statement)])

    async def asset(self, request: Request) -> Response:
        """GET /v2/assets/{symbol}"""
        symbol = request.path_params["symbol"]
        if not is_tradable(symbol):
            raise Refused(404, 40410000, f"asset not found for {symbol}")
        return JSONResponse(asset_json(symbol))
