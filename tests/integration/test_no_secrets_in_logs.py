"""Web server and worker as processes of their own, everything that can go wrong going wrong, and no secret in a line.

The broker of these processes answers almost every call with an error page that repeats the keys it was sent.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.contrib.auth.models import User
from django.db import connection

from backend.tradingbot.models import Order
from tests.unit.scripted_broker import Broker

ROOT = Path(__file__).resolve().parents[2]


def repeats_what_it_was_sent(handler: Any, query: Any) -> tuple[int, str]:
    return 500, "<html>upstream failed for " + " ".join(f"{k}={v}" for k, v in handler.headers.items()) + "</html>"


class Whatever(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        return repeats_what_it_was_sent


@pytest.fixture
def hostile(broker: Any) -> Iterator[Broker]:
    """Says whose the keys are, as the real one does, and fails at everything else."""
    account = broker.call("GET", "/v2/account").json()
    bad = Broker()
    bad.script = Whatever({("GET", "/v2/account"): (200, account)})
    yield bad
    bad.stop()


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(ready: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.mark.stack
@pytest.mark.django_db(transaction=True)
def test_no_planted_secret_is_in_any_line_of_requests_and_of_the_worker(gateway, hostile, tmp_path, settings):
    planted = {name: f"{name}-" + secrets.token_urlsafe(24) for name in ("SECRET_KEY", "ALPACA_API_KEY")}
    planted |= {"ALPACA_SECRET_KEY": 'a"b\\c d&' + secrets.token_urlsafe(24), "password": secrets.token_urlsafe(18)}
    planted |= {"trader": gateway.trader, "risk": gateway.risk, "unknown key": "tb_" + secrets.token_urlsafe(32)}
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    planted["database password"] = urlsplit(database).password or ""
    planted["store password"] = urlsplit(os.environ["REDIS_URL"]).password or ""
    assert all(len(value) > 15 for value in planted.values()), sorted(planted)
    User.objects.create_superuser("boss", password=planted["password"])
    environment = {
        **os.environ, "DATABASE_URL": database, "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json", "ENVIRONMENT": "test",
        "BROKER": "paper", "ALPACA_BASE_URL": hostile.url, "STATE_DIR": str(tmp_path), "WEB_WORKERS": "1",
        **{name: planted[name] for name in ("SECRET_KEY", "ALPACA_API_KEY", "ALPACA_SECRET_KEY")},
    }  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    web = [sys.executable, "-m", "gunicorn", "-c", "python:backend.web_server", "backend.wsgi:application",
           "--bind", f"127.0.0.1:{port}"]  # fmt: skip
    worker = [sys.executable, "-m", "celery", "-A", "backend.celery_app", "worker", "--beat",
              "-s", str(tmp_path / "schedule")]  # fmt: skip
    (tmp_path / "static").mkdir()
    web_log, worker_log = tmp_path / "web.log", tmp_path / "worker.log"
    url = f"http://127.0.0.1:{port}"

    with running(web, environment, web_log) as process:
        until(lambda: answers(url), process, web_log)
        statuses = list(_go_wrong(url, gateway, planted))
        with running(worker, environment, worker_log) as second:
            until(lambda: "poll_failed" in worker_log.read_text(), second, worker_log)
    assert statuses == [200, 202, 401, 401, 400, 403, 200, 200, 200]
    assert Order.objects.get().status == "in_doubt"

    lines = (web_log.read_text() + worker_log.read_text()).splitlines()
    told = "\n".join(lines)
    for name, value in planted.items():
        assert value not in told and json.dumps(value)[1:-1] not in told, name
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(events) > 20 and {"poll_failed"} <= {event["event"] for event in events}
    assert all(event.keys() >= {"trace_id", "build_id", "timestamp", "level", "logger"} for event in events)
    assert [line for line in web_log.read_text().splitlines() if line and not line.startswith("{")] == []


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=5).status_code == 200
    except requests.RequestException:  # not there yet, or too busy to answer yet
        return False


def _go_wrong(url: str, gateway: Any, planted: dict[str, str]) -> Iterator[int]:
    """The status of: a tick, an order whose answer is lost, two wrong keys, a broken body, a reset that is not allowed,
    a sign-in that fails and one that does not, and the readiness of a bot whose broker fails."""

    def post(path: str, body: Any, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = body if isinstance(body, str) else json.dumps(body)
        return requests.post(f"{url}/api/v1/{path}", data=data, headers=headers, timeout=60).status_code

    tick = {"symbol": "AAPL", "price": "100.00", "bid": "100", "ask": "100", "time": datetime.now(UTC).isoformat()}
    yield post("market-data/ticks", {"ticks": [tick]}, gateway.trader)
    yield post("orders", gateway.body("a"), gateway.trader)
    yield post("orders", gateway.body("b"), planted["unknown key"])
    yield post(f"orders?key={planted['trader']}", gateway.body("b"), "")
    yield post("orders", '{"client_order_id": "' + planted["password"], gateway.trader)
    yield post("breakers/account:main/reset", {"reason": "look"}, gateway.trader)
    session = requests.Session()
    for password in (planted["password"] + "x", planted["password"]):
        page = session.get(f"{url}/admin/login/", timeout=60)
        form = {"username": "boss", "password": password, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
        answer = session.post(page.url, data=form, headers={"Referer": page.url}, timeout=60)
        yield answer.status_code
    yield requests.get(f"{url}/readyz", timeout=60).status_code
