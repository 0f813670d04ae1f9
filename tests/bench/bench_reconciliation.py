"""A day of 1,000,000 orders and 1,300,000 executions closed from PostgreSQL to stored breaks, and the matching alone
beside pandas, polars and a FULL JOIN in PostgreSQL.

``make bench`` runs it in full; ``python -m tests.bench.bench_reconciliation [--scale 0.01]`` any part of the size, one
JSON line a figure. The run and every rival have a process of their own, on the same rows, in the same run; ``peak_mb``
is what that process held at most. Rivals do the plain match (full join by execution id, compare symbol, side, quantity
and price) on floats; the engine compares exact decimals, knows duplicates, busts and partials, and names each
difference.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.measuring import Figure

ROOT = Path(__file__).resolve().parents[2]
TERMS = ("symbol", "side", "qty", "price")
RIVALS = ("engine_match", "engine_breaks", "polars", "pandas", "postgresql")


def tell(figure: str, **values: object) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


def peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def bench_a_million_orders() -> Iterator[Figure]:
    command = [sys.executable, "-m", "tests.bench.bench_reconciliation"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            about = told.pop("figure")
            for name, value in told.items():
                yield Figure(f"{about}: {name}", float(value), "", 1)
    if process.returncode:
        raise RuntimeError(f"the reconciliation benchmark ended with code {process.returncode}")


# -- the parent: servers, books, and one child a measurement


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench_reconciliation", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of a million orders")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    orders = int(1_000_000 * asked.scale)
    if asked.child:
        _set_up()
        CHILDREN[asked.child](Path(asked.folder), orders)
    else:
        _measure(orders, asked.scale)


def _measure(orders: int, scale: float) -> None:
    from ops import servers

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        state, running = Path(folder), []
        try:
            with open(state / "servers.log", "w") as log:
                running = [servers.start_postgres(state / "postgres", log), servers.start_valkey(state / "valkey", log)]
            for server in running:
                server.wait()
            os.environ.update(
                DATABASE_URL=running[0].url, REDIS_URL=f"{running[1].url}/0", STATE_DIR=folder, ENVIRONMENT="test",
                SECRET_KEY="only-for-this-run-" * 4, DJANGO_SETTINGS_MODULE="backend.settings", LOG_LEVEL="ERROR",
                BROKER="paper",
            )  # fmt: skip
            for child in ("books", "run", "export", *RIVALS):
                command = [sys.executable, "-W", "ignore", "-m", "tests.bench.bench_reconciliation", "--child", child]
                subprocess.run([*command, "--folder", folder, "--scale", str(scale)], cwd=ROOT, check=True)
        finally:
            for server in reversed(running):
                server.stop()


def _set_up() -> None:
    import django

    django.setup()


def _books(folder: Path, orders: int) -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from backend.tradingbot.core.clock import SYSTEM_CLOCK
    from backend.tradingbot.services.accounts import create_account, create_strategy, ensure_firm
    from backend.tradingbot.services.recon_policies import set_policy
    from tests.bench.recon_books import populate

    begun = time.perf_counter()
    ensure_firm()
    account = create_account(code="bench", cash=1, broker_account="U-bench", symbols=["S1"])
    set_policy(account, {"upload_only": True}, actor="bench", reason="files", clock=SYSTEM_CLOCK)
    populate(account, create_strategy(code="bench").pk, orders)
    tell("books made, not part of any figure", seconds=round(time.perf_counter() - begun, 2))


def _run(folder: Path, orders: int) -> None:
    """From the rows in PostgreSQL to breaks, proofs, profit and loss and the block, stored; checked by the faults."""
    from collections import Counter

    from backend.tradingbot.core.clock import SYSTEM_CLOCK
    from backend.tradingbot.models import Account, Break
    from backend.tradingbot.services import recon
    from tests.bench.recon_books import DAY, expected

    before, begun = peak_mb(), time.perf_counter()
    run = recon.run_session(Account.objects.get(), DAY, actor="bench", clock=SYSTEM_CLOCK, pull=False)
    seconds = time.perf_counter() - begun
    found = dict(Counter(Break.objects.values_list("kind", flat=True)))
    if (run.state, found) != ("completed", expected(orders)):
        raise RuntimeError(f"{run.state} {run.failure}: found {found}, planted {expected(orders)}")
    matched = sum(run.counts["matched"].values())
    tell("run, PostgreSQL to stored breaks", orders=orders, executions=run.counts["ours"], breaks=sum(found.values()),
         matched=matched, seconds=round(seconds, 2), peak_mb=peak_mb(), peak_mb_before=before)  # fmt: skip


def _export(folder: Path, orders: int) -> None:
    """Both sides as the engine reads them, for its own figures, and with floats for the rivals."""
    from functools import partial

    import polars as pl

    from backend.tradingbot.data.calendar import session_date
    from backend.tradingbot.models import Account, Statement
    from backend.tradingbot.selectors.frames import Window, our_executions, statement_lines
    from tests.bench.recon_books import BORN, CUT

    account, begun = Account.objects.get(), time.perf_counter()
    ours = our_executions(account.pk, Window(BORN, 0, CUT, 2**62), partial(session_date, calendar="XNYS"))
    theirs = statement_lines(Statement.objects.get().pk, "executions")
    tell("load both sides by COPY", seconds=round(time.perf_counter() - begun, 2), peak_mb=peak_mb())
    for name, table in (("ours", ours), ("theirs", theirs)):
        table.write_parquet(folder / f"{name}.parquet")
        plain = table.select("execution_id", "symbol", "side", pl.col("qty", "price").cast(pl.Float64))
        plain.write_parquet(folder / f"{name}_plain.parquet")


# -- the rivals: each says how many rows differ


def _timed(name: str, orders: int, load: Callable[[], Any], work: Callable[[Any], int]) -> None:
    from tests.bench.recon_books import expected

    data = load()
    before, begun = peak_mb(), time.perf_counter()
    differ = work(data)
    seconds = time.perf_counter() - begun
    if differ != sum(expected(orders).values()):
        raise RuntimeError(f"{name} finds {differ} differences, planted were {expected(orders)}")
    tell(f"match, {name}", seconds=round(seconds, 3), peak_mb=peak_mb(), peak_mb_loaded=before, differences=differ)


def _engine_match(folder: Path, orders: int) -> None:
    from backend.tradingbot.ops.recon_kinds import Tolerances
    from backend.tradingbot.ops.recon_match import match, numbered

    def work(sides: Any) -> int:
        found = match(*(numbered(side) for side in sides), Tolerances())
        return found.clashes.height + found.ours_left.height + found.theirs_left.height

    _timed("engine, passes only", orders, lambda: _sides(folder, ""), work)


def _engine_breaks(folder: Path, orders: int) -> None:
    from backend.tradingbot.ops.recon_engine import Day, reconcile_day
    from backend.tradingbot.ops.recon_frames import Books, cash_effect, frame, signed_qty
    from tests.bench.recon_books import DAY

    def books(side: Any) -> Books:
        held = side.group_by("symbol").agg(signed_qty().sum().alias("qty"))
        rows = [{"symbol": symbol, "qty": qty} for symbol, qty in held.iter_rows() if qty]
        return Books(side, positions=frame("positions", rows), cash=side.select(cash_effect().sum()).item())

    def load() -> Any:
        return [books(side) for side in _sides(folder, "")]

    def work(sides: Any) -> int:
        return len(reconcile_day(*sides, Day(DAY)).breaks)

    _timed("engine, to named breaks", orders, load, work)


def _sides(folder: Path, kind: str) -> Any:
    import polars as pl

    return [pl.read_parquet(folder / f"{name}{kind}.parquet") for name in ("ours", "theirs")]


def _polars(folder: Path, orders: int) -> None:
    import polars as pl

    def work(sides: Any) -> int:
        joined = sides[0].join(sides[1], on="execution_id", how="full", suffix="_theirs", coalesce=True)
        differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_theirs")) for name in TERMS)
        return int(joined.filter(differs).height)

    _timed("polars, plain", orders, lambda: _sides(folder, "_plain"), work)


def _pandas(folder: Path, orders: int) -> None:
    import pandas as pd

    def load() -> Any:
        sides = _sides(folder, "_plain")
        return [pd.DataFrame({name: side[name].to_numpy() for name in side.columns}) for side in sides]

    def work(sides: Any) -> int:
        joined = sides[0].merge(sides[1], on="execution_id", how="outer", suffixes=("", "_theirs"))
        differs = joined["symbol"].isna()
        for name in TERMS:
            differs |= joined[name] != joined[f"{name}_theirs"]
        return int(differs.sum())

    _timed("pandas, plain", orders, load, work)


def _postgresql(folder: Path, orders: int) -> None:
    from django.db import connection

    differs = " OR ".join(f"ours.{name} IS DISTINCT FROM theirs.{name}" for name in TERMS)
    query = f"""SELECT count(*) FROM (SELECT * FROM tradingbot_execution WHERE account_id = 1) ours
        FULL JOIN (SELECT * FROM tradingbot_statementexecution WHERE statement_id = 1) theirs USING (execution_id)
        WHERE {differs}"""

    def work(_: Any) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            cursor.execute(query)
            return int(cursor.fetchone()[0])

    _timed("PostgreSQL, FULL JOIN", orders, lambda: None, work)


CHILDREN: dict[str, Callable[[Path, int], None]] = {
    "books": _books, "run": _run, "export": _export, "engine_match": _engine_match, "engine_breaks": _engine_breaks,
    "polars": _polars, "pandas": _pandas, "postgresql": _postgresql,
}  # fmt: skip


if __name__ == "__main__":
    main()
