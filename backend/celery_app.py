"""The Celery application. Tasks carry ids only; the database row decides what is still to be done."""

import os
import time
from typing import Any

from celery import Celery, signals

from backend.tradingbot.infra.metrics import TASK_LATENESS_SECONDS, TASK_SECONDS, TASKS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

app = Celery("tradingbot")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.before_task_publish.connect
def stamp_time(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """When the task was sent, so that its lateness can be told."""
    if headers is not None:
        headers.setdefault("sent_at", time.time())


@signals.task_prerun.connect
def count_start(task: Any = None, **_: Any) -> None:
    task.request.began_at = time.perf_counter()
    sent_at = getattr(task.request, "sent_at", None)
    if sent_at is not None:
        TASK_LATENESS_SECONDS.labels(task.name).observe(max(time.time() - sent_at, 0.0))


@signals.task_postrun.connect
def count_end(task: Any = None, state: str | None = None, **_: Any) -> None:
    TASKS.labels(task.name, (state or "unknown").lower()).inc()
    began_at = getattr(task.request, "began_at", None)
    if began_at is not None:
        TASK_SECONDS.labels(task.name).observe(time.perf_counter() - began_at)
