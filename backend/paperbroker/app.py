"""The HTTP face of the paper broker: routes, key check, request ids, error bodies, and where faults bite.

Invariants: an order is committed before its answer starts; every answer carries X-Request-ID; the control routes do
not exist unless faults were enabled at start.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from backend.paperbroker.arrivals import ORDER, REJECT
from backend.paperbroker.control import control_routes
from backend.paperbroker.desk import Desk
from backend.paperbroker.faults import Faults
from backend.paperbroker.ledger import Ledger
from backend.paperbroker.reads import read_routes
from backend.paperbroker.refusals import Fault, Refused
from backend.paperbroker.shapes import order_json
from backend.paperbroker.stream import Hub

Handler = Callable[[Request], Awaitable[Response]]
HTML_500 = "<html><head><title>500</title></head><body><h1>Internal Server Error</h1></body></html>"


class Dropped(Response):
    """No answer at all: the connection is aborted."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Abort the transport and wait until the server has noticed."""
        scope["state"]["transport"].abort()
        await asyncio.sleep(0.01)


class KeysAndRequestId:
    """ASGI wrapper: refuses HTTP calls without the keys and stamps every answer."""

    def __init__(self, app: ASGIApp, key: str, secret: str) -> None:
        self._app, self._key, self._secret = app, key, secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex

        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        refusal = self._refusal(dict(scope["headers"]))
        await (refusal or self._app)(scope, receive, stamped)

    def _refusal(self, headers: dict[bytes, bytes]) -> Response | None:
        key, secret = headers.get(b"apca-api-key-id"), headers.get(b"apca-api-secret-key")
        if not key or not secret:
            return error(401, 40110000, "request is not authorized")
        good_key = hmac.compare_digest(key, self._key.encode())
        if not (good_key and hmac.compare_digest(secret, self._secret.encode())):
            return error(403, 40310000, "forbidden.")
        return None


def error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error in Alpaca's shape."""
    return JSONResponse({"code": code, "message": message}, status, headers)


async def on_refused(request: Request, raised: Exception) -> Response:
    """Turn Refused into an answer."""
    assert isinstance(raised, Refused)
    return error(raised.status, raised.code, raised.message)


async def on_http(request: Request, raised: Exception) -> Response:
    """Turn routing errors into Alpaca's shape."""
    assert isinstance(raised, HTTPException)
    return error(raised.status_code, raised.status_code * 100000 + 10000, raised.detail)


async def answer_badly(fault: Fault | None, good: Callable[[], Response]) -> Response:
    """Answer as the fault says once the work is done, or well."""
    mode = fault.mode if fault else ""
    if fault and mode.startswith("hang"):
        await asyncio.sleep(fault.seconds)
        return Dropped()
    if mode.startswith("drop"):
        return Dropped()
    if mode.startswith("error_500"):
        return Response(HTML_500, 500, media_type="text/html")
    if mode.startswith("garbage"):
        return Response('{"id": "not an ord', 200, media_type="application/json")
    if mode == "rate_limit":
        return error(429, 42910000, "rate limit exceeded", {"Retry-After": "1"})
    return good()


class Submission:
    """POST /v2/orders with every way it can go wrong."""

    def __init__(self, desk: Desk, faults: Faults) -> None:
        self._desk, self._faults = desk, faults

    async def __call__(self, request: Request) -> Response:
        """Accept an order; it is matched right after its answer has left."""
        try:
            body = json.loads(await request.body())
        except ValueError:
            raise Refused(422, 40010001, "request body format is invalid") from None
        if isinstance(body, dict) and body.get("client_order_id") is None:
            body["client_order_id"] = str(uuid.uuid4())
        fault = self._faults.for_call("submit", body.get("symbol") if isinstance(body, dict) else None)
        mode = fault.mode if fault else ""
        if fault and mode == "slow":
            await asyncio.sleep(fault.seconds)
        elif fault and mode == "late_arrival":
            self._desk.arrivals.schedule(ORDER, body, fault.seconds)
            return Dropped()
        elif fault and mode == "reject":
            raise Refused(fault.status, fault.code, fault.message)
        elif mode in ("hang_before", "drop_before", "error_500", "garbage", "rate_limit"):
            return await answer_badly(fault, Response)
        return await self._accept(body, fault)

    async def _accept(self, body: Any, fault: Fault | None) -> Response:
        order = self._desk.accept(body)
        self._faults.noted(order["client_order_id"])
        shown = order_json(order)
        if fault and fault.mode == "reject_later":
            self._desk.arrivals.schedule(REJECT, order["id"], fault.seconds)
            return JSONResponse(shown)
        if fault and fault.mode.endswith(("_after_accept", "_before_ack")):
            # The client is kept waiting, so the market must not wait for its answer.
            self._desk.match(order["symbol"])
            if fault.mode == "fill_before_ack":
                await asyncio.sleep(fault.seconds)
            return await answer_badly(fault, lambda: JSONResponse(shown))
        return JSONResponse(shown, background=BackgroundTask(self._match, order["symbol"]))

    async def _match(self, symbol: str) -> None:
        self._desk.match(symbol)


def with_faults(handler: Handler, target: str, faults: Faults) -> Handler:
    """Let call faults bite on a handler other than submission."""

    async def wrapped(request: Request) -> Response:
        fault = faults.for_call(target)
        if fault is None:
            return await handler(request)
        if fault.mode == "slow":
            await asyncio.sleep(fault.seconds)
            return await handler(request)
        if not fault.mode.endswith("_after_accept"):
            return await answer_badly(fault, Response)
        answer = await handler(request)
        return await answer_badly(fault, lambda: answer)

    return wrapped


def build_app(
    ledger: Ledger, key: str, secret: str, faults_enabled: bool = False, fees: bool = True
) -> tuple[ASGIApp, Desk]:
    """Return the ASGI application over a ledger, and its desk; orders left unmatched by a crash are matched first."""
    faults = Faults()
    hub = Hub(faults.for_event, ledger.now_text)
    desk = Desk(ledger, hub)
    desk.charges_fees = fees
    for symbol in {order["symbol"] for order in ledger.open_orders()}:
        desk.match(symbol)
    routes: list[Any] = [Route("/v2/orders", with_submission(desk, faults), methods=["POST"])]
    for path, method, target, handler in read_routes(desk, faults):
        routes.append(Route(path, with_faults(handler, target, faults), methods=[method]))
    routes += control_routes(desk, faults, faults_enabled)

    async def stream(socket: WebSocket) -> None:
        await hub.serve(socket, key, secret)

    routes.append(WebSocketRoute("/stream", stream))
    handlers: Any = {Refused: on_refused, HTTPException: on_http}
    return KeysAndRequestId(Starlette(routes=routes, exception_handlers=handlers), key, secret), desk


def with_submission(desk: Desk, faults: Faults) -> Handler:
    """Return the submission endpoint as a plain function, which routing takes for a request handler."""
    submission = Submission(desk, faults)

    async def submit(request: Request) -> Response:
        return await submission(request)

    return submit
