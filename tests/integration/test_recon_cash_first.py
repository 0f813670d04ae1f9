"""Money that the poll of the broker's cash books first and reconciliation judges, and the other way round."""

from __future__ import annotations

import pytest

from backend.tradingbot.models import BookEntry, Break, CashFlow
from backend.tradingbot.selectors.blocks import open_blocks
from backend.tradingbot.services import break_workflow as work
from backend.tradingbot.services.cash_flows import record_cash_flow
from backend.tradingbot.services.recon_policies import set_policy
from tests.integration.recon_house import MONDAY, TUESDAY, D, House, standing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


def blocks(house):
    return [block.reason for block in open_blocks(house.account, house.clock.now())]


def charge(house, name, day, amount):
    fee = {"activity_type": "FEE", "id": name, "date": str(day), "net_amount": f"-{amount}.00"}
    house.others.append({**fee, "description": f"fees on {day}"})
    house.their_cash -= amount


def poll(house, name, amount, kind="FEE", actor="broker"):
    return record_cash_flow(
        house.account, activity_id=name, kind=kind, amount=D(amount), occurred_at=house.clock.now(), reason="told",
        actor=actor, clock=house.clock,
    )  # fmt: skip


def flat_fee(house):
    set_policy(house.account, {"fees": {"name": "flat", "order": "1.00"}}, actor="ann", reason="r", clock=house.clock)


def test_a_wrong_fee_that_the_poll_booked_first_is_compared_with_the_schedule_and_stands_until_two_people_close_it(
    house,
):
    flat_fee(house)
    house.trade(MONDAY)
    charge(house, "f1", MONDAY, 9)
    assert poll(house, "f1", -9)
    run = house.close(MONDAY)
    assert (standing(), Break.objects.get().difference) == ([("fee", f"fees of {MONDAY}")], {"fee": "8"})
    assert run.proofs["ours"][-1]["lines"]["fees"] == "-9"
    assert bool(blocks(house)) and house.row().cash == house.their_cash
    house.close(TUESDAY)
    assert (standing(), bool(blocks(house))) == ([("fee", f"fees of {MONDAY}")], True)
    found = Break.objects.get()
    work.resolve(found.pk, resolution="written_off", actor="ann", reason="r", clock=house.clock)
    work.close(found.pk, actor="ben", reason="r", clock=house.clock)
    assert (BookEntry.objects.get().amount, house.row().cash, blocks(house)) == (0, house.their_cash, [])
    house.run(MONDAY)
    assert (standing(), house.row().cash) == ([], house.their_cash)


def test_a_right_fee_that_the_poll_booked_first_is_no_break_and_counts_once(house):
    flat_fee(house)
    house.trade(MONDAY)
    charge(house, "f1", MONDAY, 1)
    poll(house, "f1", -1)
    run = house.close(MONDAY)
    again = house.run(MONDAY)
    assert (standing(), house.row().cash, again.result_digest) == ([], house.their_cash, run.result_digest)
    assert BookEntry.objects.get().amount == 0


def test_a_charge_that_reconciliation_booked_is_not_booked_again_by_the_poll(house):
    flat_fee(house)
    house.trade(MONDAY)
    charge(house, "f1", MONDAY, 1)
    house.close(MONDAY)
    assert poll(house, "f1", -1) is False
    assert (house.row().cash, CashFlow.objects.count()) == (house.their_cash, 0)


def test_a_charge_that_the_poll_books_while_its_break_is_open_moves_the_cash_once(house):
    house.trade(MONDAY)
    charge(house, "f1", MONDAY, 9)
    house.close(MONDAY)
    poll(house, "f1", -9)
    found = Break.objects.get()
    work.resolve(found.pk, resolution="written_off", actor="ann", reason="r", clock=house.clock)
    work.close(found.pk, actor="ben", reason="r", clock=house.clock)
    assert house.row().cash == house.their_cash
    house.close(TUESDAY)
    assert standing() == []
