"""A broker that answers by script over real HTTP, and misbehaves where it is told to."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


def order_json(**changes: Any) -> dict[str, Any]:
    body = {
        "id": "b-1", "client_order_id": "id-1", "symbol": "AAPL", "side": "buy", "qty": "10.5", "type": "limit",
        "limit_price": "190.1", "status": "new", "filled_qty": "0", "filled_avg_price": None, "time_in_force": "day",
        "submitted_at": "2026-03-02T14:30:00.123456789Z", "updated_at": None, "replaced_by": None,
    }  # fmt: skip
    return body | changes


def fill_json(number: int, **changes: Any) -> dict[str, Any]:
    body = {
        "id": f"2026030214300000{number}::exec-{number}", "activity_type": "FILL", "type": "partial_fill",
        "order_id": "b-1", "symbol": "AAPL", "side": "buy", "qty": "2", "price": "190.05",
        "transaction_time": "2026-03-02T14:30:01Z",
    }  # fmt: skip
    return body | changes


class Broker:
    """A server whose answers are scripted by (method, path): a (status, body) pair, or a function of the handler."""

    def __init__(self) -> None:
        self.script: dict[tuple[str, str], Any] = {}
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.released = threading.Event()
        broker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                broker.seen.append((self.command, parts.path, query, json.loads(body) if body else None))
                planned = broker.script[(self.command, parts.path)]
                planned = planned(self, query) if callable(planned) else planned
                if planned is not None:
                    self.reply(*planned)

            do_GET = do_POST = do_DELETE = answer

            def reply(self, status: int, body: Any) -> None:
                text = body if isinstance(body, str) else json.dumps(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("X-Request-ID", f"request-{len(broker.seen)}")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: Any) -> None:
                """Silence: the test reads ``seen``."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def count(self, method: str, path: str) -> int:
        return sum(1 for seen in self.seen if seen[:2] == (method, path))

    def stop(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def hang(broker: Broker) -> Callable[..., None]:
    def wait(handler: Any, query: Any) -> None:
        broker.released.wait(5)
        handler.close_connection = True

    return wait


def reset(handler: Any, query: Any) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def cut_short(handler: Any, query: Any) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b'5\r\n{"id"\r\n')
    handler.close_connection = True
