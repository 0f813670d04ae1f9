"""The backups of docs/deploy.md, done for real: a dump into another server, and a restore to a moment in the past.

After each the journal is proved by the bot's own command, against the anchors that stand outside the database: that is
what tells a whole restore from one that has lost the end of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from psycopg.conninfo import make_conninfo

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.services.anchors import anchor_journal
from ops import processes, servers
from tests.integration.conftest import Gateway

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
BINARIES = servers._postgres_binaries()


def tool(name: str, *arguments: str | Path) -> str:
    """One of PostgreSQL's own programs; raises with what it said when it fails."""
    command = [str(BINARIES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr}"
    return done.stdout


def source() -> str:
    """The tests' own database, as the programs of PostgreSQL want it."""
    known = settings.DATABASES["default"]
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    return make_conninfo(**{ours: known[theirs] for ours, theirs in names.items() if known[theirs]})


def manage(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A manage.py command of the bot on another database."""
    environment = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-W", "ignore", "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def owned(path: Path) -> Path:
    """As the server's own user has it, which is not root."""
    ids = processes.unprivileged_ids()
    if ids is not None:
        for each in (path, *path.rglob("*")):
            os.chown(each, *ids)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[servers.RunningServer]:
    """A second, empty server that archives its write-ahead log, as the deployment's does."""
    tmp_path.chmod(0o755)
    archive = tmp_path / "wal"
    archive.mkdir()
    owned(archive)
    server = servers.start_postgres(tmp_path / "second").wait()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET archive_mode = on")
        copying = f"test ! -f {archive}/%f && cp %p {archive}/%f.part && mv {archive}/%f.part {archive}/%f"
        connection.execute(f"ALTER SYSTEM SET archive_command = '{copying}'")
    server.stop()
    server = servers.start_postgres(tmp_path / "second").wait()
    yield server
    server.stop()


def dump_into(url: str, file: Path) -> None:
    """Steps 1 and 2 of docs/deploy.md, with the very flags that stand there."""
    tool("pg_dump", "--format=custom", "--file", file, "--dbname", source())
    tool("pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", "--dbname", url, file)


def trade(gateway: Gateway) -> None:
    gateway.tick()
    for name in ("one", "two"):
        assert gateway.order(name).status_code == 201


def test_a_dump_restores_whole_and_its_journal_proves_it(
    gateway: Gateway, elsewhere: servers.RunningServer, tmp_path: Path
) -> None:
    trade(gateway)
    anchor_journal(clock=FixedClock(datetime.now(UTC)))
    anchors = settings.TRADINGBOT.anchors_at
    dump_into(elsewhere.url, tmp_path / "books.dump")
    proved = manage(elsewhere.url, "journal", "verify", "--anchors", str(anchors))
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert "account:main: " in proved.stdout
    with psycopg.connect(elsewhere.url) as connection:
        assert connection.execute("SELECT count(*) FROM tradingbot_order").fetchone() == (2,)
        with pytest.raises(psycopg.errors.RaiseException):
            connection.execute("UPDATE tradingbot_journalentry SET actor = 'nobody'")


def test_a_backup_from_before_the_last_anchor_is_not_taken_for_whole(
    gateway: Gateway, elsewhere: servers.RunningServer, tmp_path: Path
) -> None:
    trade(gateway)
    dump_into(elsewhere.url, tmp_path / "books.dump")
    assert gateway.order("after-the-dump").status_code == 201
    anchor_journal(clock=FixedClock(datetime.now(UTC)))
    proved = manage(elsewhere.url, "journal", "verify", "--anchors", str(settings.TRADINGBOT.anchors_at))
    assert proved.returncode == 1
    assert "broken: " in proved.stderr


MISTAKE = """
from decimal import Decimal
from django.db import connection
from backend.tradingbot.services.accounts import create_account
def now():
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()::text")
        return cursor.fetchone()[0]
create_account(code="kept", cash=Decimal(1), broker_account="kept", symbols=[])
print(now(), flush=True)
create_account(code="mistake", cash=Decimal(1), broker_account="mistake", symbols=[])
"""


def restored_to(moment: str, tmp_path: Path) -> servers.RunningServer:
    """A server on the base copy, with the archived log replayed up to ``moment``."""
    data = tmp_path / "third" / "data"
    (data / "recovery.signal").touch()
    with (data / "postgresql.auto.conf").open("a") as config:
        config.write(f"archive_mode = off\nrestore_command = 'cp {tmp_path}/wal/%f %p'\n")
        config.write(f"recovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n")
    shutil.copy(tmp_path / "second" / "password", tmp_path / "third" / "password")
    owned(data)
    return servers.start_postgres(tmp_path / "third").wait(60)


def test_a_base_copy_and_the_archived_log_bring_back_a_moment_in_the_past(
    gateway: Gateway, elsewhere: servers.RunningServer, tmp_path: Path
) -> None:
    trade(gateway)
    dump_into(elsewhere.url, tmp_path / "books.dump")
    copy = tmp_path / "third" / "data"
    tool("pg_basebackup", "--pgdata", copy, "--wal-method=none", "--checkpoint=fast", "--dbname", elsewhere.url)
    done = manage(elsewhere.url, "shell", "-c", MISTAKE)
    assert done.returncode == 0, done.stderr
    moment = done.stdout.strip().splitlines()[-1]
    with psycopg.connect(elsewhere.url, autocommit=True) as connection:
        connection.execute("SELECT pg_switch_wal()")
    elsewhere.stop()  # a clean stop archives what is complete
    server = restored_to(moment, tmp_path)
    try:
        with psycopg.connect(server.url) as connection:
            codes = connection.execute("SELECT code FROM tradingbot_account ORDER BY code").fetchall()
        assert codes == [("kept",), ("main",)]
        proved = manage(server.url, "journal", "verify")
        assert proved.returncode == 0, proved.stdout + proved.stderr
        assert "account:kept: " in proved.stdout
    finally:
        server.stop()
