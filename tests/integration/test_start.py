"""What keeps the bot from starting, said by the name of the setting; and that production's settings are clean."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from backend.tradingbot import checks, start
from backend.tradingbot.start import refuse_unsafe_start

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "PATH": os.environ.get("PATH", ""),
    "ENVIRONMENT": "production",
    "SECRET_KEY": "only-for-this-check-" + "aB3-x9_" * 8,
    "ALLOWED_HOSTS": "trading.example",
    "DATABASE_URL": "postgresql://127.0.0.1:9/none",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "BROKER": "alpaca",
    "ALPACA_API_KEY": "key",
    "ALPACA_SECRET_KEY": "secret",
}


def manage(*arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env={**PRODUCTION, **environment}, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_settings_of_production_are_clean():
    code, told = manage("check", "--deploy", "--fail-level", "WARNING")
    assert (code, told.strip()) == (0, "System check identified no issues (0 silenced).")


def test_settings_of_a_laptop_are_named_one_by_one():
    changes = {"ENVIRONMENT": "development", "BROKER": "paper", "METRICS_PUBLIC": "1", "LOG_LEVEL": "DEBUG"}
    code, told = manage("check", "--deploy", "--fail-level", "WARNING", **changes, ALLOWED_HOSTS="localhost")
    assert code == 1
    assert [name for name in ("W101", "W102", "W103", "W104", "W105") if f"tradingbot.{name}" not in told] == []


@pytest.mark.parametrize(
    ("changes", "code", "names"),
    [
        ({"quiet_window_seconds": 7.0}, "E001", "QUIET_WINDOW_SECONDS"),
        ({"alpaca_base_url": "http://broker.example"}, "E002", "ALPACA_BASE_URL"),
    ],
)
def test_settings_that_do_not_go_together_are_an_error_by_name(settings, changes, code, names):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)
    found = run_checks(tags=[checks.TAG])
    assert [(error.id, error.msg.split(" ")[0]) for error in found] == [(f"tradingbot.{code}", names)]


def test_the_paper_broker_of_this_machine_may_be_asked_without_tls(settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"alpaca_base_url": "http://127.0.0.1:8001"})
    assert run_checks(tags=[checks.TAG]) == []


@pytest.mark.django_db(transaction=False)
class TestTheDatabase:
    def test_the_server_of_the_tests_is_fit(self):
        assert checks.check_database(databases=["default"]) == []

    def test_nothing_is_asked_where_no_database_is_meant(self, django_assert_num_queries):
        with django_assert_num_queries(0):
            assert checks.check_database() == []

    def test_more_threads_than_connections_is_an_error_that_says_what_to_turn(self, settings):
        settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"web_workers": 64, "web_threads": 64})
        (error,) = checks.check_database(databases=["default"])
        assert error.id == "tradingbot.E203"
        assert "4110 can be needed at once" in error.msg and "WEB_WORKERS, WEB_THREADS" in error.hint

    def test_an_asynchronous_commit_is_not_ready(self, client):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["faults"]["database"].startswith("PostgreSQL runs with synchronous_commit = off")

    def test_a_start_on_it_is_refused(self, monkeypatch):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")
        monkeypatch.setattr("django.db.connections.close_all", lambda: None)  # it is the test's own
        with pytest.raises(ImproperlyConfigured, match=r"synchronous_commit = off.*\[tradingbot.E202\]"):
            refuse_unsafe_start()


@pytest.mark.parametrize("silences, starts", [(3, True), (9, False)])
def test_a_database_that_is_just_restarting_is_waited_for(monkeypatch, settings, silences, starts):
    """Five seconds of patience and one question a second: three silences are borne, nine are not."""
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"start_patience_seconds": 5.0})
    slept: list[float] = []
    silence = checks.Error("the database does not answer: it is starting up", id=checks.NO_ANSWER)
    monkeypatch.setattr(start, "_errors", lambda: [silence] if len(slept) < silences else [])
    monkeypatch.setattr(start.time, "monotonic", lambda: 100.0 + len(slept))
    monkeypatch.setattr(start.time, "sleep", slept.append)
    if starts:
        refuse_unsafe_start()
        assert len(slept) == 3
    else:
        with pytest.raises(ImproperlyConfigured, match="the database does not answer: it is starting up"):
            refuse_unsafe_start()
        assert len(slept) == 5


@pytest.fixture
def unsafe_database() -> Iterator[str]:
    """The URL of a database that confirms commits before they are on disk."""
    url = urlsplit(os.environ["DATABASE_URL"])
    name = f"unsafe_{os.getpid()}"
    with psycopg.connect(url._replace(path="/postgres").geturl(), autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        yield url._replace(path=f"/{name}").geturl()
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.stack
def test_web_worker_beat_and_migrations_all_refuse_an_unsafe_database(unsafe_database, tmp_path):
    celery = ["-m", "celery", "-A", "backend.celery_app"]
    starts = {
        "web": [
            "-m",
            "gunicorn",
            "-c",
            "python:backend.web_server",
            "backend.wsgi:application",
            "--bind",
            "127.0.0.1:0",
        ],
        "worker": [*celery, "worker"],
        "beat": [*celery, "beat", "--pidfile=", "-s", str(tmp_path / "schedule")],
        "migrate": ["manage.py", "migrate"],
    }
    environment = {**os.environ, "DATABASE_URL": unsafe_database, "LOG_FORMAT": "json"}
    running = {
        name: subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for name, command in starts.items()
    }  # fmt: skip
    try:
        told = {name: process.communicate(timeout=100)[0] for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
    for name, process in running.items():
        assert process.returncode != 0, name
        assert "PostgreSQL runs with synchronous_commit = off" in told[name], (name, told[name])


def test_a_database_that_does_not_answer_is_a_no_as_well():
    dead = {**os.environ, "DATABASE_URL": "postgresql://127.0.0.1:9/none", "START_PATIENCE_SECONDS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", "import backend.wsgi"],
        cwd=ROOT, env=dead, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the database does not answer" in done.stderr and "DATABASE_URL" in done.stderr
