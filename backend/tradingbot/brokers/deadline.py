"""HTTP connections that write nothing once the time to send is over.

The last look at the clock is here, between the open connection and the write to its socket: connecting and the
handshake of TLS are over by then, and a process that was paused anywhere before notices. A request whose headers went
out and whose body did not is no request: the broker cannot act on it, and the connection is closed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from backend.tradingbot.core.clock import Deadline

_present = threading.local()


class PastDeadlineError(Exception):
    """The time was over before the request was whole on the wire, so that nothing can come of it."""


@contextmanager
def not_after(deadline: Deadline | None) -> Iterator[None]:
    """What this thread writes to a broker inside the block is written before ``deadline``, or not at all."""
    before = getattr(_present, "deadline", None)
    _present.deadline = deadline
    try:
        yield
    finally:
        _present.deadline = before


class _Timed:
    """A connection that looks at the clock right before each write."""

    sock: Any
    connect: Any

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        deadline = getattr(_present, "deadline", None)
        if deadline is not None and deadline.passed():
            raise PastDeadlineError("the time to send is over")
        super().send(data)  # type: ignore[misc]


class TimedConnection(_Timed, HTTPConnection):
    """Plain HTTP."""


class TimedSecureConnection(_Timed, HTTPSConnection):
    """HTTP over TLS."""


class TimedPool(HTTPConnectionPool):
    ConnectionCls = TimedConnection


class TimedSecurePool(HTTPSConnectionPool):
    ConnectionCls = TimedSecureConnection


class TimedAdapter(HTTPAdapter):
    """A session's adapter over such connections."""

    pools: dict[str, type[HTTPConnectionPool]] = {"http": TimedPool, "https": TimedSecurePool}

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {**self.poolmanager.pool_classes_by_scheme, **self.pools}
