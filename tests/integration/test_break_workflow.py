"""Two people and a break: who resolves does not close, what is written off is booked once, and the block goes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backend.tradingbot.core.errors import ConflictError, InvalidInputError, NotAllowedError, NotFoundError
from backend.tradingbot.models import (
    BookEntry,
    Break,
    BreakEvent,
    JournalEntry,
    Match,
    Order,
    Position,
    ReconciliationBlock,
)
from backend.tradingbot.selectors.blocks import open_blocks
from backend.tradingbot.services import break_workflow as work
from backend.tradingbot.services import journal, recon
from backend.tradingbot.services.recon_blocks import lift_block, waive_block
from tests.integration.recon_house import MONDAY, TUESDAY, WEDNESDAY, D, House, noon

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


def blocked(house):
    return bool(open_blocks(house.account, house.clock.now()))


def only() -> Break:
    return Break.objects.exclude(status="closed").get()


def resolve(house, resolution="written_off", actor="maker", **options):
    return work.resolve(only().pk, resolution=resolution, actor=actor, reason="seen", clock=house.clock, **options)


def close(house, found, actor="checker"):
    return work.close(found.pk, actor=actor, reason="agreed", clock=house.clock)


def with_transfer(house):
    """The broker moved 250 dollars out, and nothing tells why."""
    house.trade(MONDAY)
    house.their_cash -= 250
    house.close(MONDAY)
    assert (only().kind, only().subject, blocked(house)) == ("cash", "cash USD", True)


def test_a_break_goes_from_open_over_assigned_and_written_off_to_closed_with_two_names(house):
    with_transfer(house)
    work.assign(only().pk, owner="ben", actor="ann", reason="ben knows the desk", clock=house.clock)
    work.note(only().pk, text="called the broker", actor="ben", clock=house.clock)
    found = resolve(house, actor="ben")
    assert (found.status, found.resolved_by, blocked(house)) == ("written_off", "ben", True)
    with pytest.raises(NotAllowedError, match="Ben has resolved it") as caught:
        close(house, found, actor="Ben")
    assert caught.value.code == "maker_is_checker"
    closed = close(house, found, actor="ann")
    assert (closed.status, closed.closed_by, blocked(house)) == ("closed", "ann", False)
    entry = BookEntry.objects.get()
    assert (entry.kind, entry.amount, entry.made_by, entry.approved_by) == ("correction", D(-250), "ben", "ann")
    assert house.row().cash == D(84_750)
    assert [event.kind for event in BreakEvent.objects.all()] == [
        "opened",
        "assigned",
        "noted",
        "written_off",
        "closed",
    ]
    kinds = JournalEntry.objects.filter(chain="account:main").values_list("kind", flat=True)
    assert {"break_assigned", "break_noted", "break_written_off", "break_closed", "session_unblocked"} <= set(kinds)
    assert journal.verify("account:main").intact


def test_what_was_written_off_is_not_found_again_and_the_proofs_show_the_correction(house):
    with_transfer(house)
    close(house, resolve(house))
    run = house.run(MONDAY)
    assert (run.state, Break.objects.exclude(status="closed").count()) == ("completed", 0)
    house.trade(TUESDAY, qty=1)
    run = house.close(TUESDAY)
    assert Break.objects.count() == 1
    cash = run.proofs["ours"][-1]
    assert (cash["closing"], cash["unexplained"]) == ("84600", "0")
    assert run.proofs["equity"]["unexplained"] == run.proofs["unexplained"] == "0"


def test_an_external_trade_that_is_written_off_moves_position_cost_and_cash(house):
    house.trade(MONDAY)
    theirs = Order(symbol="AAPL", side="buy", broker_order_id="elsewhere")
    other = house.report(theirs, 50, "156.00", noon(MONDAY, 3))
    house.tell(other)
    house.close(MONDAY, house.statement(MONDAY).replace(b'"avg_entry_price": "150.00"', b'"avg_entry_price": "152.00"'))
    assert (only().kind, only().subject) == ("missing_internal", other.execution_id)
    close(house, resolve(house))
    position = Position.objects.get()
    assert (position.qty, position.avg_price, house.row().cash) == (D(150), D(152), D(77_200))
    run = house.run(MONDAY)
    assert Break.objects.exclude(status="closed").count() == 0
    assert run.proofs["ours"][0]["lines"]["corrections"] == "50"


def test_a_written_off_split_keeps_the_cost_of_the_whole(house):
    house.trade(MONDAY)
    house.held["AAPL"] = D(200)
    content = house.statement(MONDAY).replace(b'"avg_entry_price": "150.00"', b'"avg_entry_price": "75.00"')
    content = content.replace(b'"current_price": "151.00"', b'"current_price": "75.50"').replace(
        b'"115200.00"', b'"100100.00"'
    )
    house.close(MONDAY, content)
    assert only().kind == "corporate_action"
    close(house, resolve(house))
    position = Position.objects.get()
    assert (position.qty, position.avg_price, house.row().cash) == (D(200), D(75), D(85_000))


def test_an_explained_break_is_booked_nowhere_and_stays_closed_while_its_evidence_is_the_same(house):
    with_transfer(house)
    close(house, resolve(house, "explained"))
    assert (BookEntry.objects.count(), blocked(house)) == (0, False)
    house.trade(TUESDAY, qty=1)
    house.close(TUESDAY)
    assert Break.objects.exclude(status="closed").count() == 0
    house.their_cash -= 1
    house.trade(WEDNESDAY, qty=1)
    house.close(WEDNESDAY)
    assert (only().difference, only().status, blocked(house)) == ({"cash": "-251"}, "open", True)
    assert Break.objects.count() == 1


def test_a_resolution_of_other_figures_does_not_stand(house):
    with_transfer(house)
    resolve(house, "explained")
    house.their_cash -= 5
    house.trade(TUESDAY, qty=1)
    house.close(TUESDAY)
    found = only()
    assert (found.status, found.resolved_by, found.difference) == ("assigned", "", {"cash": "-255"})


def test_a_second_person_can_send_a_resolution_back(house):
    with_transfer(house)
    found = resolve(house)
    back = work.send_back(found.pk, actor="checker", reason="ask the bank first", clock=house.clock)
    assert (back.status, back.resolved_by, blocked(house)) == ("assigned", "", True)
    with pytest.raises(ConflictError, match="cannot close"):
        close(house, back)


def test_two_sides_of_one_execution_are_matched_by_force(house):
    order = house.order(at=noon(MONDAY))
    house.book(house.report(order, 100, "150.00", noon(MONDAY, 1), execution_id="here"))
    house.tell(house.report(order, 100, "150.00", noon(MONDAY, 1), execution_id="there", broker_order_id="typo"))
    house.tell_order(order)
    house.close(MONDAY)
    breaks = {row.kind: row for row in Break.objects.all()}
    assert set(breaks) == {"missing_at_broker", "missing_internal"}
    ours, theirs = breaks["missing_at_broker"], breaks["missing_internal"]
    assert ours.suggested_explanation.startswith("looks like missing_internal there")
    work.resolve(
        ours.pk, resolution="force_matched", with_break=theirs.pk, actor="maker", reason="typo", clock=house.clock
    )
    for each in (ours, theirs):
        close(house, each)
    match = Match.objects.get(match_pass="forced")
    assert (match.ours, match.theirs, match.made_by) == (["here"], ["there"], "maker")
    assert (Position.objects.get().qty, house.row().cash, blocked(house)) == (D(100), D(85_000), False)
    house.run(MONDAY)
    house.trade(TUESDAY, qty=1)
    house.close(TUESDAY)
    assert Break.objects.exclude(status="closed").count() == 0


def test_a_forced_match_pairs_one_break_of_each_side_only(house):
    with_transfer(house)
    found = only()
    for other, error in ((found.pk, ConflictError), (10**9, NotFoundError), ("x", InvalidInputError)):
        with pytest.raises(error):
            resolve(house, "force_matched", with_break=other)
    assert only().status == "open"


@pytest.mark.parametrize("bad", ["", "closed", None, 5])
def test_a_resolution_that_is_none_is_refused(house, bad):
    with_transfer(house)
    with pytest.raises(InvalidInputError, match="resolution"):
        resolve(house, bad)


def test_a_step_that_the_table_has_not_is_refused_and_changes_nothing(house):
    with_transfer(house)
    found = only()
    with pytest.raises(ConflictError, match="a break that is open cannot close"):
        close(house, found)
    close(house, resolve(house))
    with pytest.raises(ConflictError, match="a break that is closed cannot assign"):
        work.assign(found.pk, owner="x", actor="ann", reason="r", clock=house.clock)


def test_a_reopened_break_blocks_again_and_is_not_booked_twice(house):
    with_transfer(house)
    found = close(house, resolve(house))
    again = work.reopen(found.pk, actor="ann", reason="the bank disagrees", clock=house.clock)
    assert (again.status, blocked(house)) == ("open", True)
    close(house, resolve(house))
    assert (BookEntry.objects.count(), house.row().cash, blocked(house)) == (1, D(84_750), False)


def test_many_breaks_are_assigned_at_once_and_what_cannot_be_is_said(house):
    for minute in (1, 2, 3):
        house.tell(house.report(house.order(at=noon(MONDAY)), 10, "150.00", noon(MONDAY, minute)))
    house.close(MONDAY)
    ids = list(Break.objects.values_list("pk", flat=True))
    done, refused = work.assign_many([*ids, 10**9], owner="ben", actor="ann", reason="all his", clock=house.clock)
    assert (done, refused) == (3, [f"break {10**9}: there is no break {10**9}"])
    assert set(Break.objects.values_list("owner", "status")) == {("ben", "assigned")}


def test_a_waiver_lets_trade_until_its_end_and_no_longer(house):
    with_transfer(house)
    block = ReconciliationBlock.objects.get()
    until = house.clock.now() + timedelta(hours=20)
    waive_block(block.pk, until=until, actor="risk", reason="known wire", clock=house.clock)
    assert not blocked(house)
    house.clock.at = until
    assert blocked(house)
    with pytest.raises(InvalidInputError, match="until"):
        waive_block(block.pk, until=until - timedelta(hours=1), actor="risk", reason="r", clock=house.clock)
    with pytest.raises(InvalidInputError, match="until"):
        waive_block(block.pk, until=until + timedelta(days=8), actor="risk", reason="r", clock=house.clock)
    with pytest.raises(ConflictError, match="its breaks are open"):
        lift_block(block.pk, actor="risk", reason="r", clock=house.clock)


def test_a_block_that_a_person_places_is_lifted_by_a_person_alone(house):
    house.trade(MONDAY)
    house.close(MONDAY)
    block = recon.disable_next_day(house.account, MONDAY, "the desk moves", actor="risk", clock=house.clock)
    assert blocked(house)
    assert (
        recon.disable_next_day(house.account, MONDAY, "the desk moves", actor="risk", clock=house.clock).pk == block.pk
    )
    house.run(MONDAY)
    assert blocked(house)
    lift_block(block.pk, actor="risk", reason="moved", clock=house.clock)
    assert not blocked(house)
    with pytest.raises(ConflictError, match="was lifted"):
        lift_block(block.pk, actor="risk", reason="again", clock=house.clock)


def test_kinds_that_the_severity_table_demotes_do_not_block(house):
    from backend.tradingbot.services.recon_policies import set_policy

    set_policy(house.account, {"warnings": ["cash"]}, actor="ann", reason="small desk", clock=house.clock)
    house.trade(MONDAY)
    house.their_cash -= 250
    house.close(MONDAY)
    assert (only().severity, blocked(house)) == ("warning", False)
