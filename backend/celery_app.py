"""The Celery application. Tasks carry ids only; the database row decides what is still to be done.

Worker and beat refuse to start when the database could lose what it confirmed (``tradingbot/start.py``).
"""

import os
import warnings
from contextlib import nullcontext
from typing import Any

from celery import Celery, Task
from celery.platforms import SecurityWarning
from celery.signals import beat_init, before_task_publish, celeryd_init

from backend.tradingbot.infra import tracing
from backend.tradingbot.infra.logging import TRACE_ID

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

# What Celery warns root of is pickled tasks; this application takes JSON only, and the image does not run as root.
warnings.filterwarnings("ignore", category=SecurityWarning)


class TracedTask(Task):
    """A task belongs to the trace that sent it; one that beat sent, or nobody, begins a new one."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        sent_by = self.request.get("traceparent")
        called_directly = sent_by is None and TRACE_ID.get()
        with (
            nullcontext() if called_directly else tracing.continued(sent_by),
            tracing.span(f"task {self.name}", kind="CONSUMER"),
        ):
            return super().__call__(*args, **options)


app = Celery("tradingbot", task_cls=TracedTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

from backend import celery_metrics as celery_metrics  # noqa: E402  its import connects the signals


@before_task_publish.connect
def carries_its_trace(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """The trace of whoever sends a task goes with it as W3C ``traceparent``."""
    if headers is not None and TRACE_ID.get():
        headers.setdefault("traceparent", tracing.traceparent())


@celeryd_init.connect
def worker_starts(**_: Any) -> None:
    refuse_unsafe_start(anchors=True)


@beat_init.connect
def beat_starts(**_: Any) -> None:
    refuse_unsafe_start()


def refuse_unsafe_start(*, anchors: bool = False) -> None:
    """Celery swallows exceptions of its signals, so this ends the process itself."""
    from django.core.exceptions import ImproperlyConfigured

    from backend.tradingbot import start

    try:
        start.refuse_unsafe_start(anchors=anchors)
    except ImproperlyConfigured as error:
        raise SystemExit(str(error)) from None
