"""The reconciliation engine: every kind of difference under its name, once, and nothing that is not one."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.ops.recon_books import ExpectedFees
from backend.tradingbot.ops.recon_breaks import FoundBreak
from backend.tradingbot.ops.recon_engine import Day, reconcile_day
from backend.tradingbot.ops.recon_frames import Books, as_text, frame, from_text
from backend.tradingbot.ops.recon_kinds import BreakKind, SeverityTable, Tolerances

D = Decimal
DAY = date(2026, 1, 5)
NOON = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)


def trade(number=1, **changes):
    row = {
        "execution_id": f"e{number}", "order_id": f"b{number}", "client_order_id": f"c{number}", "symbol": "AAPL",
        "side": "buy", "qty": D(100), "price": D("150"), "occurred_at": NOON + timedelta(minutes=number),
        "trade_date": DAY,
    }  # fmt: skip
    return {**row, **changes}


def order(number=1, **changes):
    row = {"order_id": f"b{number}", "client_order_id": f"c{number}", "symbol": "AAPL", "side": "buy", "qty": D(100)}
    return {**row, "filled_qty": D(100), "status": "filled", **changes}


def held(qty, symbol="AAPL", price="150", **changes):
    return {"symbol": symbol, "qty": D(qty), "avg_price": D(price), "mark": D(price), **changes}


def books(trades=(), positions=None, cash=None, **sections):
    """A side whose positions and cash follow from its trades, unless said otherwise. It started with 100,000."""
    if positions is None:
        total = {}
        for row in trades:
            signed = row["qty"] if row["side"] == "buy" else -row["qty"]
            total[row["symbol"]] = total.get(row["symbol"], D(0)) + signed
        positions = [held(qty, symbol) for symbol, qty in total.items() if qty]
    if cash is None:
        cash = 100_000 - sum((r["qty"] if r["side"] == "buy" else -r["qty"]) * r["price"] for r in trades)
    for name in ("orders", "activities"):
        if name in sections:
            sections[name] = frame(name, sections[name])
    return Books(frame("executions", trades), positions=frame("positions", positions), cash=D(cash), **sections)


def run(ours, theirs, **day):
    return reconcile_day(ours, theirs, Day(DAY, **day))


def keys(result):
    return [(str(found.kind), found.subject) for found in result.breaks]


def test_equal_books_have_no_breaks_and_every_execution_is_matched_by_its_id():
    trades = [trade(n) for n in range(1, 6)]
    result = run(books(trades, orders=[order()]), books(trades, orders=[order()]))
    assert (result.complete, keys(result), result.counts) == (True, [], {"execution_id": 5})


def test_a_lost_fill_is_one_break_and_neither_a_position_nor_a_cash_nor_an_order_break():
    ours = books([trade(1)], orders=[order(1), order(2, status="accepted", filled_qty=D(0))])
    theirs = books([trade(1), trade(2)], orders=[order(1), order(2)])
    result = run(ours, theirs)
    assert keys(result) == [("missing_internal", "e2")]
    (found,) = result.breaks
    assert (found.effects, found.cash_effect, found.value) == ((("AAPL", D(100)),), D(-15000), D("15000.00"))
    assert found.theirs["price"] == "150"
    assert found.difference == {"qty AAPL": "100", "cash": "-15000"}


def test_a_fill_that_only_we_have_is_missing_at_the_broker():
    result = run(books([trade(1), trade(2)]), books([trade(1)]))
    assert keys(result) == [("missing_at_broker", "e2")]
    assert result.breaks[0].effects == (("AAPL", D(-100)),)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"side": "sell"}, "side"),
        ({"symbol": "MSFT"}, "symbol"),
        ({"qty": D(90)}, "qty"),
        ({"price": D("150.01")}, "price"),
        ({"trade_date": date(2026, 1, 6)}, "trade_date"),
        ({"multiplier": D(100)}, "qty"),
        ({"side": "sell", "price": D("150.01")}, "side"),
    ],
)
def test_the_same_execution_id_with_other_terms_is_named_by_its_gravest_difference(changes, kind):
    ours = books([trade(1), trade(2)])
    theirs = [trade(1), trade(2, **changes)]
    scaled = None if "multiplier" not in changes else 100_000 - 15_000 - 1_500_000
    result = run(ours, books(theirs, cash=scaled))
    assert keys(result) == [(kind, "e2")]


def test_without_execution_ids_terms_and_time_decide_and_twins_are_told_apart():
    ours = [trade(n, order_id="b1", execution_id=f"e{n}") for n in (1, 2, 3)]
    theirs = [{**row, "execution_id": None, "occurred_at": row["occurred_at"] + timedelta(seconds=1)} for row in ours]
    result = run(books(ours), books(theirs))
    assert (keys(result), result.counts) == ([], {"order_and_terms": 3})


def test_a_lost_twin_is_found_although_the_others_do_not_line_up_in_time():
    ours = [trade(n, order_id="b1") for n in (1, 3)]
    theirs = [trade(n, order_id="b1", execution_id=None) for n in (1, 2, 3)]
    (found,) = run(books(ours), books(theirs)).breaks
    assert (found.kind, found.effects) == ("missing_internal", (("AAPL", D(100)),))
    assert found.subject == "b1 buy 100 at 150 2026-01-05T17:02:00.000000"


def test_partials_are_added_up_when_the_quantity_is_exact_and_the_average_within_half_a_tick():
    ours = [
        trade(1, qty=D(60), order_id="b1", price=D("150.00")),
        trade(2, qty=D(40), order_id="b1", price=D("150.01")),
    ]
    whole = trade(9, qty=D(100), order_id="b1", price=D("150.005"), execution_id=None)
    result = run(books(ours, cash=85000), books([whole], cash=85000))
    assert (keys(result), result.counts) == ([], {"order_total": 2})
    apart = {**whole, "price": D("150.02")}
    result = run(books(ours), books([apart]))
    assert keys(result) == [("price", "order b1")]
    less = {**whole, "qty": D(99)}
    assert keys(run(books(ours), books([less]))) == [("qty", "order b1")]


def test_our_own_order_id_matches_where_the_brokers_is_missing():
    theirs = [trade(1, order_id=None, execution_id=None)]
    result = run(books([trade(1)]), books(theirs))
    assert (keys(result), result.counts) == ([], {"client_order_and_terms": 1})


def test_an_execution_booked_twice_here_is_a_duplicate():
    twice = [trade(1), trade(2, order_id="b1", occurred_at=trade(1)["occurred_at"])]
    (found,) = run(books(twice), books([trade(1)])).breaks
    assert (found.kind, found.subject, found.effects) == ("duplicate", "e2", (("AAPL", D(-100)),))


@pytest.mark.parametrize("counted", [True, False])
def test_an_execution_told_twice_by_the_broker_is_a_duplicate_whether_or_not_it_counted_twice(counted):
    one = [trade(1)]
    for second in (trade(1), trade(2, order_id="b1", occurred_at=trade(1)["occurred_at"])):
        qty, cash = (200, 70_000) if counted else (100, 85_000)
        result = run(books(one), books([*one, second], positions=[held(qty)], cash=cash))
        assert [str(found.kind) for found in result.breaks] == ["duplicate"]
        assert bool(result.breaks[0].effects) is counted


def bust(number, refers_to, kind="bust", **changes):
    return trade(number, kind=kind, refers_to=refers_to, **changes)


def test_a_bust_of_a_fill_of_today_or_of_an_earlier_day_is_named_as_one():
    theirs = [trade(1), trade(2), bust(3, "e2")]
    (found,) = run(books([trade(1), trade(2)]), books(theirs, positions=[held(100)], cash=85_000)).breaks
    assert (found.kind, found.subject, found.effects) == ("bust_or_correction", "e2", (("AAPL", D(-100)),))
    earlier = frame("executions", [trade(2)])
    ours = books([trade(1)], positions=[held(200)], cash=70_000)
    (again,) = run(ours, books([trade(1), bust(3, "e2")], positions=[held(100)], cash=85_000), earlier=earlier).breaks
    assert (again.kind, again.subject, again.cash_effect) == ("bust_or_correction", "e2", D(15000))


def test_a_correction_is_a_break_with_the_difference_and_a_correction_of_a_correction_counts_last():
    changes = [bust(3, "e1", "correction", price=D("151")), bust(4, "e3", "correction", price=D("152"))]
    theirs = books([trade(1), *changes], positions=[held(100)], cash=84_800)
    (found,) = run(books([trade(1)]), theirs).breaks
    assert (found.kind, found.subject, found.cash_effect) == ("bust_or_correction", "e1", D(-200))
    assert found.difference["price"] == "2"


def test_a_correction_that_agrees_with_our_books_is_no_break():
    theirs = books([trade(1, price=D("151")), bust(2, "e1", "correction")], positions=[held(100)], cash=85_000)
    assert keys(run(books([trade(1)]), theirs)) == []


@pytest.mark.parametrize(("here", "there"), [(0, 100), (100, 0), (0, 0), (100, 100)])
def test_an_order_may_count_on_one_side_what_both_sides_took_back(here, there):
    side = {"positions": [], "cash": 100_000}
    trades = [trade(1), bust(2, "e1")]
    ours, theirs = (books(trades, orders=[order(filled_qty=D(qty))], **side) for qty in (here, there))
    assert keys(run(ours, theirs)) == []


def test_what_was_taken_back_excuses_no_other_difference_of_the_order():
    side = {"positions": [], "cash": 100_000}
    trades = [trade(1), bust(2, "e1")]
    ours = books(trades, orders=[order(filled_qty=D(0))], **side)
    assert keys(run(ours, books(trades, orders=[order(filled_qty=D(90))], **side))) == [("order_status", "order c1")]
    canceled = order(filled_qty=D(100), status="canceled")
    (found,) = run(ours, books(trades, orders=[canceled], **side)).breaks
    assert found.difference == {"status": "filled here, canceled at the broker"}
    both = [trade(1), trade(2, order_id="b1")]
    mine, other = ([*both, bust(3, name)] for name in ("e1", "e2"))
    assert run(books(mine, orders=[order(filled_qty=D(100))]), books(other, orders=[order(filled_qty=D(200))])).breaks


def test_a_bust_of_an_unknown_execution_is_a_break():
    (found,) = run(books([]), books([bust(1, "e77")], positions=[], cash=100_000)).breaks
    assert (found.kind, found.subject, found.effects) == ("bust_or_correction", "e1", ())


@pytest.mark.parametrize(
    ("mine", "other", "kind"),
    [
        ({"status": "accepted", "filled_qty": D(0)}, {"status": "canceled", "filled_qty": D(0)}, "order_status"),
        ({"status": "filled"}, {"status": "partially_filled", "filled_qty": D(60)}, "order_status"),
        ({"status": "accepted", "filled_qty": D(0)}, None, "missing_at_broker"),
        (None, {"status": "new", "filled_qty": D(0)}, "missing_internal"),
        ({"status": "never_arrived", "filled_qty": D(0)}, {"status": "filled"}, "order_status"),
    ],
)
def test_orders_are_compared_where_no_execution_tells_the_difference(mine, other, kind):
    ours = books(orders=[] if mine is None else [order(**mine)])
    theirs = books(orders=[] if other is None else [order(**other)])
    assert keys(run(ours, theirs)) == [(kind, "order c1")]


@pytest.mark.parametrize("status", ["never_arrived", "denied", "rejected"])
def test_an_order_that_never_was_there_need_not_be_there(status):
    ours = books(orders=[order(status=status, filled_qty=D(0), order_id=None)])
    assert keys(run(ours, books(orders=[]))) == []


def test_statuses_that_mean_the_same_are_no_difference():
    ours = books(
        orders=[order(1, status="pending_cancel", filled_qty=D(5)), order(2, status="canceled", order_id=None)]
    )
    theirs = books(orders=[order(1, status="accepted", filled_qty=D(5)), order(2, status="replaced")])
    assert keys(run(ours, theirs)) == []


def test_a_position_or_cash_that_nothing_explains_is_a_break_of_the_rest_alone():
    ours = books([trade(1)])
    theirs = books([trade(1), trade(2)], positions=[held(230)], cash=70_500)
    result = run(ours, theirs)
    assert keys(result) == [("cash", "cash USD"), ("missing_internal", "e2"), ("position_qty", "position AAPL")]
    assert result.breaks[0].difference == {"cash": "500"}
    assert result.breaks[0].explanation.startswith("-15000 of the difference is explained")
    assert result.breaks[2].difference == {"qty": "30"}
    assert result.breaks[2].value == D("4500.00")


def test_a_cent_of_rounding_is_no_cash_break_and_two_are():
    assert keys(run(books(cash="100.004"), books(cash="100.01"))) == []
    assert keys(run(books(cash="100.00"), books(cash="100.02"))) == [("cash", "cash USD")]


def test_a_split_is_a_corporate_action_and_a_doubling_at_the_same_cost_a_share_is_not():
    ours = books(positions=[held(100, price="150")])
    assert keys(run(ours, books(positions=[held(200, price="75")]))) == [("corporate_action", "position AAPL")]
    assert keys(run(ours, books(positions=[held(50, price="300")]))) == [("corporate_action", "position AAPL")]
    assert keys(run(ours, books(positions=[held(200, price="150")]))) == [("position_qty", "position AAPL")]
    assert keys(run(ours, books(positions=[held(-200, price="75")]))) == [("position_qty", "position AAPL")]


@pytest.mark.parametrize(
    ("symbol", "kind"), [("AAPL260105C00150000", "option_event"), ("AAPL260106C00150000", "position_qty")]
)
def test_an_option_that_is_gone_on_its_expiry_is_an_option_event(symbol, kind):
    ours = books(positions=[held(10, symbol, "2.5", multiplier=D(100))])
    (found,) = run(ours, books(positions=[])).breaks
    assert (found.kind, found.value) == (kind, D("2500.00"))


def test_another_cost_at_the_same_quantity_is_a_cost_break_beyond_half_a_tick():
    ours = books(positions=[held(100, price="150.000")])
    assert keys(run(ours, books(positions=[held(100, price="150.005")]))) == []
    (found,) = run(ours, books(positions=[held(100, price="150.02")])).breaks
    assert (found.kind, found.subject, found.value) == ("cost_basis", "cost AAPL", D("2.00"))


def activity(name, kind, amount, **changes):
    return {"activity_id": name, "kind": kind, "amount": D(amount), "date": DAY, **changes}


def test_dividends_of_what_is_held_and_interest_are_adopted_and_money_that_comes_unannounced_is_a_break():
    ours = books([trade(1)])
    told = [
        activity("d", "dividend", 24, symbol="AAPL"),
        activity("i", "interest", "1.50"),
        activity("x", "dividend", 3, symbol="IBM"),
        activity("w", "flow", -5000, description="wire out"),
    ]
    result = run(ours, books([trade(1)], cash=85_000 + 24 + D("1.5") + 3 - 5000, activities=told))
    assert [(each.activity_id, each.amount) for each in result.adopted] == [("d", D(24)), ("i", D("1.50"))]
    assert keys(result) == [("cash", "activity w"), ("cash", "activity x")]
    assert result.breaks[0].value == D("5000.00")


def test_an_activity_that_our_books_hold_is_not_asked_about_again():
    ours = books(cash=95_000, booked=frozenset({"w"}))
    assert keys(run(ours, books(cash=95_000, activities=[activity("w", "flow", -5000)]))) == []


def test_shares_of_a_corporate_action_are_explained_by_its_activity():
    ours = books(positions=[held(100, price="150")])
    told = [activity("s", "corporate_action", 0, symbol="AAPL", qty=D(100), description="2 for 1")]
    (found,) = run(ours, books(positions=[held(200, price="75")], activities=told)).breaks
    assert (found.kind, found.subject, found.effects) == ("corporate_action", "activity s", (("AAPL", D(100)),))


def fee(name, amount, day=DAY):
    return activity(name, "fee", amount, covers=day)


def test_fees_on_schedule_are_adopted_and_others_are_a_break_with_the_difference():
    expected = {DAY: D("1.25")}
    good = run(
        books(),
        books(cash="99998.75", activities=[fee("f1", "-1.00"), fee("f2", "-0.25")]),
        fees=ExpectedFees(fresh=expected),
    )
    assert (keys(good), [each.activity_id for each in good.adopted]) == ([], ["f1", "f2"])
    (found,) = run(
        books(), books(cash="99998", activities=[fee("f1", "-2.00")]), fees=ExpectedFees(fresh=expected)
    ).breaks
    assert (found.kind, found.subject, found.difference, found.value) == (
        "fee",
        "fees of 2026-01-05",
        {"fee": "0.75"},
        D("0.75"),
    )
    assert [each.activity_id for each in found.activities] == ["f1"]


def test_commissions_on_the_executions_are_fees_too():
    theirs = books([trade(1, fee=D("1.00"))], cash=84_999)
    good = run(books([trade(1)]), theirs, fees=ExpectedFees(fresh={DAY: D("1.00")}))
    assert (keys(good), [each.amount for each in good.adopted]) == ([], [D("-1.00")])
    assert keys(run(books([trade(1)]), theirs)) == [("fee", "fees of 2026-01-05")]


def test_fees_that_are_due_and_were_not_charged_are_a_break():
    before = date(2026, 1, 2)
    result = run(books(), books(), fees=ExpectedFees({before: D("3.00")}, {DAY: D("1.00")}, frozenset({before})))
    assert keys(result) == [("fee", "fees of 2026-01-02")]


def test_a_section_that_is_not_told_is_a_break_and_nothing_is_compared():
    theirs = Books(frame("executions", []), positions=None, cash=None)
    result = run(books([trade(1)]), theirs)
    assert not result.complete
    assert keys(result) == [
        ("stale_or_incomplete_source", "statement 2026-01-05 cash"),
        ("stale_or_incomplete_source", "statement 2026-01-05 positions"),
    ]


def test_a_statement_with_a_problem_is_not_compared():
    result = run(books([trade(1)]), books([]), problems=(("counts", "said 5 rows, has 4"),))
    assert keys(result) == [("stale_or_incomplete_source", "statement 2026-01-05 counts")]
    assert result.breaks[0].theirs == {"problem": "said 5 rows, has 4"}


def test_a_statement_of_another_world_is_one_break_not_thousands():
    ours, theirs = books([trade(n) for n in range(20)]), books([trade(n) for n in range(20, 40)])
    result = run(ours, theirs, tolerances=Tolerances(max_differences=39))
    assert keys(result) == [("stale_or_incomplete_source", "statement 2026-01-05 executions")]
    assert len(run(ours, theirs, tolerances=Tolerances(max_differences=40)).breaks) == 40


def test_a_fill_that_is_booked_late_meets_the_carried_statement_line():
    (open_one,) = run(books([trade(1)]), books([trade(1), trade(2)])).breaks
    carried = frame("executions", [from_text("executions", as_text(row)) for row in open_one.carry_theirs])
    still = run(
        books(positions=[held(100)], cash=85_000), books(positions=[held(200)], cash=70_000), carried_theirs=carried
    )
    assert [(found.key, found.digest) for found in still.breaks] == [(open_one.key, open_one.digest)]
    late = books([trade(2)], positions=[held(200)], cash=70_000)
    assert keys(run(late, books(positions=[held(200)], cash=70_000), carried_theirs=carried)) == []


def test_a_break_whose_effects_our_books_hold_is_found_again_and_moves_nothing():
    theirs = books([trade(1), trade(2)])
    (found,) = run(books([trade(1)]), theirs).breaks
    settled = run(books([trade(1)], positions=[held(200)], cash=70_000), theirs, settled=frozenset({found.key}))
    assert [each.digest for each in settled.breaks] == [found.digest]


def test_an_earlier_break_that_is_not_looked_at_anew_stands_with_its_effects():
    told = [activity("w", "flow", -5000)]
    (found,) = run(books(), books(cash=95_000, activities=told)).breaks
    again = run(books(), books(cash=95_000), standing=(found,))
    assert [each.digest for each in again.breaks] == [found.digest]
    booked = run(books(cash=95_000, booked=frozenset({"w"})), books(cash=95_000), standing=(found,))
    assert keys(booked) == []


def test_a_look_alike_is_only_suggested():
    ours = [trade(1, order_id="b1", client_order_id="c1")]
    theirs = [trade(2, order_id="b2", client_order_id=None, execution_id=None)]
    result = run(books(ours), books(theirs))
    assert [str(found.kind) for found in result.breaks] == ["missing_at_broker", "missing_internal"]
    assert result.breaks[0].explanation.startswith("looks like missing_internal b2 buy 100 at 150")
    assert result.breaks[1].explanation.startswith("looks like missing_at_broker e1")


def test_the_result_does_not_depend_on_the_order_of_the_rows():
    ours = [trade(n, order_id=f"b{n % 7}", qty=D(n % 5 + 1)) for n in range(60)]
    theirs = [{**row, "execution_id": row["execution_id"] if n % 3 else None} for n, row in enumerate(ours) if n % 11]
    theirs[5] = {**theirs[5], "price": D("150.02")}
    expected = None
    for seed in range(5):
        random.Random(seed).shuffle(ours)
        random.Random(seed + 100).shuffle(theirs)
        found = [(each.key, each.digest, each.explanation) for each in run(books(ours), books(theirs)).breaks]
        assert found
        assert expected is None or found == expected
        expected = found


def test_a_frame_of_another_shape_is_refused_by_its_column():
    with pytest.raises(InvalidInputError, match="executions.qty: is missing in a row"):
        frame("executions", [trade(qty=None)])
    with pytest.raises(InvalidInputError, match="executions: has a row that is not a trade"):
        frame("executions", [trade(side="short")])
    with pytest.raises(InvalidInputError, match="positions.symbol: stands twice"):
        frame("positions", [held(1), held(2)])
    with pytest.raises(InvalidInputError, match="executions.qty: is not an exact decimal"):
        frame("executions", [trade(qty=1.5)])


@pytest.mark.parametrize(
    "bad", [{"price": D("NaN")}, {"cash": D(-1)}, {"version": " "}, {"max_differences": 0}, {"time": timedelta(-1)}]
)
def test_tolerances_refuse_nonsense(bad):
    with pytest.raises(ValueError, match="tolerance"):
        Tolerances(**bad)


def test_severities_are_critical_unless_a_table_says_so():
    table = SeverityTable("lenient-2", frozenset({"fee"}))
    assert [table.of(kind) for kind in (BreakKind.FEE, BreakKind.CASH)] == ["warning", "critical"]
    with pytest.raises(ValueError, match="lenient-3 names unknown kinds: fees"):
        SeverityTable("lenient-3", frozenset({"fees"}))


def test_a_digest_changes_with_the_evidence():
    one = FoundBreak(BreakKind.CASH, "cash USD", difference={"cash": "1"})
    assert one.digest != FoundBreak(BreakKind.CASH, "cash USD", difference={"cash": "2"}).digest


def test_two_lines_that_no_id_tells_apart_are_two_breaks():
    nameless = {"execution_id": None, "order_id": None, "client_order_id": None}
    result = run(books([]), books([trade(1, **nameless), trade(1, **nameless)]))
    (one, kind), (other, _) = [(found.subject, str(found.kind)) for found in result.breaks]
    assert (kind, other) == ("missing_internal", f"{one} (2)")
    again = run(books([]), books([trade(1, **nameless), trade(1, **nameless)]))
    assert [each.digest for each in again.breaks] == [each.digest for each in result.breaks]
