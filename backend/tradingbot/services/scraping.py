"""Who may read the metrics of a process, and the door through which a process that serves no pages is read.

Invariant: the same keys open ``/metrics`` of the web server and of every other process, and a revoked one opens none.
"""

from __future__ import annotations

from http.server import ThreadingHTTPServer

import structlog
from django.conf import settings
from django.db import connection

from backend.tradingbot.core.values import Severity
from backend.tradingbot.data.checks import CATALOGUE
from backend.tradingbot.infra import metrics
from backend.tradingbot.infra.scrape_target import open_target
from backend.tradingbot.models import ApiKey
from backend.tradingbot.services import channels
from backend.tradingbot.services.keys import key_digest

log = structlog.get_logger(__name__)

SCRAPERS = ("viewer", "risk", "admin")  # the figures are of every account


def begin_at_zero() -> None:
    """Let what must alert at its first happening be there before it: a count that is born at 1 has no increase."""
    for check, described in CATALOGUE.items():
        if described.severity is Severity.HARD:
            metrics.VERDICTS.labels(check, Severity.HARD.value)
    for channel in channels.configured(settings.TRADINGBOT):
        metrics.NOTIFICATIONS.labels(channel, "failed")


def may_scrape(authorization: str) -> bool:
    """Whether the Authorization header names a living key that reads everything, or none is needed."""
    if settings.TRADINGBOT.metrics_public:
        return True
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return False
    keys = ApiKey.objects.filter(digest=key_digest(token.strip()), revoked_at__isnull=True, role__in=SCRAPERS)
    try:
        return keys.exists()
    finally:
        connection.close()  # each scrape comes in a thread of its own, whose connection nobody else would close


def let_scrape() -> ThreadingHTTPServer | None:
    """Open this process to Prometheus where WORKER_METRICS_PORT names a port.

    A port that cannot be had is an error in the log, and a target that is down for Prometheus; it stops no trading.
    """
    config = settings.TRADINGBOT
    if not config.worker_metrics_port:
        return None
    try:
        server = open_target(config.worker_metrics_host, config.worker_metrics_port, may_scrape)
    except OSError as error:
        log.error(
            "scrape_target_closed",
            host=config.worker_metrics_host,
            port=config.worker_metrics_port,
            problem=str(error),
            remedy="set WORKER_METRICS_HOST and WORKER_METRICS_PORT to what this process may listen on",
        )
        return None
    log.info("scrape_target_open", host=config.worker_metrics_host, port=config.worker_metrics_port)
    return server
