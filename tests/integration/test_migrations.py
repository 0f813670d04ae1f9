"""Every migration goes back, on a database with a closed day in it, and forward again to the same schema.

The database of this test is copied, and the copy is migrated by processes of its own, as an operator does it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection

from backend.tradingbot.models import Affirmation, BookEntry, Break, Statement
from backend.tradingbot.services import affirmations
from backend.tradingbot.services import break_workflow as work
from backend.tradingbot.services.cash_flows import record_cash_flow
from backend.tradingbot.services.recon_by_hand import run_by_hand
from tests.integration.recon_house import MONDAY, D, House

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
BEFORE_BREAKS = "0002_marking"
SCHEMA = """
SELECT 'column', table_name, column_name, udt_name, is_nullable, coalesce(character_maximum_length, numeric_precision)
  FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass::text, pg_get_constraintdef(oid), '', '', 0
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', tablename, regexp_replace(indexdef, 'INDEX \\S+', 'INDEX'), '', '', 0
  FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, '', '', 0 FROM pg_trigger WHERE NOT tgisinternal
"""
KEPT = "SELECT client_order_id, status, filled_qty FROM tradingbot_order ORDER BY 1"


def lived_in() -> None:
    """A day with a fill that was lost, a wire that the poll saw, a break that two people closed, and a signature."""
    house = House()
    house.trade(MONDAY)
    record_cash_flow(
        house.account, activity_id="w1", kind="CSW", amount=D(-5), occurred_at=house.clock.now(), reason="wire",
        actor="broker", clock=house.clock,
    )  # fmt: skip
    house.tell(house.report(house.order(), 5, "10", house.clock.now()))
    raw = house.statement(MONDAY)
    house.close(MONDAY, raw)
    first = Statement.objects.get()
    house.upload(MONDAY, raw + b" ")
    run_by_hand(house.account, MONDAY, actor="ann", reason="r", clock=house.clock, statement=first.pk)
    found = Break.objects.get(kind="missing_internal")
    work.resolve(found.pk, resolution="written_off", actor="ann", reason="r", clock=house.clock)
    work.close(found.pk, actor="ben", reason="r", clock=house.clock)
    due = Affirmation.objects.get(replaced_at=None)
    affirmations.sign(due.pk, sha256=due.sha256, actor="cat", clock=house.clock)
    assert BookEntry.objects.count() == 1


@pytest.fixture
def copy() -> Iterator[str]:
    """The address of a copy of this test's database, lived in."""
    lived_in()
    name, server = connection.settings_dict["NAME"], urlsplit(os.environ["DATABASE_URL"])
    connection.close()
    copied = f"{name}_back"
    with psycopg.connect(server._replace(path="/postgres").geturl(), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        admin.execute(f'DROP DATABASE IF EXISTS "{copied}"')
        admin.execute(f'CREATE DATABASE "{copied}" TEMPLATE "{name}"')
        yield server._replace(path=f"/{copied}").geturl()
        admin.execute(f'DROP DATABASE "{copied}" WITH (FORCE)')


def migrate(url: str, *target: str) -> None:
    command = [sys.executable, "-W", "ignore", "manage.py", "migrate", "tradingbot", *target, "--verbosity", "0"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3_000:]


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as opened:
        return sorted(opened.execute(query).fetchall())


def tables(rows: list[tuple[Any, ...]]) -> set[str]:
    return {row[1] for row in rows}


def test_every_migration_since_breaks_reverses_on_a_closed_day_and_comes_forward_to_the_same_schema(copy):
    schema, orders = asked(copy, SCHEMA), asked(copy, KEPT)
    assert {"tradingbot_break", "tradingbot_reconrun", "tradingbot_statementchoice"} <= tables(schema)
    migrate(copy, BEFORE_BREAKS)
    back = tables(asked(copy, SCHEMA))
    assert not {name for name in back if "break_" in name or "recon" in name or "statement" in name}
    migrate(copy)
    assert asked(copy, SCHEMA) == schema
    assert asked(copy, KEPT) == orders
