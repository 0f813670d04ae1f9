"""Log lines: one JSON object a line in production, readable text in a terminal. Every line bears the trace id."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

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


def logging_config(*, log_format: str, level: str) -> dict[str, Any]:
    """``dictConfig`` for the standard library's logging, and structlog configured to feed it."""
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    renderer,
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
