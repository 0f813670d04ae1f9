"""Runs over the database: breaks are stored once, carried, cleared and re-opened, and the next session is blocked."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from backend.tradingbot.core.errors import ConflictError, InvalidInputError
from backend.tradingbot.data.calendar import sessions_between
from backend.tradingbot.models import (
    BookEntry,
    Break,
    BreakEvent,
    JournalEntry,
    Match,
    Order,
    Position,
    ReconRun,
    Statement,
)
from backend.tradingbot.selectors.blocks import open_blocks
from backend.tradingbot.selectors.recon_report import report_of
from backend.tradingbot.services import journal, recon
from backend.tradingbot.services.recon_policies import set_policy
from backend.tradingbot.services.statements import original_of
from tests.integration.recon_house import MONDAY, TUESDAY, WEDNESDAY, D, House, noon, standing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


def counted():
    return [model.objects.count() for model in (Break, BreakEvent, Statement, BookEntry, Match, ReconRun)]


def blocks(house):
    return [block.reason for block in open_blocks(house.account, house.clock.now())]


def test_a_clean_day_is_completed_with_proofs_that_hold_and_blocks_nothing(house):
    house.trade(MONDAY)
    house.trade(MONDAY, side="sell", qty=40, price="151.50", minute=5)
    run = house.close(MONDAY)
    assert (run.state, run.counts["matched"], standing(), blocks(house)) == ("completed", {"execution_id": 2}, [], [])
    position, cash = run.proofs["ours"]
    assert position == {
        "name": "AAPL", "opening": "0", "closing": "60", "unexplained": "0",
        "lines": {"fills": "60", "corporate_actions": "0", "transfers": "0", "corrections": "0"},
    }  # fmt: skip
    assert (cash["opening"], cash["closing"], cash["unexplained"]) == ("100000", "91060", "0")
    assert run.proofs["theirs"] == run.proofs["ours"]
    assert run.proofs["equity"]["lines"]["realized"] == "60"
    assert (run.proofs["equity"]["unexplained"], run.proofs["unexplained"]) == ("0", "0")
    assert house.row().reconciled_through == MONDAY
    assert journal.verify("account:main").intact


def test_the_same_inputs_twice_add_nothing(house):
    house.trade(MONDAY)
    lost = house.report(house.order(at=noon(MONDAY)), 5, "10", noon(MONDAY, 9))
    house.tell(lost)
    first = house.close(MONDAY)
    rows = counted()
    digest = first.result_digest
    again = house.run(MONDAY)
    assert again.result_digest == digest
    assert counted() == rows
    statement, fresh = house.upload(MONDAY, original_of(Statement.objects.get()))
    assert (fresh, statement.pk) == (False, Statement.objects.get().pk)


def test_a_lost_fill_blocks_until_it_is_booked_late_and_then_clears_by_itself(house):
    house.trade(MONDAY)
    order = house.order(at=noon(MONDAY, 1))
    lost = house.report(order, 100, "150.00", noon(MONDAY, 2))
    house.tell(lost)
    house.tell_order(order)
    run = house.close(MONDAY)
    assert (run.state, standing()) == ("completed", [("missing_internal", lost.execution_id)])
    assert blocks(house) == ["1 open break: 1 missing_internal"]
    assert run.proofs["theirs"][0]["unexplained"] == "0"
    found = Break.objects.get()
    assert (found.value, found.effects["moves"]) == (D("15000"), [{"symbol": "AAPL", "qty": "100", "cash": "-15000"}])
    house.trade(TUESDAY, qty=10)
    house.close(TUESDAY)
    assert standing() == [("missing_internal", lost.execution_id)]
    assert Break.objects.get().last_session == TUESDAY
    house.book(lost)
    house.trade(WEDNESDAY, qty=10)
    run = house.close(WEDNESDAY)
    assert (standing(), blocks(house)) == ([], [])
    closed = Break.objects.get()
    assert (closed.closed_by, closed.resolution) == ("reconciliation", f"no longer found by the run of {WEDNESDAY}")
    assert [event.kind for event in closed.events.all()] == ["opened", "cleared"]
    assert run.proofs["ours"][0]["lines"]["fills"] == "110"
    assert all(proof["unexplained"] == "0" for proof in run.proofs["ours"])


def test_an_empty_or_missing_statement_is_a_break_and_a_block_and_never_flat(house):
    house.trade(MONDAY)
    house.after_close(MONDAY)
    run = house.run(MONDAY)
    assert (run.state, standing()) == ("failed", [("stale_or_incomplete_source", f"statement {MONDAY} source")])
    assert blocks(house) == ["1 open break: 1 stale_or_incomplete_source"]
    house.upload(MONDAY, b"{}")
    run = house.run(MONDAY)
    assert run.state == "incomplete"
    assert ("stale_or_incomplete_source", f"statement {MONDAY} positions") in standing()
    assert house.row().reconciled_through is None
    house.upload(MONDAY)
    run = house.run(MONDAY)
    assert (run.state, standing(), blocks(house)) == ("completed", [], [])


def test_sessions_are_closed_in_their_order_and_a_day_that_never_ran_blocks(house):
    house.after_close(MONDAY)
    assert blocks(house) == [f"session {MONDAY} ended and was not reconciled"]
    house.clock.at = noon(MONDAY)
    assert blocks(house) == []
    house.after_close(TUESDAY)
    with pytest.raises(ConflictError, match=f"session {MONDAY} comes first"):
        house.run(TUESDAY)
    house.upload(MONDAY)
    house.upload(TUESDAY)
    assert house.run(TUESDAY).state == "completed"
    assert house.row().reconciled_through == TUESDAY
    assert ReconRun.objects.filter(state="completed").count() == 2
    assert blocks(house) == []


def test_missed_sessions_are_closed_oldest_first(house):
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        house.trade(day, qty=1)
        house.upload(day)
    house.after_close(WEDNESDAY)
    runs = recon.close_missed(house.account, actor="beat", clock=house.clock)
    assert [(run.session, run.state) for run in runs] == [(day, "completed") for day in (MONDAY, TUESDAY, WEDNESDAY)]
    assert recon.close_missed(house.account, actor="beat", clock=house.clock) == []


@pytest.mark.parametrize("days", [-3, 1, 5])
def test_a_session_that_is_none_or_has_not_ended_or_was_before_the_account_is_refused(house, days):
    house.after_close(MONDAY)
    with pytest.raises(InvalidInputError, match="session"):
        recon.run_session(house.account, MONDAY + timedelta(days=days), actor="ann", clock=house.clock)


def priced(content, price):
    """The statement of one purchase of 100 with another price, and the cash that goes with it."""
    body = json.loads(content)
    body["activities"][0]["price"] = price
    cash = 100_000 - 100 * D(price)
    body["account"] |= {"cash": str(cash), "equity": str(cash + 100 * D("151.00"))}
    return json.dumps(body).encode()


def test_a_correction_of_the_statement_reopens_and_closes_what_it_explains(house):
    fill = house.trade(MONDAY)
    right = house.statement(MONDAY)
    run = house.close(MONDAY, priced(right, "150.01"))
    assert standing() == [("price", fill.execution_id)]
    house.upload(MONDAY, right)
    run = house.run(MONDAY)
    assert (run.state, standing()) == ("completed", [])
    house.upload(MONDAY, priced(right, "150.02"))
    house.run(MONDAY)
    assert standing() == [("price", fill.execution_id)]
    assert Break.objects.count() == 1
    assert [event.kind for event in BreakEvent.objects.all()] == ["opened", "cleared", "reopened"]
    assert blocks(house) == ["1 open break: 1 price"]


def charge(house, name, day, amount):
    fee = {"activity_type": "FEE", "id": name, "date": str(day), "net_amount": f"-{amount}.00"}
    house.others.append({**fee, "description": f"fees on {day}"})
    house.their_cash -= amount


def test_what_a_run_has_cleared_opens_again_and_blocks_when_it_is_found_again_with_the_same_figures(house):
    house.trade(MONDAY)
    kept = list(house.fills), list(house.orders)
    without = house.statement(MONDAY)
    house.fills, house.orders = kept
    lost = house.report(house.order(at=noon(MONDAY)), 5, "10", noon(MONDAY, 9))
    house.tell(lost)
    house.tell_order(Order.objects.get(broker_order_id=lost.broker_order_id), filled=5)
    told = house.statement(MONDAY)
    house.close(MONDAY, told)
    assert (standing(), bool(blocks(house))) == ([("missing_internal", lost.execution_id)], True)
    Order.objects.filter(broker_order_id=lost.broker_order_id).update(status="never_arrived")
    house.close(MONDAY, without)
    assert (standing(), blocks(house), Break.objects.get().cleared_session) == ([], [], MONDAY)
    house.close(MONDAY, told + b" ")
    found = Break.objects.get()
    assert (found.status, found.cleared_session, found.resolved_by) == ("open", None, "")
    assert blocks(house) == ["1 open break: 1 missing_internal"]
    assert [event.kind for event in found.events.all()] == ["opened", "cleared", "reopened"]


def test_a_carried_break_ages_in_sessions_and_not_in_days_of_the_calendar(house):
    lost = house.report(house.order(at=noon(MONDAY)), 5, "10", noon(MONDAY, 9))
    house.tell(lost)
    house.close(MONDAY)
    ages = {}
    for day in [each.date for each in sessions_between(TUESDAY, date(2026, 1, 20), "XNYS")]:
        ages[day] = [age for _, age in report_of(house.close(day)).breaks]
    assert Break.objects.get().session == MONDAY
    assert (ages[date(2026, 1, 9)], ages[date(2026, 1, 12)]) == ([4], [5])  # a weekend between
    assert (ages[date(2026, 1, 16)], ages[date(2026, 1, 20)]) == ([9], [10])  # a weekend and a holiday


def test_expected_fees_are_adopted_once_and_move_our_cash(house):
    set_policy(house.account, {"fees": {"name": "flat", "order": "1.00"}}, actor="ann", reason="r", clock=house.clock)
    house.trade(MONDAY)
    charge(house, "f1", MONDAY, 1)
    run = house.close(MONDAY)
    assert (run.state, standing()) == ("completed", [])
    assert (BookEntry.objects.get().amount, house.row().cash) == (D(-1), D("84999"))
    assert run.proofs["ours"][-1]["lines"]["fees"] == "-1"
    house.run(MONDAY)
    assert (BookEntry.objects.count(), house.row().cash) == (1, D("84999"))
    house.trade(TUESDAY, qty=1)
    house.others.append(
        {
            "activity_type": "FEE",
            "id": "f2",
            "date": str(TUESDAY),
            "net_amount": "-9.00",
            "description": f"on {TUESDAY}",
        }
    )
    house.their_cash -= 9
    house.close(TUESDAY)
    assert standing() == [("fee", f"fees of {TUESDAY}")]
    assert Break.objects.get().difference == {"fee": "8"}


def test_matches_by_more_than_the_id_are_kept_with_their_tolerances(house):
    order = house.order(at=noon(MONDAY))
    for minute, qty in ((1, 60), (2, 40)):
        house.book(house.report(order, qty, "150.00", noon(MONDAY, minute)))
    whole = house.report(order, 100, "150.00", noon(MONDAY, 2), execution_id="summed")
    house.tell(whole)
    house.tell_order(order)
    run = house.close(MONDAY)
    assert standing() == []
    match = Match.objects.get()
    assert (match.match_pass, match.tolerances, match.theirs) == ("order_total", run.tolerances["version"], ["summed"])
    assert len(match.ours) == 2


def test_one_run_an_account_at_a_time(house):
    import psycopg
    from django.db import connection

    house.after_close(MONDAY)
    house.upload(MONDAY)
    params = connection.get_connection_params()
    keep = {name: params[name] for name in ("dbname", "user", "password", "host", "port") if params.get(name)}
    with psycopg.connect(**keep) as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", [recon.RUN_LOCK, house.account.pk])
        with pytest.raises(ConflictError, match="is being reconciled"):
            house.run(MONDAY)
        other.execute("SELECT pg_advisory_unlock_all()")
        assert house.run(MONDAY).state == "completed"


def test_positions_at_the_cut_leave_out_what_came_after_it(house):
    house.trade(MONDAY)
    house.after_close(MONDAY)
    house.upload(MONDAY)
    house.trade(TUESDAY, qty=7)
    run = house.run(MONDAY)
    assert (run.state, standing(), run.closing["ours"]["positions"]) == ("completed", [], {"AAPL": "100"})
    assert Position.objects.get().qty == D(107)


def test_everything_that_was_done_is_in_the_journal(house):
    house.trade(MONDAY)
    house.close(MONDAY)
    kinds = set(JournalEntry.objects.filter(chain="account:main").values_list("kind", flat=True))
    assert {"statement_received", "reconciled"} <= kinds
    assert journal.verify("account:main").intact
