"""The whole bot on one machine, in the foreground: `make up`.

Starts PostgreSQL, Valkey and the paper broker, waits for each to answer, migrates, seeds the demo, then runs the web
server, the Celery worker and beat. Environment: PORT (8000), STATE_DIR (.state), DATABASE_URL and REDIS_URL (replace
the embedded servers), BROKER (paper), FEED (1 adds a synthetic feed of the demo's symbols), PROMETHEUS
(1 scrapes it all and evaluates the alerts). Invariants: one stack a STATE_DIR (a lock the kernel frees when we die);
parts stop in the reverse order of their start; none outlives us, not even after kill -9; a part that keeps dying takes
the stack down with a non-zero exit.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - before the imports that an older Python does not know
    sys.exit("make up: Python 3.11 or newer is needed")

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ops import monitoring, processes, servers
from ops.surroundings import Refused, checked_surroundings, kept_secrets, write_assignments

RESTARTS, RESTART_WINDOW_SECONDS = 5, 60.0
READY_SECONDS = 90.0
COLOURS = {"postgres": 34, "valkey": 36, "broker": 35, "web": 32, "worker": 33, "notifier": 91, "beat": 94,
           "stream": 95, "data": 96, "feed": 90, "metrics": 37, "stack": 1}  # fmt: skip
# What a manage.py command beside the running stack needs: `set -a; . .state/stack.env; manage.py journal verify`.
SHARED_ENVIRONMENT = ["ENVIRONMENT", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "STATE_DIR", "BROKER"] + [
    "ALPACA_BASE_URL",
    "ALPACA_API_KEY",
    "ALPACA_SECRET_KEY",
]
_printing = threading.Lock()


class Stopped(Exception):
    """Ctrl-C or SIGTERM asked us to stop."""


@dataclass(eq=False)
class Part:
    """One long-running program of the stack and the times, in monotonic seconds, at which it died."""

    name: str
    argv: list[str]
    restart: bool = True
    grace_seconds: float = 10.0
    stop_signal: signal.Signals = signal.SIGTERM
    keep_open: tuple[int, ...] = ()
    process: "subprocess.Popen[str] | None" = None
    deaths: deque[float] = field(default_factory=deque)


def say(name: str, line: str) -> None:
    """Print one line of a part's log with its name before it."""
    label = f"{name:<9}|"
    if sys.stdout.isatty():
        label = f"\033[{COLOURS.get(name, 0)}m{label}\033[0m"
    with _printing, contextlib.suppress(BrokenPipeError, OSError):
        print(f"{label} {line.rstrip()}", flush=True)


def follow(name: str, process: "subprocess.Popen[str]") -> None:
    """Copy what the process prints to our own output, from a thread of its own."""

    def copy(stream: IO[str]) -> None:
        for line in stream:
            say(name, line)

    if process.stdout is not None:
        threading.Thread(target=copy, args=(process.stdout,), daemon=True, name=f"log-{name}").start()


