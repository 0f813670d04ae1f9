"""What becomes of background tasks, as metrics: their outcome, how long they ran, how late they began.

A task carries the time of its sending in a header, so that its lateness is known wherever it runs; what expired before
it began is an outcome of its own. ``WORKER_METRICS_PORT`` lets a worker on a machine of its own be scraped; beside the
web server it counts into the files of ``PROMETHEUS_MULTIPROC_DIR``, which the web server's ``/metrics`` reads.
"""

from __future__ import annotations

import time
from typing import Any

from celery.signals import before_task_publish, task_postrun, task_prerun, task_revoked, worker_init

from backend.tradingbot.infra import metrics

SENT_AT = "tradingbot_sent_at"
PREFIX = "tradingbot."
OUTCOMES = {"SUCCESS": "ok", "FAILURE": "failed", "RETRY": "retried", "REVOKED": "expired"}
_begun: dict[str, float] = {}


def _ours(name: str | None) -> bool:
    """Only tasks that this application names become labels."""
    return bool(name) and str(name).startswith(PREFIX)


@before_task_publish.connect
def note_sending(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        headers[SENT_AT] = time.time()


@task_prerun.connect
def note_start(task_id: str = "", task: Any = None, **_: Any) -> None:
    if not _ours(getattr(task, "name", None)):
        return
    _begun[task_id] = time.perf_counter()
    sent = getattr(task.request, SENT_AT, None) or (task.request.headers or {}).get(SENT_AT)
    if isinstance(sent, int | float):
        metrics.TASK_LATENESS_SECONDS.labels(task.name).observe(max(time.time() - sent, 0.0))


@task_postrun.connect
def note_end(task_id: str = "", task: Any = None, state: str | None = None, **_: Any) -> None:
    begun = _begun.pop(task_id, None)
    if begun is None:
        return
    metrics.TASK_SECONDS.labels(task.name).observe(time.perf_counter() - begun)
    metrics.TASKS.labels(task.name, OUTCOMES.get(state or "", "other")).inc()


@task_revoked.connect
def note_expiry(request: Any = None, expired: bool = False, **_: Any) -> None:
    name = getattr(request, "task", None) or getattr(request, "name", None)
    if _ours(name):
        metrics.TASKS.labels(name, "expired" if expired else "revoked").inc()


@worker_init.connect
def tell_metrics(**_: Any) -> None:
    """Let Prometheus in where a port was named for it."""
    from backend.tradingbot.services.scraping import let_scrape  # the models are there only once Django is set up

    let_scrape()
