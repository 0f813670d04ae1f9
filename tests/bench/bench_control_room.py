"""The control room over a large book: 200 accounts, 5,000 symbols, 1,000,000 orders, on servers of its own.

Told are the first byte of the overview over HTTP (gunicorn, as people get it), its refreshed parts, and for each page
how many statements it takes and how long. ``python -m tests.bench.bench_control_room [--orders 100000]`` runs it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from ops import servers
from tests.bench.measuring import Figure

ROOT = Path(__file__).resolve().parents[2]
ACCOUNTS, STRATEGIES, SYMBOLS, ORDERS = 200, 20, 5_000, 1_000_000
HELD, PASSES = 25, 9
NUMBERED = "generate_series(1, %(orders)s) n"
ORDER = {  # what differs from the order that is copied, by column
    "account_id": "(SELECT (array_agg(id ORDER BY id))[1 + n %% %(accounts)s] FROM tradingbot_account)",
    "strategy_id": "(SELECT (array_agg(id ORDER BY id))[1 + n %% %(strategies)s] FROM tradingbot_strategy)",
    "client_order_id": "'order-' || n",
    "trace_id": "md5(n::text)",
    "symbol": "'S' || (n %% %(symbols)s)",
    "side": "CASE WHEN n %% 2 = 0 THEN 'buy' ELSE 'sell' END",
    "qty": "1 + n %% 100",
    "status": "CASE WHEN n %% 20 = 0 THEN 'denied' WHEN n %% 1000 = 1 THEN 'accepted' "
    "WHEN n %% 50000 = 3 THEN 'in_doubt' ELSE 'filled' END",
    "decision": "CASE WHEN n %% 20 = 0 THEN %(refused)s::jsonb ELSE %(allowed)s::jsonb END",
    "created_at": "now() - (%(orders)s - n) * interval '0.1 s'",
}
ENTRY = {
    "chain": "'account:a' || n %% %(accounts)s",
    "seq": "1000000 + n",
    "kind": "'order_transition'",
    "subject": "'order-' || n",
    "trace_id": "md5(n::text)",
    "hash": "md5(n::text) || md5(n::text)",
}
POSITION = {"account_id": "account.id", "symbol": "'S' || ((account.id * 37 + n) %% %(symbols)s)", "qty": "100"}
GATES = [{"gate": name, "passed": True, "code": "within_limit", "message": "value 505, limit 250000"} for name in
         ("replay_guard", "circuit_breaker", "trading_state", "order_size", "buying_power")]  # fmt: skip


def bench_control_room() -> Iterator[Figure]:
    """In a process of its own, because Django is set up for the servers of this one benchmark."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.bench_control_room",
        "--orders",
        os.environ.get("ORDERS", str(ORDERS)),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            yield Figure(told["figure"], told["value"], told["unit"], told["passes"])
    if process.returncode:
        raise RuntimeError(f"the control room's benchmark ended with code {process.returncode}")


def tell(figure: str, value: float, unit: str, passes: int = 1) -> None:
    print(json.dumps({"figure": figure, "value": round(value, 3), "unit": unit, "passes": passes}), flush=True)


def fill(orders: int) -> None:
    """The accounts and strategies by the services that make them, everything that comes in numbers by SQL."""
    from datetime import UTC, datetime
    from decimal import Decimal

    from django.db import connection

    from backend.tradingbot.models import Account, Feed, JournalEntry, Position
    from backend.tradingbot.services.accounts import create_account, create_strategy

    for number in range(ACCOUNTS):
        create_account(code=f"a{number}", cash=Decimal(1_000_000), broker_account=f"PA{number}", symbols=["S1"])
    for number in range(STRATEGIES):
        create_strategy(code=f"s{number}", mode="live")
    names = [f"S{number}" for number in range(SYMBOLS)]
    Feed.objects.create(
        code="all", symbols=names, max_silence_seconds=60, session_calendar="24/7", watched_since=datetime.now(UTC)
    )
    figures = {"accounts": ACCOUNTS, "strategies": STRATEGIES, "symbols": SYMBOLS, "orders": orders}
    figures |= {"allowed": json.dumps({"allowed": True, "checks": GATES})}
    figures |= {"refused": json.dumps({"allowed": False, "checks": [*GATES[1:], {**GATES[0], "passed": False}]})}
    a_position = Position.objects.create(account=Account.objects.earliest("id"), symbol="first")
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET synchronous_commit = off")
        cursor.execute(copies(an_order(), ORDER, NUMBERED), figures)
        cursor.execute(copies(JournalEntry.objects.earliest("id"), ENTRY, NUMBERED), figures)
        names = f"tradingbot_account account, generate_series(1, {HELD}) n"
        cursor.execute(copies(a_position, POSITION, names), figures)
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("RESET statement_timeout")


def copies(row, changes: dict[str, str], source: str) -> str:
    """INSERT of one copy of ``row`` a row of ``source``, with ``changes``: a column that is added later comes along."""
    columns = [field.column for field in row._meta.concrete_fields if not field.primary_key]
    values = ", ".join(changes.get(column, f"one.{column}") for column in columns)
    table = row._meta.db_table
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {source}, {table} one WHERE one.id = {row.pk}"
    )


