"""The /stream websocket: Alpaca's trading stream (authenticate, listen, trade_updates), sent as binary JSON frames.

There is no snapshot and no replay, as at Alpaca: who was away catches up by REST. Events are sent in ledger order
unless a fault duplicates, reorders or drops them.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from backend.paperbroker.ledger import time_text
from backend.paperbroker.shapes import order_json

Message = dict[str, Any]


class Hub:
    """Fans trade updates out to the listening sockets; ``fault`` names what to do with the next event, or None."""

    def __init__(
        self,
        fault: Callable[[], str | None] = lambda: None,
        now: Callable[[], str] = lambda: time_text(datetime.now(UTC)),
    ) -> None:
        self._fault, self._now = fault, now
        self._queues: set[asyncio.Queue[Message | None]] = set()
        self._held: Message | None = None

    def order_event(self, event: str, order: sqlite3.Row) -> None:
        """Publish what happened to an order: new, canceled, expired, replaced, rejected, order_cancel_rejected..."""
        self._publish({"event": event, "timestamp": self._now(), "order": order_json(order)})

    def execution_event(self, execution: sqlite3.Row, order: sqlite3.Row, position_qty: str) -> None:
        """Publish fill, partial_fill, trade_bust or trade_correct."""
        data = {"event": execution["type"], "execution_id": execution["id"], "timestamp": execution["at"],
                "price": execution["price"], "qty": execution["qty"], "position_qty": position_qty,
                "order": order_json(order)}  # fmt: skip
        if execution["previous_execution_id"]:
            data["previous_execution_id"] = execution["previous_execution_id"]
        self._publish(data)

    def _publish(self, data: Message) -> None:
        fault = self._fault() if self._queues else None
        if fault == "gap_events":
            return
        if fault == "reorder_events" and self._held is None:
            self._held = data
            return
        held, self._held = self._held, None
        sent = [data, data] if fault == "duplicate_events" else [data]
        for message in sent + ([held] if held else []):
            for queue in self._queues:
                queue.put_nowait({"stream": "trade_updates", "data": message})

    def close_all(self) -> int:
        """Close every socket; returns how many."""
        for queue in self._queues:
            queue.put_nowait(None)
        return len(self._queues)

    async def serve(self, socket: WebSocket, key: str, secret: str) -> None:
        """Talk to one client until it leaves."""
        await socket.accept()
        queue: asyncio.Queue[Message | None] = asyncio.Queue()
        sender = asyncio.create_task(self._send(socket, queue))
        authorized = False
        try:
            while True:
                frame = await socket.receive()
                if frame["type"] == "websocket.disconnect":
                    break
                request = _parse(frame.get("text") or frame.get("bytes") or b"")
                if request.get("action") in ("auth", "authenticate"):
                    authorized = _credentials(request) == (key, secret)
                    status = "authorized" if authorized else "unauthorized"
                    queue.put_nowait({"stream": "authorization", "data": {"status": status, "action": "authenticate"}})
                elif request.get("action") == "listen" and authorized:
                    data = request.get("data")
                    names = data.get("streams", []) if isinstance(data, dict) else []
                    listening = [name for name in names if name == "trade_updates"]
                    (self._queues.add if listening else self._queues.discard)(queue)
                    queue.put_nowait({"stream": "listening", "data": {"streams": listening}})
                else:
                    message = "unknown action" if authorized else "not authorized"
                    queue.put_nowait({"stream": "error", "data": {"error": message}})
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self._queues.discard(queue)
            sender.cancel()

    async def _send(self, socket: WebSocket, queue: asyncio.Queue[Message | None]) -> None:
        while (message := await queue.get()) is not None:
            await socket.send_bytes(json.dumps(message).encode())
        await socket.close()


def _parse(frame: str | bytes) -> Message:
    try:
        parsed = json.loads(frame)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _credentials(request: Message) -> tuple[Any, Any]:
    data = request.get("data")
    if isinstance(data, dict):
        return data.get("key_id"), data.get("secret_key")
    return request.get("key"), request.get("secret")
