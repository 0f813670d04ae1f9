"""Background tasks as metrics: how they ended, how long they took, how late they began."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from celery import shared_task
from prometheus_client import REGISTRY

from backend import celery_metrics
from backend.celery_app import app

GOOD, BAD = "tradingbot.test_good", "tradingbot.test_bad"


@shared_task(name=GOOD)
def good() -> None:
    pass


@shared_task(name=BAD)
def bad() -> None:
    raise RuntimeError("on purpose")


@shared_task(name="elsewhere.task")
def foreign() -> None:
    pass


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(("task", "outcome"), [(good, "ok"), (bad, "failed")])
def test_a_task_is_counted_by_how_it_ended_and_timed(task, outcome: str) -> None:
    counted = told("tradingbot_tasks_total", task=task.name, outcome=outcome)
    timed = told("tradingbot_task_seconds_count", task=task.name)
    task.apply()
    assert told("tradingbot_tasks_total", task=task.name, outcome=outcome) - counted == 1
    assert told("tradingbot_task_seconds_count", task=task.name) - timed == 1


def test_a_task_is_as_late_as_the_time_since_its_sending() -> None:
    before = told("tradingbot_task_lateness_seconds_sum", task=GOOD)
    good.apply(headers={celery_metrics.SENT_AT: time.time() - 30})
    assert 30 <= told("tradingbot_task_lateness_seconds_sum", task=GOOD) - before < 90


def test_a_sent_task_carries_the_time_of_its_sending() -> None:
    headers: dict[str, float] = {}
    celery_metrics.note_sending(headers=headers)
    assert 0 <= time.time() - headers[celery_metrics.SENT_AT] < 60


def test_what_expired_before_it_began_is_an_outcome() -> None:
    before = told("tradingbot_tasks_total", task=GOOD, outcome="expired")
    celery_metrics.note_expiry(request=SimpleNamespace(task=GOOD), expired=True)
    assert told("tradingbot_tasks_total", task=GOOD, outcome="expired") - before == 1


def test_a_task_of_somebody_else_makes_no_series() -> None:
    foreign.apply()
    families = [s.labels.get("task") for f in REGISTRY.collect() for s in f.samples if f.name.startswith("tradingbot_")]
    assert "elsewhere.task" not in families
    assert GOOD in families


def test_the_worker_knows_whether_it_is_to_be_scraped() -> None:
    assert app.conf.worker_metrics_port == 0