def an_order():
    """The order that all others are copies of."""
    from datetime import UTC, datetime

    from backend.tradingbot.models import Account, Order, Strategy

    now = datetime.now(UTC)
    return Order.objects.create(
        account=Account.objects.earliest("id"), strategy=Strategy.objects.earliest("id"), client_order_id="first",
        body_digest="d", symbol="S1", side="buy", qty=1, type="limit", limit_price=100, time_in_force="day",
        status="filled", build_id="bench", trace_id="t", created_at=now, updated_at=now,
    )  # fmt: skip


def pages() -> dict[str, str]:
    """What people open, by name."""
    from django.urls import reverse

    from backend.tradingbot.models import Breaker, Order

    newest = Order.objects.order_by("-id").values_list("pk", flat=True)[0]
    order = f"{reverse('admin:tradingbot_order_changelist')}"
    return {
        "overview": "/admin/",
        "overview, all accounts": "/admin/?accounts=all",
        "overview, its parts": "/admin/overview/",
        "orders": order,
        "orders of one account": f"{order}?account__id__exact=1",
        "orders in doubt": f"{order}?status__exact=in_doubt",
        "orders by id": f"{order}?q=order-77777",
        "orders by symbol": f"{order}?q=S77",
        "one order": reverse("admin:tradingbot_order_change", args=[newest]),
        "one breaker": reverse("admin:tradingbot_breaker_change", args=[Breaker.objects.get(scope="account:a7").pk]),
        "breakers": reverse("admin:tradingbot_breaker_changelist"),
        "accounts": reverse("admin:tradingbot_account_changelist"),
        "positions": reverse("admin:tradingbot_position_changelist"),
        "journal": reverse("admin:tradingbot_journalentry_changelist"),
        "journal by subject": reverse("admin:tradingbot_journalentry_changelist") + "?q=order-77777",
        "limits": reverse("admin:tradingbot_limitversion_changelist"),
        "kill switch": reverse("admin:tradingbot_killswitchrun_pull"),
    }


def measure(client, name: str, address: str) -> None:
    from django.db import connection

    asked = 0

    def count(execute, *arguments):
        nonlocal asked
        asked += 1
        return execute(*arguments)

    client.get(address)
    with connection.execute_wrapper(count):
        answer = client.get(address)
    assert answer.status_code in (200, 204), f"{name} answered {answer.status_code}"
    taken = []
    for _ in range(PASSES):
        begun = time.perf_counter()
        client.get(address)
        taken.append((time.perf_counter() - begun) * 1000)
    tell(f"{name}: statements", asked, "", 1)
    tell(f"{name}: time", median(taken), "ms", PASSES)


def first_byte(cookie: str) -> None:
    """Over HTTP, from one gunicorn worker as the stack runs it."""
    import requests

    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "python:backend.web_server", "backend.wsgi:application"]
    environment = {**os.environ, "WEB_WORKERS": "1"}
    web = subprocess.Popen([*command, "--bind", f"127.0.0.1:{port}"], cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                requests.get(f"{url}/healthz", timeout=5)
                break
            except (requests.ConnectionError, requests.Timeout):  # a worker that still imports takes the call in
                time.sleep(0.1)
        session = requests.Session()
        session.cookies.set("sessionid", cookie)
        for name, path in (("overview", "/admin/"), ("overview, its parts", "/admin/overview/")):
            assert session.get(url + path, timeout=30, allow_redirects=False).status_code == 200
            taken = [session.get(url + path, timeout=30).elapsed.total_seconds() * 1000 for _ in range(25)]
            tell(f"{name}: first byte over HTTP, median", median(taken), "ms", 25)
            tell(f"{name}: first byte over HTTP, slowest", max(taken), "ms", 25)
    finally:
        web.terminate()
        web.wait(20)


def main(orders: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tradingbot-bench-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        (root / "static").mkdir()
        with open(root / "servers.log", "w") as log:
            running = [servers.start_postgres(root / "postgres", log), servers.start_valkey(root / "valkey", log)]
        try:
            for server in running:
                server.wait()
            os.environ.update(
                DATABASE_URL=running[0].url, REDIS_URL=running[1].url, STATE_DIR=folder, ENVIRONMENT="test",
                SECRET_KEY=secrets.token_urlsafe(48), DJANGO_SETTINGS_MODULE="backend.settings",
                ALLOWED_HOSTS="localhost,127.0.0.1,testserver", LOG_LEVEL="ERROR",
            )  # fmt: skip
            _run(orders)
        finally:
            while running:
                running.pop().stop()


def _run(orders: int) -> None:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    begun = time.perf_counter()
    fill(orders)
    tell(f"filling the book with {orders} orders", time.perf_counter() - begun, "s")
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    for name, address in pages().items():
        measure(client, name, address)
    first_byte(client.cookies["sessionid"].value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=ORDERS)
    main(parser.parse_args().orders)
