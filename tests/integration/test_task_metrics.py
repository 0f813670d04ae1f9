"""Background tasks as metrics: how they ended, how long they took, how late they began."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from celery import shared_task
from django.db import OperationalError
from prometheus_client import REGISTRY

from backend import celery_metrics
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.infra.scrape_target import open_target
from backend.tradingbot.services import scraping
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.keys import create_key, revoke_key
from ops.servers import free_port

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


def test_without_a_port_no_process_is_opened(settings: Any) -> None:
    assert settings.TRADINGBOT.worker_metrics_port == 0
    assert scraping.let_scrape() is None


@pytest.fixture
def target(settings: Any) -> Iterator[str]:
    """A scrape target of this process, as a worker opens it; its address."""
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(
        update={"worker_metrics_port": free_port(), "metrics_public": False}
    )
    server = scraping.let_scrape()
    assert server is not None
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def asked(url: str, token: str = "") -> tuple[int, str]:
    answer = requests.get(url, headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=10)
    return answer.status_code, answer.text


@pytest.mark.django_db(transaction=True)
def test_a_process_is_read_with_the_keys_that_open_the_web_servers_metrics(target: str) -> None:
    key, viewer = create_key(name="prometheus", role="viewer")
    account = create_account(code="main", cash=Decimal(1), broker_account="PA-1", symbols=["AAPL"])
    _, trader = create_key(name="bot", role="trader", account=account, strategy=create_strategy(code="mean"))
    good.apply()
    assert "tradingbot_tasks_total" in asked(f"{target}/metrics", viewer)[1]
    assert [asked(f"{target}/metrics", token)[0] for token in (viewer, "", "tb_unknown", trader)] == [
        200,
        401,
        401,
        401,
    ]
    assert asked(target, viewer)[0] == 404
    assert requests.post(f"{target}/metrics", timeout=10).status_code == 501
    revoke_key(key, reason="it left", actor="test", clock=SYSTEM_CLOCK)
    assert asked(f"{target}/metrics", viewer)[0] == 401


def test_a_port_that_is_taken_stops_no_process(target: str, settings: Any) -> None:
    assert target.endswith(str(settings.TRADINGBOT.worker_metrics_port))
    assert scraping.let_scrape() is None


def test_what_cannot_be_judged_is_refused() -> None:
    def broken(_: str) -> bool:
        raise OperationalError("no database")

    server = open_target("127.0.0.1", 0, broken)
    assert asked(f"http://127.0.0.1:{server.server_port}/metrics", "tb_any")[0] == 503
    server.shutdown()
    server.server_close()
