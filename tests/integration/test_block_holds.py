"""A block holds what it is for: no waiver of something else and no older rule lets new risk through."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backend.tradingbot.core.errors import ConflictError
from backend.tradingbot.models import Break, JournalEntry, ReconciliationBlock
from backend.tradingbot.selectors.blocks import open_blocks
from backend.tradingbot.services import break_workflow as work
from backend.tradingbot.services import recon
from backend.tradingbot.services.recon_blocks import lift_block, waive_block
from backend.tradingbot.services.recon_policies import set_policy
from tests.integration.recon_house import MONDAY, TUESDAY, House, noon

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


def blocked(house):
    return bool(open_blocks(house.account, house.clock.now()))


def waive(house, **changes):
    block = ReconciliationBlock.objects.get(lifted_at__isnull=True)
    until = house.clock.now() + timedelta(days=3)
    return waive_block(block.pk, until=until, actor="risk", reason="known wire", clock=house.clock, **changes)


def without_250_dollars(house):
    """The lines that the broker told of the day, to be told again."""
    house.trade(MONDAY)
    house.their_cash -= 250
    told = [*house.fills], [*house.orders]
    house.close(MONDAY)
    return told


def test_a_waiver_ends_when_a_break_is_found_that_nobody_has_waived(house):
    told = without_250_dollars(house)
    waive(house)
    house.run(MONDAY)
    assert not blocked(house)
    fill = house.report(house.order(at=noon(MONDAY)), 10, "150.00", noon(MONDAY, 5))
    house.fills, house.orders = told
    house.tell(fill)
    house.close(MONDAY)
    assert sorted(Break.objects.values_list("kind", flat=True)) == ["cash", "missing_internal"]
    assert blocked(house)
    ended = JournalEntry.objects.get(kind="waiver_ended")
    assert ended.data["new"] == [f"missing_internal {fill.execution_id}"]
    waive(house)
    house.run(MONDAY)
    assert not blocked(house)


def test_a_waiver_ends_when_what_was_waived_has_other_figures(house):
    told = without_250_dollars(house)
    waive(house)
    house.fills, house.orders = told
    house.their_cash -= 90_000
    house.close(MONDAY)
    assert [row.difference for row in Break.objects.all()] == [{"cash": "-90250"}]
    assert blocked(house)


def test_a_waiver_of_a_statement_that_cannot_be_had_holds_whatever_the_reason_is_called(house):
    house.trade(MONDAY)
    house.after_close(MONDAY)
    house.run(MONDAY)
    waive(house)
    house.upload(MONDAY, house.statement(MONDAY, positions=None))
    house.run(MONDAY)
    assert {row.kind for row in Break.objects.exclude(status="closed")} == {"stale_or_incomplete_source"}
    assert not blocked(house)


def test_a_waiver_stays_while_breaks_go(house):
    fill = house.report(house.order(at=noon(MONDAY)), 10, "150.00", noon(MONDAY, 5))
    house.tell(fill)
    without_250_dollars(house)
    waive(house)
    found = Break.objects.get(kind="cash")
    work.resolve(found.pk, resolution="written_off", actor="ann", reason="seen", clock=house.clock)
    work.close(found.pk, actor="ben", reason="agreed", clock=house.clock)
    assert (Break.objects.exclude(status="closed").count(), blocked(house)) == (1, False)


def test_a_block_that_a_person_placed_is_not_lifted_while_breaks_stand_on_it_alone(house):
    block = recon.disable_next_day(house.account, MONDAY, "the desk moves", actor="ann", clock=house.clock)
    without_250_dollars(house)
    assert ReconciliationBlock.objects.get().pk == block.pk
    with pytest.raises(ConflictError, match="its breaks are open"):
        lift_block(block.pk, actor="ann", reason="moved", clock=house.clock)
    assert blocked(house)


def test_a_block_beside_that_of_the_breaks_is_lifted_and_the_breaks_still_block(house):
    without_250_dollars(house)
    block = recon.disable_next_day(house.account, TUESDAY, "the desk moves", actor="ann", clock=house.clock)
    lift_block(block.pk, actor="ann", reason="moved", clock=house.clock)
    assert blocked(house)


def test_a_kind_that_no_longer_only_warns_blocks_from_the_next_run_on(house):
    set_policy(house.account, {"warnings": ["cash"]}, actor="ann", reason="small desk", clock=house.clock)
    without_250_dollars(house)
    assert not blocked(house)
    set_policy(house.account, {"warnings": []}, actor="ann", reason="grown up", clock=house.clock)
    house.run(MONDAY)
    assert (Break.objects.get().severity, blocked(house)) == ("critical", True)


def a_clean(house, day):
    house.trade(day, qty=1)
    house.close(day)


def test_a_waiver_holds_over_the_close_of_the_next_session_until_its_end(house):
    without_250_dollars(house)
    until = waive(house).waived_until
    a_clean(house, TUESDAY)
    assert ReconciliationBlock.objects.filter(lifted_at=None).count() == 2
    newest = ReconciliationBlock.objects.get(session=TUESDAY)
    assert (newest.waived_until, newest.waived_by, newest.waiver_reason) == (until, "risk", "known wire")
    assert not blocked(house)
    house.clock.at = until
    assert blocked(house)


def test_a_waiver_is_not_carried_over_a_break_of_the_next_session(house):
    without_250_dollars(house)
    waive(house)
    house.tell(house.report(house.order(at=noon(TUESDAY)), 10, "150.00", noon(TUESDAY, 5)))
    a_clean(house, TUESDAY)
    assert blocked(house)


def test_one_waiver_lets_an_account_trade_however_many_sessions_its_break_has_stood(house):
    without_250_dollars(house)
    a_clean(house, TUESDAY)
    block = ReconciliationBlock.objects.get(session=TUESDAY)
    until = house.clock.now() + timedelta(days=1)
    waive_block(block.pk, until=until, actor="risk", reason="known wire", clock=house.clock)
    assert not blocked(house)
    waived = JournalEntry.objects.get(kind="block_waived")
    assert waived.data["blocks"] == sorted(ReconciliationBlock.objects.values_list("pk", flat=True))


def test_a_waiver_of_what_the_breaks_hold_lets_no_block_of_a_person_go(house):
    without_250_dollars(house)
    recon.disable_next_day(house.account, TUESDAY, "the desk moves", actor="ann", clock=house.clock)
    block = ReconciliationBlock.objects.get(session=MONDAY)
    until = house.clock.now() + timedelta(days=1)
    waive_block(block.pk, until=until, actor="risk", reason="known wire", clock=house.clock)
    assert [each.reason for each in open_blocks(house.account, house.clock.now())] == ["the desk moves"]
