"""Input of any size: memory is that of one piece, the error is clear, and nothing is half-written.

``make test`` feeds tens of megabytes, and gigabytes that are holes on the disk; ``make soak`` a gigabyte of real rows.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest
import requests
from django.db import connection

from backend.tradingbot.data import calendar
from backend.tradingbot.models import Bar, BarFile, DataStop, Quarantine
from backend.tradingbot.services.keys import create_key
from tests.integration.test_no_secrets_in_logs import answers, running, until
from tests.property.market_data_samples import as_utc, minutes

ROOT = Path(__file__).resolve().parents[2]
HEADER = "symbol,interval,time,open,high,low,close,volume\n"
GIGABYTE, MEGABYTE = 1_000_000_000, 1_000_000
MOST_MB = 700  # a process with Django, polars and one piece of 500,000 rows; the file may have any size
SIZES = [40, pytest.param(1_000, marks=pytest.mark.soak)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A place for files that are too large to be kept until pytest tidies up."""
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()


def rows_of(symbol: str, times: np.ndarray[Any, Any]) -> pl.DataFrame:
    """Clean bars: a price that moves by a cent or two."""
    rng = np.random.default_rng(len(symbol) + int(symbol[1:]))
    close = 20_000 + np.cumsum(rng.integers(1, 3, len(times)) * rng.choice([-1, 1], len(times)))
    opened = np.concatenate((close[:1], close[:-1]))
    values = {"open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close}
    times_told = as_utc(times).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return pl.DataFrame(
        {"symbol": [symbol] * len(times), "interval": ["1m"] * len(times), "time": times_told}
        | {name: column / 100 for name, column in values.items()}
        | {"volume": rng.integers(1, 900, len(times))}
    )


def frames(megabytes: int) -> Iterator[pl.DataFrame]:
    """Whole symbols of a quarter of one-minute bars, until they would fill so many megabytes of CSV."""
    times = minutes(calendar.sessions_between(date(2025, 1, 2), date(2025, 3, 31)))
    size = 0
    for number in range(100_000):
        frame = rows_of(f"S{number:03d}", times)
        size += 63 * len(frame)
        yield frame
        if size >= megabytes * MEGABYTE:
            return


def write_csv(path: Path, megabytes: int) -> int:
    count = 0
    with path.open("wb") as file:
        file.write(HEADER.encode())
        for frame in frames(megabytes):
            frame.write_csv(file, include_header=False)
            count += len(frame)
    return count


def write_parquet(path: Path, megabytes: int) -> int:
    count, parts = 0, []
    for number, frame in enumerate(frames(megabytes)):
        parts.append(path.with_name(f"part-{number:04d}"))
        frame.write_parquet(parts[-1])
        count += len(frame)
    pl.scan_parquet(parts).sink_parquet(path)
    for part in parts:
        part.unlink()
    return count


def command(*arguments: str) -> tuple[int, str, int]:
    """``manage.py`` with these arguments, as a process of its own: exit code, what it said, its peak memory in MB."""
    # not getrusage: what it tells of a child begins with the memory of the process that started it
    code = (
        "import sys\n"
        "sys.argv = ['manage.py', *sys.argv[1:]]\n"
        "try:\n    import runpy; runpy.run_path('manage.py', run_name='__main__')\n"
        "finally:\n    peak = next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        "    print('PEAK', int(peak) // 1024, file=sys.stderr)\n"
    )
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, env={**os.environ, "DATABASE_URL": url}, capture_output=True, text=True, timeout=1_800, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    return done.returncode, said, int(said.rsplit("PEAK ", 1)[1].split()[0])


def nothing_is_stored() -> bool:
    return not any(model.objects.exists() for model in (Bar, BarFile, DataStop, Quarantine))


@pytest.mark.timeout(2_000)
@pytest.mark.parametrize("megabytes", SIZES)
@pytest.mark.parametrize("write", [write_csv, write_parquet], ids=["csv", "parquet"])
def test_a_file_of_any_size_is_checked_in_bounded_memory(folder, megabytes, write):
    path = folder / "bars"
    rows = write(path, megabytes)
    code, said, peak = command("check_data", str(path))
    print(f"\ncheck_data {write.__name__[6:]} of {megabytes} MB of rows ({rows:,}): peak {peak} MB")
    assert (code, f"{rows:,} bars" in said) == (0, True), said
    assert peak < MOST_MB


@pytest.mark.timeout(2_000)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("megabytes", SIZES)
@pytest.mark.parametrize("last", ["S000,1m,2025-06-02T14:30:00Z,1,1,1,one,5", "S000,1m,2025-06-02T14:30:00Z,1,1,1"])
def test_a_fault_in_the_last_row_of_a_large_file_is_named_and_nothing_is_stored(folder, megabytes, last):
    path = folder / "bars.csv"
    rows = write_csv(path, megabytes)
    with path.open("a") as file:
        file.write(last + "\n")
    code, said, peak = command("ingest_bars", str(path))
    print(f"\ningest_bars of {megabytes} MB with a fault in its last row: peak {peak} MB")
    assert code == 1 and "Traceback" not in said
    if "one" in last:
        assert f"close is not a number, in row {rows} of bars.csv (got 'one')" in said
    else:
        assert f"has 6 fields and not 8 in row {rows} of bars.csv" in said, said
    assert nothing_is_stored()
    assert peak < MOST_MB


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "start, end, told",
    [
        (HEADER.encode(), b"", "has a line longer than"),
        (b"", b"", "has no header line"),
        (b"PAR1", b"", "is not a whole Parquet file"),
        (b"PAR1", b"\xff\xff\xff\x7fPAR1", "is not a whole Parquet file"),
    ],
    ids=["one endless line", "no header", "a truncated Parquet", "a footer that is none"],
)
@pytest.mark.parametrize("tool", ["check_data", "ingest_bars"])
def test_a_gigabyte_of_nothing_is_refused_in_a_sentence(folder, tool, start, end, told):
    path = folder / "bars"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(GIGABYTE)
        file.seek(0, os.SEEK_END)
        file.write(end)
    assert path.stat().st_blocks * 512 < MEGABYTE  # a hole, on disk
    code, said, peak = command(tool, str(path))
    assert code == 1 and told in said and "Traceback" not in said, said
    assert peak < MOST_MB
    assert nothing_is_stored()


class Endless:
    """A body that announces a gigabyte, and counts what was taken of it."""

    sent = 0

    def __len__(self) -> int:
        return GIGABYTE

    def read(self, size: int) -> bytes:
        self.sent += size
        return b" " * size


@pytest.mark.stack
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_a_body_without_an_end_is_refused_and_costs_the_server_no_memory(live_server, tmp_path, kind):
    _, token = create_key(name="vendor", role="viewer", capabilities=["feed"], feed_symbols=["AAPL"])
    (tmp_path / "static").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    environment = {**os.environ, "DATABASE_URL": url, "WEB_WORKERS": "1", "STATE_DIR": str(tmp_path)}
    web = [sys.executable, "-m", "gunicorn", "-c", "python:backend.web_server", "backend.wsgi:application"]
    log = tmp_path / "web.log"
    with running([*web, "--bind", address], environment, log) as process:
        until(lambda: answers(f"http://{address}"), process, log)
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        before, body = memory_mb(worker), Endless()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        try:
            answer = requests.post(f"http://{address}/api/v1/market-data/bars", data=body, headers=headers, timeout=300)
        except requests.ConnectionError:
            pass  # it had answered and hung up while we were still sending
        else:
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
            assert "is larger than 4194304 bytes" in answer.text
        print(f"\n{body.sent // MEGABYTE} MB of {kind} sent: the worker's memory {before} -> {memory_mb(worker)} MB")
        assert memory_mb(worker) < before + 64
        assert answers(f"http://{address}")
    assert nothing_is_stored()


def memory_mb(pid: str) -> int:
    """The most that the process ever held."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) // 1024
