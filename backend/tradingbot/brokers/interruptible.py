"""Connections that can be interrupted between a request and its answer; used only while fail points are active.

The moment "the bytes are gone, nothing has come back" lies inside the HTTP library, so that is where it is caught. Only
plain HTTP is covered: the paper broker speaks nothing else.
"""

from __future__ import annotations

import json
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from backend.tradingbot.infra import failpoints

MID_SEND = {"POST": "broker.mid_send", "DELETE": "cancel.mid_send"}


class InterruptibleConnection(HTTPConnection):
    """Passes a fail point after the request was written and before its answer is read."""

    _sent: tuple[str, str] = ("", "")

    def request(self, method: str, url: str, body: Any = None, *args: Any, **options: Any) -> None:  # type: ignore[override]
        """Write the request, and remember what it was."""
        self._sent = (method, client_order_id_of(body) or url.rsplit("/", 1)[-1])
        super().request(method, url, body, *args, **options)

    def getresponse(self) -> Any:  # type: ignore[override]
        """Read the answer."""
        method, subject = self._sent
        point = MID_SEND.get(method)
        if point is not None:
            failpoints.hit(point, subject, requests.ConnectionError)
        return super().getresponse()


class InterruptiblePool(HTTPConnectionPool):
    """A pool of such connections."""

    ConnectionCls = InterruptibleConnection  # type: ignore[assignment]


class InterruptibleAdapter(HTTPAdapter):
    """A session's adapter over such pools."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools."""
        super().init_poolmanager(*args, **options)
        classes = {**self.poolmanager.pool_classes_by_scheme, "http": InterruptiblePool}
        self.poolmanager.pool_classes_by_scheme = classes


def client_order_id_of(body: Any) -> str:
    """The id in the body of an order; empty when it is none."""
    try:
        parsed = json.loads(body or b"")
    except (TypeError, ValueError):
        return ""
    return str(parsed.get("client_order_id", "")) if isinstance(parsed, dict) else ""
