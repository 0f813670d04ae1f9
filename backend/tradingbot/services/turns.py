"""A turn for each of many: an account, an order or a feed that fails keeps none of the others waiting.

Invariants: what nobody thought of is logged at once and raised when all had their turn, so that the task fails, is
counted and alerted; a database that is gone ends the pass where it stands, because each further turn would wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import structlog
from django.db import InterfaceError, OperationalError

from backend.tradingbot.core.errors import TradingbotError

log = structlog.get_logger(__name__)


class Turns:
    """``with Turns() as turns``, and in it ``with turns.each("poll_failed", account=code)`` around each step.

    ``failed`` is the first error that ended a turn; leaving the outer block raises it.
    """

    def __init__(self) -> None:
        self.failed: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.failed is not None:
            raise self.failed

    @contextmanager
    def each(self, event: str, **about: object) -> Iterator[None]:
        """One turn; an error that ends it is logged as ``event`` with ``about``, and kept."""
        try:
            yield
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            self.note(error, event, **about)

    def note(self, error: Exception, event: str, **about: object) -> None:
        """Log and keep an error that a turn has caught by itself."""
        if isinstance(error, TradingbotError):  # it says what it is: a traceback would add nothing
            log.error(event, code=error.code, problem=error.message, **about)
        else:
            log.exception(event, **about)
        self.failed = self.failed or error
