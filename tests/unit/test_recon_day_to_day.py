"""What one day leaves to the next, and what settles by itself: the cases that a generated market showed to go wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.ops.recon_books import ExpectedFees
from backend.tradingbot.ops.recon_engine import Day, reconcile_day
from backend.tradingbot.ops.recon_frames import Books, frame
from tests.unit.test_recon_engine import DAY, activity, books, bust, fee, held, keys, order, run, trade

D = Decimal
NEXT = date(2026, 1, 6)
EMPTY = {"positions": [held(100)], "cash": 85_000}


def following(ours, theirs, **day):
    return reconcile_day(ours, theirs, Day(NEXT, **day))


def test_a_line_that_is_missing_although_the_brokers_position_holds_it_is_one_break_that_moves_nothing():
    ours = books([trade(1), trade(2)])
    result = run(ours, books([trade(1)], positions=[held(200)], cash=70_000))
    assert keys(result) == [("missing_at_broker", "e2")]
    assert (result.breaks[0].effects, result.breaks[0].cash_effect) == ((), D(0))
    assert result.breaks[0].explanation.startswith("the broker's position holds it")


def test_a_bust_of_what_was_told_twice_settles_both_and_leaves_nothing():
    twin = trade(2, order_id="b1", occurred_at=trade(1)["occurred_at"])
    first = run(books([trade(1)]), books([trade(1), twin]))
    (doubled,) = first.breaks
    assert (str(doubled.kind), doubled.effects) == ("duplicate", (("AAPL", D(100)),))
    settled = following(books(**EMPTY), books([bust(3, "e2")], **EMPTY), standing=(doubled,))
    assert keys(settled) == []
    without_a_bust = following(books(**EMPTY), books(positions=[held(200)], cash=70_000), standing=(doubled,))
    assert keys(without_a_bust) == [("duplicate", "e2")]


def test_a_bust_of_an_unknown_execution_moves_what_the_brokers_position_says():
    told = books([bust(1, "e77")], positions=[held(-100)], cash=115_000)
    (found,) = run(books(cash=100_000), told).breaks
    assert (str(found.kind), found.effects, found.cash_effect) == ("bust_or_correction", (("AAPL", D(-100)),), D(15000))


def test_an_order_that_ended_there_and_now_here_too_is_no_break_although_it_is_not_listed_again():
    mine, other = order(status="accepted", filled_qty=D(0)), order(status="canceled", filled_qty=D(0))
    (found,) = run(books(orders=[mine]), books(orders=[other])).breaks
    assert str(found.kind) == "order_status"
    again = following(books(orders=[mine]), books(orders=[]), standing=(found,))
    assert [(each.key, each.digest) for each in again.breaks] == [(found.key, found.digest)]
    ended = order(status="canceled", filled_qty=D(0))
    assert keys(following(books(orders=[ended]), books(orders=[]), standing=(found,))) == []


def test_a_correction_of_the_next_day_keeps_the_day_of_what_it_corrects():
    later = trade(1)["occurred_at"] + timedelta(days=1)
    change = bust(9, "e1", "correction", occurred_at=later, trade_date=NEXT)
    result = following(
        books(**EMPTY), books([change], **EMPTY),
        carried_ours=frame("executions", [trade(1)]), carried_theirs=frame("executions", [trade(1, side="sell")]),
    )  # fmt: skip
    assert (keys(result), result.counts) == ([], {"execution_id": 1})


def test_a_bust_that_is_carried_keeps_its_kind_until_our_books_have_it_and_then_goes():
    first = run(books([trade(1)]), books([trade(1), bust(2, "e1")], positions=[], cash=100_000))
    (found,) = first.breaks
    assert (found.key, found.is_carried) == (("bust_or_correction", "e1"), True)
    flat = books(positions=[], cash=100_000)
    carried = {"carried_ours": frame("executions", [trade(1)]), "taken_back": frozenset({"e1"})}
    assert keys(following(books(**EMPTY), flat, **carried)) == [found.key]
    heard = books([bust(2, "e1")], positions=[], cash=100_000)
    assert keys(following(heard, flat, **carried)) == []


def charged(*fees, cash, **expected):
    return run(books(), books(cash=cash, activities=fees), fees=ExpectedFees(**expected))


def test_a_charge_of_what_was_known_before_is_right_and_what_came_late_stays_open():
    fees = ExpectedFees({DAY: D("3.00")}, {DAY: D("1.00")})
    for amount in ("-3.00", "-4.00"):
        result = run(books(), books(cash=100_000 + D(amount), activities=[fee("f1", amount)]), fees=fees)
        assert (keys(result), len(result.adopted)) == ([], 1)
    assert keys(charged(fee("f1", "-1.00"), cash="99999", open=fees.open, fresh=fees.fresh)) == [
        ("fee", "fees of 2026-01-05")
    ]
    assert fees.left({DAY: D("3.00")}, Day(DAY).tolerances) == {DAY: D("1.00")}
    assert fees.left({DAY: D("4.00")}, Day(DAY).tolerances) == {}
    assert fees.left({}, Day(DAY).tolerances) == {DAY: D("4.00")}


def test_a_charge_that_our_books_hold_counts_for_its_day_and_is_not_asked_about_again():
    late = {"open": {DAY: D("3.00")}, "due": frozenset({DAY})}
    booked = replace(books(cash=99_997), booked=frozenset({"f1"}))
    result = run(booked, books(cash=99_997, activities=[fee("f1", "-3.00")]), fees=ExpectedFees(**late))
    assert (keys(result), result.adopted) == ([], ())


def polled(cash, *names):
    return replace(books(cash=cash), polled=frozenset(names))


def test_a_charge_that_the_poll_took_up_first_is_judged_like_any_other_and_moves_no_cash_again():
    fees = ExpectedFees(fresh={DAY: D("1.00")})
    right = run(polled(99_999, "f1"), books(cash=99_999, activities=[fee("f1", "-1.00")]), fees=fees)
    assert (keys(right), [each.amount for each in right.adopted]) == ([], [0])
    there = books(cash=99_991, activities=[fee("f1", "-9.00")])
    (wrong,) = run(polled(99_991, "f1"), there, fees=fees).breaks
    assert (wrong.key, wrong.difference) == (("fee", "fees of 2026-01-05"), {"fee": "8"})
    assert (wrong.cash_effect, [each.amount for each in wrong.activities]) == (0, [0])
    (first,) = run(books(), there, fees=fees).breaks
    assert (first.cash_effect, first.digest) == (D("-9.00"), wrong.digest)
    (later,) = following(polled(99_991, "f1"), books(cash=99_991), standing=(first,)).breaks
    assert (later.key, later.cash_effect) == (wrong.key, 0)


@pytest.mark.parametrize("kind", ["flow", "dividend"])
def test_money_that_the_poll_took_up_and_nobody_announced_is_asked_about(kind):
    there = books(cash=99_500, activities=[activity("a1", kind, "-500", symbol="IBM")])
    (found,) = run(polled(99_500, "a1"), there).breaks
    assert (found.key, found.cash_effect) == (("cash", "activity a1"), 0)
    announced = replace(books(cash=99_500), booked=frozenset({"a1"}))
    assert keys(run(announced, there)) == []


def test_fees_that_were_not_charged_are_settled_by_a_late_charge():
    late = ExpectedFees({DAY: D("3.00")}, due=frozenset({DAY}))
    (found,) = run(books(), books(), fees=late).breaks
    assert found.key == ("fee", "fees of 2026-01-05")
    paid = books(cash="99997", activities=[fee("f1", "-3.00")])
    assert keys(following(books(), paid, fees=late, standing=(found,))) == []


def test_a_break_that_moves_nothing_does_not_hide_another_cost():
    moved = run(books([trade(1)]), books([trade(1, trade_date=NEXT)], positions=[held(100, price="151")]))
    assert keys(moved) == [("cost_basis", "cost AAPL"), ("trade_date", "e1")]


@pytest.mark.parametrize("kind", ["dividend", "fee", "flow"])
def test_an_activity_on_two_lines_counts_once_and_is_a_duplicate(kind):
    row = activity("a1", kind, "-5.00", covers=DAY if kind == "fee" else None)
    fees = ExpectedFees(fresh={DAY: D("5.00")})
    result = run(books(), books(cash="99995", activities=[row, dict(row)]), fees=fees)
    assert ("duplicate", "activity a1") in keys(result)
    assert len(result.adopted) + sum(str(each.kind) == "cash" for each in result.breaks) == 1


def test_books_without_orders_told_are_compared_without_them():
    told = Books(frame("executions"), positions=frame("positions"), cash=D(100_000))
    assert keys(run(books(orders=[order()]), told)) == []
