"""A small web server that lets Prometheus read what a process without a web server counted: a worker, the stream.

Invariants: whoever asks is asked for the right first, and an answer that cannot be had is a no (503); only ``/metrics``
is answered, and only to GET; the server never holds up the process, nor keeps it alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

log = structlog.get_logger(__name__)

TEXT, LONGEST_WAIT_SECONDS = "text/plain; charset=utf-8", 10


def open_target(host: str, port: int, may: Callable[[str], bool]) -> ThreadingHTTPServer:
    """Serve from a thread of its own; ``may`` judges the Authorization header. Raises OSError when it cannot listen."""

    class Handler(BaseHTTPRequestHandler):
        timeout = LONGEST_WAIT_SECONDS
        server_version, sys_version = "tradingbot", ""

        def do_GET(self) -> None:
            status, kind, body = answer(self.path, self.headers.get("Authorization", ""), may)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A scrape every few seconds is no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="scrape-target", daemon=True).start()
    return server


def answer(path: str, authorization: str, may: Callable[[str], bool]) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    if path.partition("?")[0] != "/metrics":
        return 404, TEXT, b"only /metrics is here\n"
    try:
        allowed = may(authorization)
    except Exception:  # no answer means no
        log.exception("scrape_not_judged")
        return 503, TEXT, b"the key could not be looked up\n"
    if not allowed:
        return 401, TEXT, b"send an API key that reads everything: Authorization: Bearer <key>\n"
    return 200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
