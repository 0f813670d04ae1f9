"""The Celery application. Tasks carry ids only; the database row decides what is still to be done.

Worker and beat refuse to start when the database could lose what it confirmed (``tradingbot/start.py``).
"""

import os
import warnings
from typing import Any

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import beat_init, celeryd_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

# What Celery warns root of is pickled tasks; this application takes JSON only, and the image does not run as root.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("tradingbot")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

from backend import celery_metrics as celery_metrics  # noqa: E402  its import connects the signals


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
