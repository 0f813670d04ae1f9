"""Real servers for the tests: one PostgreSQL and one Valkey a run, in a directory that goes away with it.

They start in pytest's controlling process, before Django reads its settings, and every xdist worker gets a database
of its own in both: pytest-django names PostgreSQL's, the number after the slash is Valkey's. With DATABASE_URL or
REDIS_URL given, that server is used instead.
"""

import os
import secrets
import tempfile
from pathlib import Path

import django
import pytest

from ops import servers
from tests.emptying import empty_quickly

_running: list[servers.RunningServer] = []
_directory: tempfile.TemporaryDirectory[str] | None = None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker is None:
        _start_servers()
        os.environ["TEST_REDIS_SERVER"] = os.environ["REDIS_URL"]
    number = 0 if worker is None else int(worker.removeprefix("gw")) + 1
    os.environ["REDIS_URL"] = f"{os.environ['TEST_REDIS_SERVER'].rstrip('/')}/{number}"
    os.environ["DJANGO_SETTINGS_MODULE"] = "backend.settings"
    django.setup()
    _hash_passwords_quickly()
    _bear_a_crowd()
    empty_quickly()
    if worker is None and config.getoption("numprocesses", None):
        # a worker that inherits it reads the settings before it has a REDIS_URL of its own
        del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from tests.browser.browsing import HOW_TO_GET_ONE, browser_program

    if browser_program() is None:
        terminalreporter.write_line(HOW_TO_GET_ONE, yellow=True)


def _hash_passwords_quickly() -> None:
    """A real hash costs half a second on purpose, once for every person of a test. Whole stacks keep the real one."""
    from django.conf import settings

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def _bear_a_crowd() -> None:
    """Django's test server lets ten connections wait; the races of the tests bring 64 at once."""
    from django.core.servers.basehttp import WSGIServer

    WSGIServer.request_queue_size = 256


def pytest_unconfigure(config: pytest.Config) -> None:
    while _running:
        _running.pop().stop()
    if _directory is not None:
        _directory.cleanup()


def _start_servers() -> None:
    global _directory
    _directory = tempfile.TemporaryDirectory(prefix="tradingbot-tests-", ignore_cleanup_errors=True)
    root = Path(_directory.name)
    (root / "static").mkdir()
    if not os.environ.get("DATABASE_URL"):
        _running.append(_start("DATABASE_URL", servers.start_postgres, root / "postgres"))
    if not os.environ.get("REDIS_URL"):
        _running.append(_start("REDIS_URL", servers.start_valkey, root / "valkey"))
    for server in _running:
        server.wait()
    os.environ["ENVIRONMENT"] = "test"
    os.environ["STATE_DIR"] = str(root)
    os.environ.setdefault("STORE_TIMEOUT_SECONDS", "5")  # a busy machine is not a store that is down
    os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(48))


def _start(variable, start, directory: Path) -> servers.RunningServer:
    with open(directory.with_suffix(".log"), "w") as log:
        server = start(directory, log)
    os.environ[variable] = server.url
    return server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The full counts run with SOAK=1 only (`make soak`), however pytest is called; whole stacks run one at a time."""
    for item in items:
        if item.get_closest_marker("stack"):
            item.add_marker(pytest.mark.xdist_group("stacks"))
    if os.environ.get("SOAK") != "1":
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("soak")])
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
