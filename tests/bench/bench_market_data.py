"""Figures of the market data checks: false alarms, ten million bars beside pandera and pandas, and rows in a second.

``make bench`` runs it in full; ``python -m tests.bench.bench_market_data [alarms|bars|ingest] [--scale 0.1]`` a part,
one JSON line a figure. Each rival runs in a process of its own, on the same file, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from tests.bench.measuring import Figure, peak_mb

ROOT = Path(__file__).resolve().parents[2]
Z_LIMITS = (6.0, 7.5, 9.0, 12.0)
SPREAD, PLANTED = 0.02, 1_000
RIVALS = ("checks", "pandas", "pandera")


def tell(figure: str, **values: object) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


def _figures(part: str, label: str) -> Iterator[Figure]:
    """Run one part in a process of its own; every number that it tells is a figure, named by ``label``'s value."""
    command = [sys.executable, "-m", "tests.bench.bench_market_data", part]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            about = f"{told.pop('figure')} {told.pop(label, '')}".strip()
            for name, value in told.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    yield Figure(f"{about}: {name}", float(value), "", 1)
    if process.returncode:
        raise RuntimeError(f"{part} ended with code {process.returncode}")


def bench_false_alarms() -> Iterator[Figure]:
    yield from _figures("alarms", "z_limit")


def bench_ten_million_bars() -> Iterator[Figure]:
    yield from _figures("bars", "rival")


def bench_ingest() -> Iterator[Figure]:
    yield from _figures("ingest", "batch")


# -- false alarms


def alarms(scale: float) -> None:
    """Clean ticks whose returns are Student's t with 3 degrees, of scale half a typical spread; 1,000 planted errors of
    more than 10 typical spreads off the last good price. A stop outlasts the confirming tick when two clean ticks in
    a row are refused."""
    for limit in Z_LIMITS:
        tell("false_alarms", z_limit=limit, default=limit == 9.0, **_alarms(limit, int(1_000_000 * scale)))


