"""Connections that can be interrupted between a request and its answer; used only while fail points are active.

The moment "the bytes are gone, nothing has come back" lies inside the HTTP library, so that is where it is caught. Only
plain HTTP is covered: the paper broker speaks nothing else.
"""

from __future__ import annotations

import json
from typing import Any

import requests
from urllib3.connectionpool import HTTPConnectionPool

from backend.tradingbot.brokers.deadline import TimedAdapter, TimedConnection
from backend.tradingbot.infra import failpoints

MID_SEND = {"POST": "broker.mid_send", "DELETE": "cancel.mid_send"}


class InterruptibleConnection(TimedConnection):
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


class InterruptibleAdapter(TimedAdapter):
    """A session's adapter over such pools."""

    pools = {**TimedAdapter.pools, "http": InterruptiblePool}


def client_order_id_of(body: Any) -> str:
    """The id in the body of an order; empty when it is none."""
    try:
        parsed = json.loads(body or b"")
    except (TypeError, ValueError):
        return ""
    return str(parsed.get("client_order_id", "")) if isinstance(parsed, dict) else ""
