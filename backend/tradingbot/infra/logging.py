"""Log lines: one JSON object a line in production, readable text in a terminal. Every line bears the trace id.

Invariant: no secret leaves in a line. Nobody logs one on purpose; what slips into a message, a value or a traceback is
masked in the line as it is written, by its value and by the look of a bearer key.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote

import structlog

from backend.tradingbot.infra.build_info import build_id, build_stamp

TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")


def _stamp(_logger: Any, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    event.setdefault("trace_id", TRACE_ID.get())
    event.setdefault("build_id", build_id())
    event.setdefault("build_stamp", build_stamp())
    return event


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _stamp,
]


MASK = "[secret]"
SHORTEST_SECRET = 6  # shorter ones would mask ordinary words, and are no secrets
BEARER_KEY = re.compile(r"tb_[A-Za-z0-9_-]{20,}|(?<=Bearer )[^\s\"',}]+")


class Masked:
    """A renderer whose lines bear none of ``secrets``, in no spelling that JSON or an address gives them."""

    def __init__(self, renderer: Any, secrets: Iterable[str]) -> None:
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= SHORTEST_SECRET
            for spelling in (
                secret,
                json.dumps(secret)[1:-1],
                repr(secret)[1:-1],
                quote(secret),
                quote(secret, safe=""),
            )
        }
        self._render = renderer
        longest_first = sorted(spellings, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, logger: Any, name: str, event: dict[str, Any]) -> str:
        line = str(self._render(logger, name, event))
        if self._secrets is not None:
            line = self._secrets.sub(MASK, line)
        return BEARER_KEY.sub(MASK, line)


def logging_config(*, log_format: str, level: str, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """``dictConfig`` for the standard library's logging, and structlog configured to feed it.

    ``secrets`` are the values that no line may bear.
    """
    logging.captureWarnings(True)  # Python's own warnings are lines like all others
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # never a traceback with the values of variables: they may hold anything
    plain = structlog.dev.plain_traceback
    rendering: list[Any] = (
        [structlog.processors.format_exc_info, Masked(structlog.processors.JSONRenderer(), secrets)]
        if log_format == "json"
        else [Masked(structlog.dev.ConsoleRenderer(exception_formatter=plain), secrets)]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *rendering,
                ],
            }
        },
        "handlers": {"stream": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stream"], "level": level},
        "loggers": {
            "django.request": {"level": "ERROR"},
            "axes": {"level": "WARNING"},
            "urllib3": {"level": "WARNING"},
        },
    }
