"""An earlier session run again, after messages that came late: nothing is opened, changed or cleared a second time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from backend.tradingbot.models import Break, BreakEvent
from backend.tradingbot.services import break_workflow as work
from tests.integration.recon_house import MONDAY, TUESDAY, WEDNESDAY, D, House, noon

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


def events(house):
    rows = BreakEvent.objects.filter(found_break__opened_by="reconciliation", found_break__account=house.account)
    return list(rows.order_by("id").values_list("kind", "found_break__kind", "found_break__subject"))


def again(house, day):
    """The run of ``day`` once more, and of all days after it; returns what events it wrote."""
    before = events(house)
    assert house.run(day).state == "completed"
    return events(house)[len(before) :]


def test_a_lost_fill_that_was_booked_late_is_not_found_again(house):
    house.trade(MONDAY)
    order = house.order(at=noon(MONDAY, 1))
    lost = house.report(order, 100, "150.00", noon(MONDAY, 2))
    house.tell(lost)
    house.tell_order(order)
    house.close(MONDAY)
    house.book(lost)
    house.close(TUESDAY)
    house.close(WEDNESDAY)
    name = ("missing_internal", lost.execution_id)
    assert events(house) == [("opened", *name), ("cleared", *name)]
    for day in (TUESDAY, MONDAY, TUESDAY, MONDAY):
        assert again(house, day) == []
    found = Break.objects.get()
    assert (found.status, found.cleared_session) == ("closed", MONDAY)  # both sides are in that session now


def test_a_bust_that_was_booked_late_is_not_found_again_nor_is_its_order(house):
    fill = house.trade(MONDAY)
    back = replace(
        fill, execution_id="main-back", activity_id="x::99", corrects=fill.execution_id, kind="bust",
        occurred_at=noon(MONDAY, 9),
    )  # fmt: skip
    house.tell(back, type="trade_bust", previous_execution_id=fill.execution_id)
    house.move(fill.symbol, -2 * fill.qty, 2 * fill.qty * fill.price)
    house.close(MONDAY)
    house.book(back)
    house.close(TUESDAY)
    name = ("bust_or_correction", fill.execution_id)
    assert events(house) == [("opened", *name), ("cleared", *name)]
    assert again(house, MONDAY) == []
    assert again(house, TUESDAY) == []


def with_equity(house, day, more):
    body = json.loads(house.statement(day))
    body["account"]["equity"] = str(D(body["account"]["equity"]) + more)
    return json.dumps(body).encode()


def test_an_unexplained_change_of_equity_is_one_break_a_day(house):
    house.trade(MONDAY)
    house.close(MONDAY)
    house.close(TUESDAY, with_equity(house, TUESDAY, 40))
    house.close(WEDNESDAY)
    first, second = (("cash", f"pnl unexplained {day}") for day in (TUESDAY, WEDNESDAY))
    assert sorted(events(house)) == sorted([("opened", *first), ("opened", *second), ("cleared", *first)])
    shown = {row.subject: row.difference for row in Break.objects.all()}
    assert shown == {first[1]: {"equity": "40"}, second[1]: {"equity": "-40"}}
    assert again(house, TUESDAY) == []
    assert again(house, MONDAY) == []


def test_a_booked_difference_that_comes_once_more_with_the_same_figures_is_another_break(house):
    for day in (MONDAY, TUESDAY):
        house.their_cash += D("725.50")
        house.close(day)
        found = Break.objects.exclude(status="closed").get()
        assert (found.subject, found.difference, found.session) == ("cash USD", {"cash": "725.5"}, day)
        work.resolve(found.pk, resolution="written_off", actor="maker", reason="seen", clock=house.clock)
        work.close(found.pk, actor="checker", reason="seen", clock=house.clock)
    assert (Break.objects.count(), house.row().cash) == (2, D("101451.00"))
    assert again(house, MONDAY) == []
