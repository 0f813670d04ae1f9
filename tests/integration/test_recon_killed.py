"""A run that dies anywhere and is started again ends the same as one that never died.

Two ways of dying: every statement of a run fails in turn, which stops it before, in and after each of its commits; and
a real process is killed with SIGKILL at every named point. The twin account had the same day and no trouble.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from backend.tradingbot.infra.failpoints import Action, Failpoints
from backend.tradingbot.models import Affirmation, BookEntry, Break, BreakEvent, Match, ReconciliationBlock, ReconRun
from backend.tradingbot.services import journal
from tests.integration.recon_house import MONDAY, House, noon, own_database

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
POINTS = ("recon.begun", "recon.statement_stored", "recon.before_store", "recon.before_commit")


def day_of(code: str) -> House:
    """A day with matches of several passes, a lost fill, a fee that is adopted, and money that nobody announced."""
    house = House(code, policy={"fees": {"name": "flat", "order": "1.00"}})
    house.trade(MONDAY)
    order = house.order(at=noon(MONDAY, 3))
    for minute, qty in ((4, 60), (5, 40)):
        house.book(house.report(order, qty, "150.00", noon(MONDAY, minute)))
    house.tell(house.report(order, 100, "150.00", noon(MONDAY, 5), execution_id=f"{code}-summed"))
    house.tell_order(order)
    lost = house.order("MSFT", at=noon(MONDAY, 6))
    house.tell(house.report(lost, 5, "10.00", noon(MONDAY, 7)))
    for name, code_name, amount, text in (
        ("f1", "FEE", -3, f"fees on {MONDAY}"), ("w1", "CSW", -500, "wire"), ("d1", "DIV", 7, "dividend"),
    ):  # fmt: skip
        symbol = {"symbol": "AAPL"} if code_name == "DIV" else {}
        row = {"activity_type": code_name, "id": f"{code}-{name}", "date": str(MONDAY), "net_amount": str(amount)}
        house.others.append({**row, "description": text, **symbol})
        house.their_cash += amount
    house.after_close(MONDAY)
    house.upload(MONDAY)
    return house


def outcome(house: House) -> str:
    """Everything that a run leaves, with the account's name and the numbers of rows taken out."""
    own = {"account": house.account}
    breaks = Break.objects.filter(**own).order_by("kind", "subject")
    told = {
        "breaks": list(breaks.values_list("kind", "subject", "status", "difference", "effects", "carry", "value")),
        "events": sorted(BreakEvent.objects.filter(found_break__account=house.account).values_list("kind", "after")),
        "entries": list(BookEntry.objects.filter(**own).order_by("activity_id").values_list("activity_id", "amount")),
        "matches": sorted(Match.objects.filter(run__account=house.account).values_list("match_pass", "ours", "theirs")),
        "blocks": list(ReconciliationBlock.objects.filter(**own, lifted_at=None).values_list("session", "reason")),
        "signed": [row.snapshot for row in Affirmation.objects.filter(**own, replaced_at=None)],
        "runs": list(ReconRun.objects.filter(**own).values("session", "state", "failure", "proofs", "closing", "pnl")),
        "cash": house.row().cash, "through": house.row().reconciled_through,
    }  # fmt: skip
    return json.dumps(told, default=str, sort_keys=True).replace(house.code, "X")


def undisturbed() -> str:
    house = day_of("quietly")
    house.run(MONDAY)
    return outcome(house)


class Failing:
    """Lets the ``at``-th statement from now on fail, once."""

    def __init__(self, at: int) -> None:
        self.left, self.struck = at, False

    def __call__(self, execute, sql, params, many, context):
        self.left -= 1
        if self.left == 0:
            self.struck = True
            raise OperationalError("the server went away")
        return execute(sql, params, many, context)


def test_a_run_in_which_every_statement_fails_once_ends_as_one_in_which_none_does():
    expected, house = undisturbed(), day_of("troubled")
    failures = 0
    for at in count(1):
        failing = Failing(at)
        try:
            with connection.execute_wrapper(failing):
                house.run(MONDAY)
        except OperationalError:
            failures += 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")  # a process that died has let go
        if not failing.struck:
            break
    assert failures > 30
    assert outcome(house) == expected
    assert journal.verify("account:troubled").intact


def test_a_process_that_is_killed_at_every_point_in_turn_leaves_a_run_that_ends_the_same(tmp_path):
    expected, house = undisturbed(), day_of("killed")
    points = Failpoints(tmp_path)
    for point in POINTS:
        points.arm(point, Action.KILL)
        assert close_in_a_process(house, tmp_path).returncode == -signal.SIGKILL
        assert Break.objects.filter(account=house.account).count() == 0
        assert ReconRun.objects.get(account=house.account).state == "running"
    done = close_in_a_process(house, tmp_path)
    assert "open breaks" in done.stdout, done.stderr
    assert outcome(house) == expected
    assert ReconRun.objects.get(account=house.account).attempts == len(POINTS) + 1
    assert journal.verify("account:killed").intact


def close_in_a_process(house: House, failpoints: Path) -> subprocess.CompletedProcess[str]:
    """``manage.py eod_recon`` against the database of this test."""
    command = [sys.executable, "-W", "ignore", "manage.py", "eod_recon", "--account", house.code, "--date", str(MONDAY)]
    return subprocess.run(
        command, cwd=ROOT, env=own_database() | {"FAILPOINTS": str(failpoints)}, capture_output=True,
        text=True, timeout=100,
    )  # fmt: skip
