"""The house under test: PostgreSQL and Valkey of our own, and ops/stack.py over them as a real process.

Linux only: processes are found below the stack's own process in /proc, and only those are ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import redis
import requests

from backend.tradingbot.infra.failpoints import Failpoints
from ops import processes, servers

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 180.0
SETTINGS = {
    "ENVIRONMENT": "test",
    "PAPER_FAULTS": "1",
    "LOG_LEVEL": "WARNING",
    "SEND_BY_SECONDS": "3",
    "BROKER_CONNECT_TIMEOUT": "1",
    "BROKER_READ_TIMEOUT": "2",
    "QUIET_WINDOW_SECONDS": "12",
    "RECOVERY_MIN_MISSES": "3",
    "RECOVERY_SECONDS": "1",
    "POLL_SECONDS": "1",
}

NOTIFIER = "notifier@%h"


class HouseError(RuntimeError):
    """The house did not do what a test needs of it; the message says what, and where its log is."""


class House:
    """Starts and stops everything, and knows its processes. Use from the main thread: the kernel watches it."""

    def __init__(self, directory: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = port or servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "stack.log"
        self.points = Failpoints(directory / "failpoints")
        self._settings = {**SETTINGS, **(settings or {})}
        self._logs = open(directory / "servers.log", "a")  # noqa: SIM115 - held until the house is closed
        self.postgres = servers.start_postgres(directory / "postgres", self._logs)
        self.valkey = servers.start_valkey(directory / "valkey", self._logs)
        self.stack: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Bring everything up and wait until it is ready."""
        self.postgres.wait()
        self.valkey.wait()
        with open(self.log, "a") as log:
            self.stack = processes.spawn([sys.executable, "ops/stack.py"], env=self.environment(), cwd=ROOT, output=log)
        self.wait_until(lambda: "The stack is ready" in self.log.read_text(), READY_SECONDS, "the stack did not start")

    def environment(self) -> dict[str, str]:
        """What the stack is started with; also what manage.py needs to see the same database."""
        return {
            **os.environ,
            **self._settings,
            "PORT": str(self.port),
            "STATE_DIR": str(self.directory / "state"),
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": f"{self.valkey.url}/0",
            "FAILPOINTS": str(self.directory / "failpoints"),
        }

    def close(self) -> int | None:
        """Take everything down; the exit code of the stack."""
        code = None
        if self.stack is not None:
            for pid in self.everyone():
                _signal(pid, signal.SIGCONT)
            processes.stop(self.stack, signal.SIGTERM, 60.0)
            code = self.stack.returncode
        self.valkey.stop()
        self.postgres.stop()
        self._logs.close()
        return code

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one manage.py command beside the stack, without fail points."""
        environment = {**self.environment(), **assignments(self.state / "stack.env"), "FAILPOINTS": ""}
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    # -- what is known of it

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def demo(self) -> dict[str, str]:
        """The shell assignments of demo.env."""
        return assignments(self.state / "demo.env")

    @property
    def ledger(self) -> Path:
        """The broker's own ledger."""
        return self.state / "paper.sqlite3"

    @property
    def broker_url(self) -> str:
        """Where the paper broker listens."""
        return assignments(self.state / "stack.env")["ALPACA_BASE_URL"]

    def broker(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Call the paper broker directly."""
        kept = assignments(self.state / "stack.env")
        headers = {"APCA-API-KEY-ID": kept["ALPACA_API_KEY"], "APCA-API-SECRET-KEY": kept["ALPACA_SECRET_KEY"]}
        return requests.request(method, f"{self.broker_url}{path}", json=body, headers=headers, timeout=10)

    def processes(self, part: str) -> list[int]:
        """The pids of ``web`` (gunicorn's master), ``web-worker``, or another part of the stack by its name.

        Only processes below our own stack; a part that is just starting again may be missing.
        """
        assert self.stack is not None
        children = children_of(self.stack.pid)
        if part == "web-worker":
            return [pid for master in self.processes("web") for pid in children_of(master)]
        marks = {
            "web": "gunicorn",
            "paperbroker": "backend.paperbroker",
            "stream": "stream_trade_updates",
            "notifier": NOTIFIER,
        }
        found = [pid for pid in children if marks.get(part, part) in _argv(pid)]
        return found if part != "worker" else [pid for pid in found if NOTIFIER not in _argv(pid)]

    def everyone(self) -> list[int]:
        """Every process below the stack."""
        assert self.stack is not None
        children = children_of(self.stack.pid)
        return children + [grandchild for child in children for grandchild in children_of(child)]

    def ready(self) -> bool:
        """True when /readyz says so."""
        try:
            return requests.get(f"{self.url}/readyz", timeout=3).status_code == 200
        except requests.RequestException:
            return False

    def database(self) -> psycopg.Connection[dict[str, Any]]:
        """A connection of our own to the database."""
        return psycopg.connect(self.postgres.url, autocommit=True, row_factory=psycopg.rows.dict_row, connect_timeout=3)

    def wait_until(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Block until ``condition``; HouseError after ``seconds``, or when the stack has ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.must_run()
            if time.monotonic() > deadline:
                raise HouseError(f"{otherwise} within {seconds:.0f} s, see {self.log}")
            time.sleep(0.05)

    def must_run(self) -> None:
        """HouseError when the stack has ended: whatever is done to its parts, it has to bring them back."""
        if self.stack is not None and self.stack.poll() is not None:
            raise HouseError(f"the stack ended with code {self.stack.returncode}, see {self.log}")

    # -- what can be done to it

    def signal_one(self, part: str, number: signal.Signals, pick: Callable[[list[int]], int] = lambda p: p[0]) -> int:
        """Signal one process of a part; its pid, or 0 when there is none right now."""
        found = self.processes(part)
        if not found:
            return 0
        pid = pick(found)
        return pid if _signal(pid, number) else 0

    def signal_pid(self, pid: int, number: signal.Signals) -> bool:
        """Signal one process that ``everyone`` or the log of the fail points named. False when it is gone."""
        return _signal(pid, number)

    def continue_all(self) -> None:
        """Wake whatever is stopped."""
        for pid in self.everyone():
            if process_state(pid) == "T":
                _signal(pid, signal.SIGCONT)

    def stop_postgres(self, *, crash: bool = False) -> None:
        """Stop PostgreSQL at once, cleanly or by SIGKILL."""
        number = signal.SIGKILL if crash else signal.SIGINT
        self.postgres.process.send_signal(number)
        self.postgres.process.wait(60)

    def start_postgres(self) -> None:
        """Start it again where it was; after a crash its old processes may need a moment to leave."""
        port = int(self.postgres.url.rsplit(":", 1)[1].split("/")[0])
        deadline = time.monotonic() + 60
        while True:
            server = servers.start_postgres(self.directory / "postgres", self._logs, port=port)
            try:
                self.postgres = server.wait()
                return
            except servers.ServerFailed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def flush_valkey(self) -> None:
        """Forget every tick, window and queued task."""
        with contextlib.closing(redis.Redis.from_url(self.valkey.url, socket_timeout=5)) as client:
            client.flushall()

    def stop_valkey(self) -> None:
        """Stop Valkey; nothing it held survives."""
        self.valkey.stop()

    def start_valkey(self) -> None:
        """Start it again where it was, empty."""
        password, address = self.valkey.url.removeprefix("redis://:").rsplit("@", 1)
        port = int(address.rsplit(":", 1)[1])
        server = servers.start_valkey(self.directory / "valkey", self._logs, port=port, password=password)
        self.valkey = server.wait()


def assignments(path: Path) -> dict[str, str]:
    """The shell assignments of a file."""
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return {name: "".join(shlex.split(value)) for name, value in pairs}


def children_of(pid: int) -> list[int]:
    """The direct children of a process, oldest first."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and _parent(int(name)) == pid:
            found.append(int(name))
    return sorted(found)


def process_state(pid: int) -> str:
    """``R``, ``S``, ``T`` (stopped), ``Z`` and so on; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
