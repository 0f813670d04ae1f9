"""Breaks and blocks at the admin's pages: side by side, by two people, and only by those who may."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import NotAllowedError
from backend.tradingbot.models import BookEntry, Break, BreakEvent, JournalEntry, Match, ReconciliationBlock
from backend.tradingbot.selectors.blocks import open_blocks
from backend.tradingbot.services import break_workflow as work
from tests.integration.desk_admin import listed, page, person, risk, text_of, trader, viewer
from tests.integration.recon_house import MONDAY, TUESDAY, D, House, noon

pytestmark = pytest.mark.django_db(transaction=True)
ACTS = ("assign_break", "explain_break", "force_match", "write_off", "note_break")


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def wire(house) -> Break:
    """The broker moved 250 dollars out, and nothing tells why."""
    house.trade(MONDAY)
    house.their_cash -= 250
    house.close(MONDAY)
    return Break.objects.get()


def blocked(house) -> bool:
    return bool(open_blocks(house.account, house.clock.now()))


def test_two_people_resolve_a_break_and_the_block_goes(house, wire):
    ann, ben = risk("ann"), risk("ben")
    shown = text_of(ann.get(page(wire)))
    for figure in (
        "Side by side",
        "cash USD",
        "84750",
        "85000",
        "-250",
        "opens no new risk",
        "correction: -250 dollars",
    ):
        assert figure in shown, figure
    assert ann.post(page(wire, "assign_break"), {"owner": "ann", "reason": "mine"}).status_code == 302
    assert ann.post(page(wire, "note_break"), {"text": "<b>called</b> the broker"}).status_code == 302
    answer = ann.post(page(wire, "write_off"), {"reason": "a wire fee"}, follow=True)
    assert "waits for a second person" in text_of(answer)
    assert "You resolved it" in text_of(answer)
    own = ann.post(page(wire, "close_break"), {"reason": "me too"})
    assert (own.status_code, "cannot close it" in text_of(own)) == (422, True)
    assert blocked(house)
    with pytest.raises(NotAllowedError):
        work.close(wire.pk, actor="key:Ann", reason="by another door", clock=house.clock)
    asked = text_of(ben.get(page(wire, "close_break")))
    assert "admin:ann: a wire fee" in asked
    assert "correction: -250 dollars" in asked
    assert ben.post(page(wire, "close_break"), {"reason": "seen"}).status_code == 302
    wire.refresh_from_db()
    assert (wire.status, wire.resolved_by, wire.closed_by) == ("closed", "admin:ann", "admin:ben")
    assert (BookEntry.objects.get().amount, blocked(house)) == (D(-250), False)
    closed = text_of(ben.get(page(wire)))
    assert "&lt;b&gt;called&lt;/b&gt;" in closed
    assert "approved by admin:ben" in closed
    assert JournalEntry.objects.filter(kind="break_closed", actor="admin:ben").exists()


@pytest.mark.parametrize("act", ACTS)
def test_a_viewer_sees_every_break_and_works_on_none(wire, act):
    vera = viewer()
    assert vera.get(page(wire)).status_code == 200
    assert act.split("_")[0] not in text_of(vera.get(page(wire))).split("Side by side")[0].lower()
    entered = {"reason": "x", "owner": "x", "text": "x"}
    assert vera.get(page(wire, act)).status_code == 403
    assert vera.post(page(wire, act), entered).status_code == 403
    assert vera.post(listed("break", "assign_many"), {"ids": str(wire.pk), **entered}).status_code == 403
    assert BreakEvent.objects.count() == 1


def test_a_trader_sees_no_break_at_all(wire):
    tom = trader()
    for url in (page(wire), page(wire, "write_off"), listed("break"), listed("break", "assign_many")):
        assert tom.get(url).status_code == 403, url


def test_who_may_only_work_closes_nothing_and_who_may_only_close_resolves_nothing(wire):
    worker, closer = person("wim", "work_break"), person("cleo", "close_break")
    assert closer.post(page(wire, "explain_break"), {"reason": "r"}).status_code == 403
    assert worker.post(page(wire, "explain_break"), {"reason": "r"}).status_code == 302
    assert worker.post(page(wire, "close_break"), {"reason": "r"}).status_code == 403
    assert closer.post(page(wire, "send_back"), {"reason": "ask first"}).status_code == 302
    wire.refresh_from_db()
    assert (wire.status, wire.resolved_by) == ("assigned", "")


def test_only_the_steps_of_its_state_are_offered_and_an_other_is_refused(wire):
    ann = risk("ann")
    top = text_of(ann.get(page(wire)))
    assert page(wire, "write_off") in top
    assert page(wire, "close_break") not in top
    refused = ann.post(page(wire, "close_break"), {"reason": "r"})
    assert (refused.status_code, "a break that is open cannot close" in text_of(refused)) == (422, True)
    silent = ann.post(page(wire, "write_off"), {"reason": " "})
    assert (silent.status_code, Break.objects.get().status) == (422, "open")


def test_a_forced_match_is_made_with_the_break_of_the_other_side(house):
    order = house.order(at=noon(MONDAY))
    house.book(house.report(order, 100, "150.00", noon(MONDAY, 1), execution_id="here"))
    house.tell(house.report(order, 100, "150.00", noon(MONDAY, 1), execution_id="there", broker_order_id="typo"))
    house.tell_order(order)
    house.close(MONDAY)
    ours, theirs = Break.objects.get(kind="missing_at_broker"), Break.objects.get(kind="missing_internal")
    ann, ben = risk("ann"), risk("ben")
    asked = text_of(ann.get(page(ours, "force_match")))
    assert f'value="{theirs.pk}"' in asked
    assert "looks like missing_internal there" in asked
    stranger = ann.post(page(ours, "force_match"), {"reason": "r", "partner": ours.pk})
    assert stranger.status_code == 422
    assert ann.post(page(ours, "force_match"), {"reason": "typo", "partner": theirs.pk}).status_code == 302
    for each in (ours, theirs):
        assert ben.post(page(each, "close_break"), {"reason": "seen"}).status_code == 302
    assert Match.objects.get(match_pass="forced").made_by == "admin:ann"
    assert not blocked(house)


def test_many_breaks_are_assigned_at_once_from_the_list(house):
    for minute in (1, 2, 3):
        house.tell(house.report(house.order(at=noon(MONDAY)), 10, "150.00", noon(MONDAY, minute)))
    house.close(MONDAY)
    ids = [str(number) for number in Break.objects.values_list("pk", flat=True)]
    ann = risk("ann")
    asked = ann.post(listed("break"), {"action": "assign_selected", "_selected_action": ids})
    assert (asked.status_code, "Assign 3 breaks" in text_of(asked)) == (200, True)
    entered = {"ids": ",".join([*ids, "987654321"]), "owner": "ben", "reason": "all his"}
    done = ann.post(listed("break", "assign_many"), entered, follow=True)
    assert "3 of 4 breaks are ben" in text_of(done)
    assert "there is no break 987654321" in text_of(done)
    assert set(Break.objects.values_list("owner", "status")) == {("ben", "assigned")}
    assert ann.post(listed("break", "assign_many"), {"ids": ids[0], "owner": "", "reason": "r"}).status_code == 422


def shown_ids(client, **query) -> set[int]:
    answer = client.get(listed("break"), query)
    assert answer.status_code == 200
    return {row.pk for row in answer.context["cl"].result_list}


def test_the_list_shows_what_stands_and_narrows_by_age_owner_and_state(house, wire, monkeypatch):
    house.their_cash -= 5
    house.tell(house.report(house.order("MSFT", at=noon(TUESDAY)), 1, "10", noon(TUESDAY)))
    house.close(TUESDAY)
    fresh = Break.objects.exclude(pk=wire.pk).get()
    monkeypatch.setattr(type(SYSTEM_CLOCK), "now", lambda self: noon(TUESDAY))
    vera = viewer()
    assert shown_ids(vera) == {wire.pk, fresh.pk}
    assert shown_ids(vera, age="new") == {fresh.pk}
    assert shown_ids(vera, age="1 day") == {wire.pk}
    assert shown_ids(vera, age="over 5 days") == set()
    monkeypatch.setattr(type(SYSTEM_CLOCK), "now", lambda self: noon(TUESDAY + timedelta(days=9)))
    assert shown_ids(vera, age="over 5 days") == {wire.pk, fresh.pk}
    ann = risk("ann")
    ann.post(page(fresh, "assign_break"), {"owner": "ben", "reason": "r"})
    ann.post(page(wire, "explain_break"), {"reason": "r"})
    assert shown_ids(vera, owner="ben") == {fresh.pk}
    assert shown_ids(vera, standing="second") == {wire.pk}
    assert shown_ids(vera, standing="work") == {fresh.pk}
    risk("ben").post(page(wire, "close_break"), {"reason": "r"})
    assert shown_ids(vera) == {fresh.pk}
    assert shown_ids(vera, standing="closed") == {wire.pk}
    assert shown_ids(vera, standing="all") == {wire.pk, fresh.pk}


# -- blocks


def test_a_block_is_waived_until_a_time_and_by_those_who_may(house, wire, monkeypatch):
    block = ReconciliationBlock.objects.get()
    now = house.clock.now()
    monkeypatch.setattr(type(SYSTEM_CLOCK), "now", lambda self: now)
    entered = {"until": f"{now + timedelta(hours=20):%Y-%m-%d %H:%M}", "reason": "the wire is known"}
    assert viewer().post(page(block, "waive"), entered).status_code == 403
    assert trader().get(listed("reconciliationblock")).status_code == 403
    ann = risk("ann")
    far = ann.post(page(block, "waive"), {**entered, "until": f"{now + timedelta(days=30):%Y-%m-%d %H:%M}"})
    assert (far.status_code, "at most 7 days ahead" in text_of(far)) == (422, True)
    assert ann.post(page(block, "waive"), {**entered, "reason": ""}).status_code == 422
    assert blocked(house)
    assert ann.post(page(block, "waive"), entered).status_code == 302
    assert not blocked(house)
    shown = text_of(ann.get(page(block)))
    assert shown.count("Of the breaks") == shown.count("cash cash USD") == 1 and "Waived breaks" not in shown
    house.clock.at = now + timedelta(hours=21)
    assert blocked(house)
    held = ann.post(page(block, "lift"), {"reason": "r"})
    assert (held.status_code, "its breaks are open" in text_of(held)) == (422, True)


def test_a_person_disables_a_next_day_and_another_lifts_it(house):
    house.trade(MONDAY)
    house.close(MONDAY)
    ann = risk("ann")
    entered = {"account": house.account.pk, "session": str(MONDAY), "reason": "the desk moves"}
    assert viewer().post(listed("reconciliationblock", "place_block"), entered).status_code == 403
    assert ann.post(listed("reconciliationblock", "place_block"), {**entered, "session": "x"}).status_code == 422
    assert ann.post(listed("reconciliationblock", "place_block"), entered).status_code == 302
    block = ReconciliationBlock.objects.get()
    assert (block.placed_by, blocked(house)) == ("admin:ann", True)
    assert risk("ben").post(page(block, "lift"), {"reason": "moved"}).status_code == 302
    assert not blocked(house)
    assert page(block, "lift") not in text_of(ann.get(page(block)))