class Stack:
    """Starts the parts in order, watches them and takes them down."""

    def __init__(self, state: Path, port: int, listener: socket.socket) -> None:
        self.state, self.port, self.listener = state, port, listener
        self.url = f"http://127.0.0.1:{port}"
        self.env = dict(os.environ)
        self.parts: list[Part] = []
        self.asked = ""

    def run(self) -> None:
        """Start everything, then watch. Ends only by an exception: Stopped, Refused or ServerFailed."""
        self._prepare_environment()
        self._start_servers()
        write_assignments(self.state / "stack.env", {n: self.env.get(n, "") for n in SHARED_ENVIRONMENT})
        if self.env["BROKER"] == "paper":
            self._manage("seed_demo", "--migrate")
        else:
            self._manage("migrate", "--noinput", "-v", "0")
            self._manage("check_broker")  # wrong keys and an unreachable host are said before anything trades
        self._start_programs()
        self._wait_until_ready()
        if self.env.get("FEED") == "1":
            self._launch(Part("feed", [sys.executable, "-m", "ops.feed"]))
        if self.env.get("PROMETHEUS") == "1":
            self._start_prometheus()
        self._greet()
        while True:
            self._watch()
            time.sleep(0.2)

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """The handler of signals. It only notes the wish: raised inside ``Popen.poll()``, an exception would leave that
        object's lock taken for good."""
        self.asked = signal.Signals(number).name

    def take_down(self) -> None:
        """Stop the parts in the reverse order of their start; a part that does not go is killed."""
        for part in reversed(self.parts):
            if part.process is not None and not processes.stop(part.process, part.stop_signal, part.grace_seconds):
                say("stack", f"{part.name} did not stop within {part.grace_seconds:.0f} s and was killed")
        say("stack", f"stopped; the data stays in {self.state}")

    def _prepare_environment(self) -> None:
        env = self.env
        env.setdefault("BROKER", "paper")
        env.setdefault("ENVIRONMENT", "development")
        env.setdefault("LOG_FORMAT", "text")
        env.setdefault("METRICS_PUBLIC", "1")
        env.setdefault("PUBLIC_URL", self.url)
        counted = self.state / "metrics"
        shutil.rmtree(counted, ignore_errors=True)
        counted.mkdir()
        (self.state / "static").mkdir(exist_ok=True)  # stays empty: the files are served from the packages
        env.update(
            PROMETHEUS_MULTIPROC_DIR=str(counted), STATE_DIR=str(self.state), PORT=str(self.port), PYTHONUNBUFFERED="1"
        )
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
        kept = kept_secrets(self.state / "secrets.env")
        if not env.get("SECRET_KEY"):
            env["SECRET_KEY"] = kept["SECRET_KEY"]
        if env["BROKER"] == "paper":
            # Always the paper broker's own keys: a real key in the shell must not travel anywhere from here.
            env.update(ALPACA_API_KEY=kept["ALPACA_API_KEY"], ALPACA_SECRET_KEY=kept["ALPACA_SECRET_KEY"])

    def _start_servers(self) -> None:
        starting: list[servers.RunningServer] = []
        if not self.env.get("DATABASE_URL"):
            server = servers.start_postgres(self.state / "postgres", subprocess.PIPE)
            self.env["DATABASE_URL"] = self._adopt(server).url
            starting.append(server)
        if not self.env.get("REDIS_URL"):
            server = servers.start_valkey(self.state / "valkey", subprocess.PIPE, keep=True)
            self.env["REDIS_URL"] = f"{self._adopt(server).url}/0"
            starting.append(server)
        if self.env["BROKER"] == "paper":
            port = servers.free_port()
            self.env["ALPACA_BASE_URL"] = f"http://127.0.0.1:{port}"
            argv = [sys.executable, "-m", "backend.paperbroker", "--port", str(port)]
            self._launch(Part("broker", [*argv, "--ledger", str(self.state / "paper.sqlite3")]))
        for server in starting:
            server.wait(meanwhile=self._heed)
        if self.env["BROKER"] == "paper":
            self._wait_for_broker(self.env["ALPACA_BASE_URL"])

    def _start_programs(self) -> None:
        python, celery = sys.executable, ["-m", "celery", "-A", "backend.celery_app", "--quiet"]
        web = [python, "-m", "gunicorn", "-c", "python:backend.web_server", "backend.wsgi:application"]
        web += ["--bind", f"fd://{self.listener.fileno()}"]
        quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
        worker = [python, *celery, "worker", *quiet, "-Q", "celery"]
        notifier = [python, *celery, "worker", *quiet, "-Q", "notifications", "-n", "notifier@%h", "--concurrency", "2"]
        beat = [python, *celery, "beat", "--loglevel", "WARNING", "-s", str(self.state / "celerybeat-schedule")]
        beat += ["--pidfile="]
        self._launch(Part("web", web, grace_seconds=15.0, keep_open=(self.listener.fileno(),)))
        self._launch(Part("worker", worker, grace_seconds=20.0))
        self._launch(Part("notifier", notifier))
        self._launch(Part("beat", beat))
        self._launch(Part("stream", [python, "manage.py", "stream_trade_updates"]))
        if self.env.get("ALPACA_DATA_URL") and self.env["BROKER"] == "alpaca":
            self._launch(Part("data", [python, "manage.py", "stream_market_data"]))

    def _start_prometheus(self) -> None:
        """Say where it is; a machine without the program goes on without."""
        binary = monitoring.program()
        if binary is None:
            say("stack", "PROMETHEUS=1: there is no prometheus here (ops/apt.txt); going on without")
            return
        port = int(self.env.get("PROMETHEUS_PORT") or servers.free_port())
        self._launch(Part("metrics", monitoring.command(self.state, self.port, port, binary)))
        say("stack", f"Prometheus: http://127.0.0.1:{port}/alerts")

    def _adopt(self, server: servers.RunningServer) -> servers.RunningServer:
        follow(server.name, server.process)
        part = Part(server.name, [], restart=False, grace_seconds=20.0, stop_signal=server.stop_signal)
        part.process = server.process
        self.parts.append(part)
        return server

    def _launch(self, part: Part) -> None:
        if part not in self.parts:
            self.parts.append(part)
        part.process = processes.spawn(
            part.argv, env=self.env, cwd=ROOT, output=subprocess.PIPE, keep_open=part.keep_open
        )
        follow(part.name, part.process)

    def _manage(self, *arguments: str) -> None:
        """Run one manage.py command to its end. Raises Refused when it fails."""
        part = Part(arguments[0], [sys.executable, "manage.py", *arguments], restart=False)
        self._launch(part)
        assert part.process is not None
        while part.process.poll() is None:
            self._watch(apart_from=part)
            time.sleep(0.05)
        self.parts.remove(part)
        if part.process.returncode != 0:
            raise Refused(f"manage.py {arguments[0]} failed with code {part.process.returncode}, see above")

    def _heed(self) -> None:
        """Raises Stopped when a signal asked us to."""
        if self.asked:
            raise Stopped(self.asked)

    def _watch(self, apart_from: Part | None = None) -> None:
        """Start a part that died again. Raises Refused when it must not, or has died too often, and Stopped."""
        self._heed()
        for part in self.parts:
            if part is apart_from or part.process is None or part.process.poll() is None:
                continue
            processes.sweep(part.process)
            how = describe_exit(part.process.returncode)
            if not part.restart:
                raise Refused(f"{part.name} {how}; nothing runs without it, so everything stops")
            now = time.monotonic()
            part.deaths.append(now)
            while part.deaths and now - part.deaths[0] > RESTART_WINDOW_SECONDS:
                part.deaths.popleft()
            if len(part.deaths) > RESTARTS:
                raise Refused(f"{part.name} {how}, for the {len(part.deaths)}th time in a minute; everything stops")
            say("stack", f"{part.name} {how}; starting it again ({len(part.deaths)} of {RESTARTS} in a minute)")
            self._launch(part)

    def _wait_for_broker(self, url: str) -> None:
        self._wait_for(lambda: answer(f"{url}/v2/clock") is not None, 30.0, "the paper broker did not answer")

    def _wait_until_ready(self) -> None:
        ready = f"{self.url}/readyz"
        self._wait_for(lambda: answer(ready) == 200, READY_SECONDS, f"{ready} did not answer 200")
        if self.env["BROKER"] == "paper" and self.env["METRICS_PUBLIC"] == "1":
            # An account that nobody marked lately is denied new risk: ready means that the worker and beat do mark.
            page = f"{self.url}/metrics"
            self._wait_for(lambda: all_marked(text_of(page)), READY_SECONDS, "the worker did not mark the demo account")

    def _wait_for(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self._watch()
            if time.monotonic() > deadline:
                raise Refused(f"{otherwise} within {seconds:.0f} s; everything stops")
            time.sleep(0.1)

    def _greet(self) -> None:
        lines = ["", f"The stack is ready: {self.url}/ (admin at {self.url}/admin/)"]
        if self.env["BROKER"] == "paper":
            lines += [f"Keys and the admin's password: {self.state / 'demo.env'}", ""]
            lines += ["Paste this into another terminal: a tick, then an order. The same paste again is a replay.", ""]
            lines += paste(self.state / "demo.env")
        with _printing:
            print("\n".join([*lines, "", "Ctrl-C stops everything.", ""]), flush=True)


def paste(demo_env: Path) -> list[str]:
    """The shell lines that post a tick and then an order with an id of this start."""
    post = 'curl -sS -H "Authorization: Bearer $TRADINGBOT_TRADER_TOKEN" -H "Content-Type: application/json"'
    order_id = f"hello-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    tick = '{"ticks": [{"symbol": "AAPL", "price": "190.00", "bid": "189.99", "ask": "190.01", "size": "500", "time": '
    order = f'{{"client_order_id": "{order_id}", "account": "demo", "strategy": "demo", "symbol": "AAPL", '
    order += '"side": "buy", "qty": "5", "type": "market"}'
    now = "\"'$(date -u +%Y-%m-%dT%H:%M:%SZ)'\"}]}"
    return [
        f". '{demo_env}'",
        f"{post} \"$TRADINGBOT_URL/api/v1/market-data/ticks\" -d '{tick}{now}'; echo",
        f"{post} \"$TRADINGBOT_URL/api/v1/orders\" -d '{order}'; echo",
    ]


def answer(url: str) -> int | None:
    """The HTTP status that `url` answers with, or None when nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def text_of(url: str) -> str:
    """The body that `url` answers with, or nothing when nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def all_marked(metrics: str) -> bool:
    """Whether every account's breaker was evaluated in the last ten seconds, by the metrics page."""
    start = 'tradingbot_breaker_evaluated_age_seconds{scope="account:'
    ages = [float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(start)]
    return bool(ages) and max(ages) < 10


def describe_exit(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def main() -> int:
    """Run the stack. 0 after Ctrl-C or SIGTERM, 1 when a part failed for good, 2 when it could not start at all."""
    try:
        state, port, lock, listener = checked_surroundings()
    except Refused as refusal:
        print(f"make up: {refusal}", file=sys.stderr)
        return 2
    stack = Stack(state, port, listener)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stack.ask_to_stop)
    code = 1
    try:
        stack.run()
    except Stopped as stopped:
        say("stack", f"{stopped}: stopping everything")
        code = 0
    except (Refused, servers.ServerFailed, OSError) as failure:
        say("stack", str(failure))
    finally:
        stack.take_down()
        listener.close()
        lock.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