def _alarms(limit: float, count: int) -> dict[str, object]:
    from backend.tradingbot.data.live_ticks import SymbolState, Tick, TickLimits, judge_tick
    from backend.tradingbot.data.price_jump import JumpRule

    random = np.random.default_rng(20260105)
    moves = np.cumsum(random.standard_t(3, count) * 0.5 * SPREAD / 100)
    prices = np.round(100 * np.exp(moves - np.linspace(0, moves[-1], count)), 4).tolist()
    half = random.choice([0.01, 0.01, 0.01, 0.02], count).tolist()
    planted = {
        int(row): 10 + float(extra)
        for row, extra in zip(
            random.choice(np.arange(100, count), min(PLANTED, count // 200), replace=False),
            random.exponential(20, PLANTED),
            strict=False,
        )
    }
    limits, state = TickLimits(jump=JumpRule(z_limit=limit)), SymbolState()
    hard = outlasting = caught = 0
    was_refused, began = False, time.perf_counter()
    for row in range(count):
        if row in planted and state.track.pending is None:
            reference = state.track.reference or prices[row]
            wrong = reference + planted[row] * SPREAD * (1 if row % 2 else -1)
            judged = judge_tick(state, Tick("T", wrong, row, wrong - 0.01, wrong + 0.01), row, limits)
            caught += not judged.accepted
            state, was_refused = judged.state, False
        elif row in planted:
            caught += 1  # it would come while the symbol is stopped already
        judged = judge_tick(
            state, Tick("T", prices[row], row, prices[row] - half[row], prices[row] + half[row]), row, limits
        )
        if not judged.accepted:
            hard += 1
            outlasting += was_refused
        state, was_refused = judged.state, not judged.accepted
    seconds = time.perf_counter() - began
    return {
        "ticks": count,
        "hard_per_million": round(hard * 1e6 / count, 1),
        "outlasting_per_million": round(outlasting * 1e6 / count, 1),
        "planted": len(planted),
        "caught_share": caught / len(planted),
        "microseconds_a_tick": round(seconds / count * 1e6, 1),
    }


# -- ten million bars


def make_bars(path: Path, rows: int, symbols: int = 200) -> None:
    from backend.tradingbot.data import calendar
    from backend.tradingbot.data.frames import micros

    sessions = calendar.sessions_between(date(2025, 1, 2), date(2026, 6, 30))
    times = np.concatenate([micros(s.opens_at) + np.arange(s.minutes) * 60_000_000 for s in sessions])
    per = rows // symbols
    times = times[:per]
    random = np.random.default_rng(1)
    parts = []
    for number in range(symbols):
        close = np.round(100 * np.exp(np.cumsum(random.standard_t(3, len(times)) * 1e-4)), 2)
        opened = np.concatenate((close[:1], close[:-1]))
        parts.append(
            pl.DataFrame(
                {
                    "symbol": [f"S{number:03d}"] * len(times),
                    "time": pl.Series(times).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
                    "open": opened,
                    "high": np.maximum(opened, close) + 0.02,
                    "low": np.minimum(opened, close) - 0.02,
                    "close": close,
                    "volume": random.integers(1, 1_000, len(times)).astype(float),
                }
            )
        )
    pl.concat(parts).write_parquet(path)


def bars(scale: float) -> None:
    """Seconds and peak memory of all checks, beside the same rules in pandas and in pandera on polars."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.parquet"
        make_bars(path, int(10_000_000 * scale))
        for rival in RIVALS:
            command = [
                sys.executable,
                "-m",
                "tests.bench.bench_market_data",
                "rival",
                "--rival",
                rival,
                "--file",
                str(path),
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                tell("bars", rival=rival, failed=done.stderr.strip().splitlines()[-1:])
            else:
                tell("bars", rival=rival, **json.loads(done.stdout.splitlines()[-1]))


def rival(name: str, path: Path) -> None:
    """One of them in this process: loading is not counted, and stands in the memory of each."""
    frame = pl.read_parquet(path)
    judge = {"checks": _by_checks, "pandas": _by_pandas, "pandera": _by_pandera}[name]
    loaded = peak_mb()
    rules, work = judge(frame)
    began = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - began
    peak = peak_mb()
    print(
        json.dumps(
            {
                "rows": len(frame),
                "rules": rules,
                "seconds": round(seconds, 2),
                "peak_mb": peak,
                "loaded_mb": loaded,
                "findings": found,
            }
        )
    )


def _by_checks(frame: pl.DataFrame):
    from backend.tradingbot.data.checks import BAR_CHECKS, Context, Sessions, check_bars

    times = frame["time"].dt.epoch("us")
    context = Context(sessions=Sessions.between(int(times.min()), int(times.max())))
    return len(BAR_CHECKS), lambda: len(check_bars(frame, context))


def _by_pandera(frame: pl.DataFrame):
    """The rules of ``_pandas_rules``, each a check of the whole frame that says of every row whether it holds."""
    import pandera.polars as pa

    rules = _polars_rules(pl.concat([pl.Series(minutes) for minutes in _minutes(frame)]).cast(frame["time"].dtype))

    def check(name: str) -> pa.Check:
        return pa.Check(lambda data: data.lazyframe.select(rules[name].fill_null(True).alias(name)), name=name)

    schema = pa.DataFrameSchema(checks=[check(name) for name in rules])

    def work() -> int:
        try:
            schema.validate(frame, lazy=True)
        except pa.errors.SchemaErrors as errors:
            return len(errors.failure_cases)
        return 0

    return len(rules), work


def _polars_rules(grid: pl.Series) -> dict[str, pl.Expr]:
    prices, close, time = ["open", "high", "low", "close"], pl.col("close"), pl.col("time")
    step, before = time.diff().over("symbol"), close.shift().over("symbol")
    change = close.log().diff().over("symbol")
    middle = change.rolling_median(60, min_samples=5).shift().over("symbol")
    spread = (change - middle).abs().rolling_median(60, min_samples=5).shift().over("symbol")
    wild = 0.6745 * (change - middle).abs() / pl.max_horizontal(spread, 0.01 / before) > 9
    same = (close == before) & (pl.col("volume") > 0)
    run = same.cast(pl.Int64).cum_sum().over("symbol", (~same).cum_sum().over("symbol"))
    place = time.map_batches(lambda times: grid.search_sorted(times).cast(pl.Int64), return_dtype=pl.Int64)
    ratio = pl.col("open") / before
    jumps = [(ratio / factor - 1).abs() <= 0.02 for factor in (2, 3, 4, 5, 10, 0.5, 1 / 3, 0.25, 0.2, 0.1)]
    hour = timedelta(hours=1)
    return {
        "price": pl.all_horizontal(pl.col(prices).is_finite() & (pl.col(prices) > 0)),
        "low": pl.col("low") <= pl.min_horizontal("open", "close"),
        "high": pl.col("high") >= pl.max_horizontal("open", "close"),
        "volume": pl.col("volume") >= 0,
        "order": step >= timedelta(0),
        "twice": ~time.is_duplicated().over("symbol"),
        "missing": place.diff().over("symbol") <= 1,
        "off the grid": time.is_in(grid.implode()),
        "jump": ~(wild & (step <= hour)),
        "stuck": run < 29,
        "moved without volume": ~((pl.col("volume") == 0) & (close != before)),
        "split": ~(pl.any_horizontal(jumps) & (step > hour)),
    }


def _minutes(frame: pl.DataFrame) -> list[list[datetime]]:
    """The minutes of every session that the frame reaches into."""
    from backend.tradingbot.data import calendar

    first, last = frame["time"].min().date(), frame["time"].max().date()
    sessions = calendar.sessions_between(first, last)
    return [[s.opens_at + timedelta(minutes=minute) for minute in range(s.minutes)] for s in sessions]


def _by_pandas(frame: pl.DataFrame):
    import pandas as pd

    columns = {name: frame[name].to_numpy() for name in ("open", "high", "low", "close", "volume")}
    data = pd.DataFrame({"symbol": pd.Categorical(frame["symbol"].to_list()), **columns})
    data["time"] = pd.to_datetime(frame["time"].dt.epoch("us").to_numpy(), unit="us", utc=True)
    grid = pd.DatetimeIndex([minute for session in _minutes(frame) for minute in session])
    return 12, lambda: _pandas_rules(data, grid)


def _pandas_rules(data, grid) -> int:
    prices = data[["open", "high", "low", "close"]]
    found = int((~(np.isfinite(prices) & (prices > 0))).any(axis=1).sum())
    found += int((data["low"] > data[["open", "close"]].min(axis=1)).sum())
    found += int((data["high"] < data[["open", "close"]].max(axis=1)).sum())
    found += int((data["volume"] < 0).sum())
    for _, part in data.groupby("symbol", observed=True, sort=False):
        step = part["time"].diff()
        found += int((step < np.timedelta64(0)).sum()) + int(part["time"].duplicated().sum())
        expected = grid[(grid >= part["time"].iloc[0]) & (grid <= part["time"].iloc[-1])]
        found += len(expected.difference(part["time"])) + int((~part["time"].isin(expected)).sum())
        change = np.log(part["close"]).diff()
        middle = change.rolling(60, min_periods=5).median().shift()
        spread = (change - middle).abs().rolling(60, min_periods=5).median().shift()
        floor = 0.01 / part["close"].shift()
        wild = 0.6745 * (change - middle).abs() / np.maximum(spread, floor) > 9
        found += int((wild & (step <= np.timedelta64(1, "h"))).sum())
        same = (part["close"].diff() == 0) & (part["volume"] > 0)
        found += int((same.groupby((~same).cumsum()).cumsum() >= 29).sum())
        found += int(((part["volume"] == 0) & (part["close"].diff() != 0)).sum())
        ratio = (part["open"] / part["close"].shift())[step > np.timedelta64(1, "h")]
        found += sum(
            int(((ratio / factor - 1).abs() <= 0.02).sum()) for factor in (2, 3, 4, 5, 10, 0.5, 1 / 3, 0.25, 0.2, 0.1)
        )
    return found


# -- rows in a second


def ingest(scale: float) -> None:
    """Ticks by HTTP into two web workers, and a file of bars by COPY, each on servers of their own."""
    from ops import servers

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        state = Path(folder)
        running = []
        try:
            with open(state / "servers.log", "w") as log:
                running = [servers.start_postgres(state / "postgres", log), servers.start_valkey(state / "valkey", log)]
            for server in running:
                server.wait()
            os.environ.update(
                DATABASE_URL=running[0].url, REDIS_URL=f"{running[1].url}/0", STATE_DIR=folder, ENVIRONMENT="test",
                SECRET_KEY="only-for-this-run-" * 4, DJANGO_SETTINGS_MODULE="backend.settings", BROKER="alpaca",
                ALPACA_API_KEY="none", ALPACA_SECRET_KEY="none", ALPACA_BASE_URL="http://127.0.0.1:9",
                LOG_LEVEL="WARNING",
            )  # fmt: skip
            _ingest(state, scale)
        finally:
            for server in reversed(running):
                server.stop()


def _ingest(state: Path, scale: float) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from backend.tradingbot.core.clock import SYSTEM_CLOCK
    from backend.tradingbot.data.bar_files import Reading
    from backend.tradingbot.services.accounts import ensure_firm
    from backend.tradingbot.services.bar_files import ingest_file

    ensure_firm()
    path = state / "bars.parquet"
    make_bars(path, int(1_000_000 * scale), 20)
    began = time.perf_counter()
    done = ingest_file(path, Reading(interval="1m"), actor="bench", clock=SYSTEM_CLOCK)
    seconds = time.perf_counter() - began
    tell("ingest_file", rows=done.stored, seconds=round(seconds, 2), rows_per_second=round(done.rows / seconds))
    _ingest_http(state, scale)


def _ingest_http(state: Path, scale: float) -> None:
    import requests

    from backend.tradingbot.core.clock import SYSTEM_CLOCK
    from backend.tradingbot.services.keys import create_key
    from ops.servers import free_port

    symbols = [f"S{n:03d}" for n in range(200)]
    fields = {"name": "bench", "role": "viewer", "capabilities": ["feed"], "feed_symbols": symbols}
    _, token = create_key(**fields, actor="bench", clock=SYSTEM_CLOCK)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "backend.wsgi:application", "--bind", f"127.0.0.1:{port}"]
    command += ["--worker-class", "gthread", "--workers", "2", "--threads", "4", "--log-level", "warning"]
    with (state / "web.log").open("w") as log:
        web = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    url, headers = (
        f"http://127.0.0.1:{port}",
        {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"},
    )
    try:
        for _ in range(100):
            try:
                requests.get(f"{url}/healthz", timeout=5)
                break
            except requests.RequestException:
                time.sleep(0.2)
        calls = max(int(20 * scale), 4)

        def feed(client: int) -> int:
            taken = 0
            own = symbols[client * 100 : client * 100 + 100]
            with requests.Session() as session:
                for number in range(calls):
                    now = datetime.now(UTC).isoformat()
                    quote = f'"bid":"99.99","ask":"100.03","time":"{now}"'
                    lines = "\n".join(
                        f'{{"symbol":"{own[n % 100]}","price":"100.0{(n + number) % 3}",{quote}}}'
                        for n in range(10_000)
                    )
                    answer = session.post(f"{url}/api/v1/market-data/ticks", data=lines, headers=headers, timeout=60)
                    answer.raise_for_status()
                    taken += answer.json()["accepted"]
            return taken

        began = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            taken = sum(pool.map(feed, range(2)))
        seconds = time.perf_counter() - began
        tell(
            "ingest_http", ticks=taken, seconds=round(seconds, 2), rows_per_second=round(taken / seconds), batch=10_000
        )
    finally:
        web.terminate()
        web.wait(20)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=["all", "alarms", "bars", "ingest", "rival"], default="all")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the full counts")
    parser.add_argument("--rival", choices=RIVALS)
    parser.add_argument("--file", type=Path)
    options = parser.parse_args(arguments)
    if options.part == "rival":
        rival(options.rival, options.file)
        return 0
    for name, part in (("alarms", alarms), ("bars", bars), ("ingest", ingest)):
        if options.part in ("all", name):
            part(options.scale)
    return 0


if __name__ == "__main__":
    sys.exit(main())
