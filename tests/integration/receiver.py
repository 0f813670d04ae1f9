"""The far side of a channel: a real HTTP server on this machine that keeps what it is sent, and when."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Receiver:
    """A channel's far side on this machine: keeps what it gets, and answers what it is told to."""

    url: str = ""
    got: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)

    def moment_of(self, words: str) -> float | None:
        """When the first message with ``words`` came."""
        pairs = zip(list(self.got), list(self.came), strict=False)
        return next((came for (_, body, _), came in pairs if words in body["text"]), None)

    def texts(self, path: str) -> list[str]:
        return [body["text"] for where, body, _ in self.got if where == path]


@contextmanager
def receiving() -> Iterator[Receiver]:
    seen = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.came.append(time.time())
            seen.got.append((self.path, body, self.headers["Idempotency-Key"]))
            status, headers, text = seen.answers.pop(0) if seen.answers else (200, {}, b"ok")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as seen:
        yield seen
