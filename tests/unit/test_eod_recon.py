"""The end-of-day reconciliation of plain Python: what is a break, what is not, and what stays open."""

from __future__ import annotations

import json
import math
import random
from decimal import Decimal
from pathlib import Path

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.ops.eod_breaks_file import ReconFileCorruptError
from backend.tradingbot.ops.eod_recon import (
    BrokerFill,
    EODReconciler,
    LocalOrder,
    ReconciliationBreaks,
    Severities,
    log_reconciliation_results,
    reconcile,
    should_disable_next_day,
)


def order(**changes):
    fields = {"client_order_id": "o1", "broker_order_id": "b1", "symbol": "AAPL", "side": "buy", "qty": 100}
    return LocalOrder(**{**fields, "final_state": "filled", **changes})


def fill(qty=100, price=150.0, status="filled", **changes):
    fields = {"broker_order_id": "b1", "symbol": "AAPL", "filled_qty": qty, "avg_price": price, "status": status}
    return BrokerFill(**{**fields, **changes})


def test_equal_books_have_no_breaks_and_breaks_are_falsy_when_empty():
    breaks = reconcile([LocalOrder("o1", "b1", "AAPL", "buy", 100, "filled")], [fill()])
    assert breaks == ReconciliationBreaks([], [], [], [], [])
    assert not breaks
    assert not should_disable_next_day(breaks)


def test_several_fills_of_one_order_are_added_up_in_any_order():
    parts = [fill(60, 150.0, "partially_filled"), fill(30, 150.2, "partially_filled"), fill(10, 150.1, "filled")]
    for seed in range(6):
        random.Random(seed).shuffle(parts)
        assert not reconcile([order(avg_price="150.07")], parts)
    assert not reconcile([order()], [fill(60, 150, "partial_fill"), fill(40, 150, "partial_fill")])


@pytest.mark.parametrize("state", ["filled", "partially_filled", "accepted", "something_else"])
def test_an_order_without_a_fill_is_missing(state):
    assert reconcile([order(final_state=state)], []).missing_fill == [f"o1: {state} here, no fill at the broker"]


@pytest.mark.parametrize("state", ["canceled", "cancelled", "rejected", "expired", "denied", "never_arrived"])
def test_an_order_that_ended_unfilled_is_no_missing_fill(state):
    assert not reconcile([order(final_state=state)], [])
    assert not reconcile([order(final_state=state, broker_order_id=None)], [])


def test_a_cancelled_order_of_which_a_part_was_filled_here_is_missing_at_the_broker():
    breaks = reconcile([order(final_state="canceled", filled_qty=40)], [])
    assert breaks.missing_fill == ["o1: canceled here, no fill at the broker"]


def test_a_fill_of_no_order_of_ours_is_unknown_and_starts_with_the_brokers_id():
    assert reconcile([], [fill(), fill(5)]).unknown_broker_fill == ["b1: 105 AAPL is not ours"]


def test_a_filled_order_without_the_brokers_id_is_missing_and_the_fill_is_unknown():
    breaks = reconcile([order(broker_order_id=None)], [fill()])
    assert breaks.missing_fill == ["o1: filled here, no fill at the broker"]
    assert breaks.unknown_broker_fill == ["b1: 100 AAPL is not ours"]


def test_another_state_symbol_or_side_is_a_state_mismatch():
    breaks = reconcile([order()], [fill(status="partially_filled", symbol="MSFT", side="sell")])
    assert breaks.state_mismatch == [
        "o1: symbol AAPL here, MSFT at the broker",
        "o1: side buy here, sell at the broker",
        "o1: filled here, partially_filled at the broker",
    ]


def test_less_and_more_than_ordered_are_quantity_mismatches_and_only_more_is_an_overfill():
    less = reconcile([order()], [fill(99)])
    assert (less.qty_mismatch, less.overfilled) == (["o1: 100 here, 99 at the broker"], [])
    more = reconcile([order()], [fill(60, status="partially_filled"), fill(60)])
    assert (more.qty_mismatch, more.overfilled) == (["o1: over-fill, 100 ordered, 120 filled"], ["o1"])


def test_a_part_filled_order_agrees_with_any_part_unless_the_part_is_known():
    part = fill(40, status="partially_filled")
    assert not reconcile([order(final_state="partially_filled")], [part])
    breaks = reconcile([order(final_state="partially_filled", filled_qty=30)], [part])
    assert breaks.qty_mismatch == ["o1: 30 here, 40 at the broker"]


def test_a_cancelled_order_that_the_broker_filled_in_part_is_a_quantity_mismatch():
    part = fill(40, status="canceled")
    breaks = reconcile([order(final_state="canceled")], [part])
    assert breaks.qty_mismatch == ["o1: 0 here, 40 at the broker"]
    assert not reconcile([order(final_state="cancelled", filled_qty=40)], [part])


@pytest.mark.parametrize(("ours", "clean"), [("150.005", True), ("150.0051", False), ("149.995", True), ("149", False)])
def test_the_average_price_may_be_half_a_tick_off(ours, clean):
    assert bool(reconcile([order(avg_price=ours)], [fill()])) is not clean


def test_a_price_worse_than_the_limit_is_a_price_mismatch_on_either_side():
    bought = reconcile([order(limit_price="149.99")], [fill()])
    assert bought.price_mismatch == ["o1: 150 is worse than the limit 149.99"]
    sold = reconcile([order(side="sell", limit_price="150.01")], [fill()])
    assert sold.price_mismatch == ["o1: 150 is worse than the limit 150.01"]
    assert not reconcile([order(side="sell", limit_price="149.99")], [fill()])


def test_two_orders_of_ours_may_not_share_one_broker_order():
    breaks = reconcile([order(client_order_id="o2"), order()], [fill()])
    assert breaks.state_mismatch == ["o2: broker order b1 is also o1's"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1, "x", None, True, Decimal("NaN")])
def test_a_quantity_that_is_no_number_refuses_the_input(bad):
    with pytest.raises(InvalidInputError, match="filled_qty: of b1"):
        reconcile([order()], [fill(bad)])
    with pytest.raises(ValueError, match="qty: of o1"):
        reconcile([order(qty=bad)], [fill()])


@pytest.mark.parametrize("bad", [math.nan, -math.inf, 0, None, "1,5"])
def test_a_price_that_is_none_refuses_the_input(bad):
    with pytest.raises(InvalidInputError, match="avg_price: of b1"):
        reconcile([order()], [fill(price=bad)])


def test_a_table_demotes_kinds_but_never_an_overfill():
    lenient = Severities("lenient-1", frozenset({"qty_mismatch", "state_mismatch"}))
    assert not should_disable_next_day(ReconciliationBreaks(qty_mismatch=["o1: 1 here, 2"]), lenient)
    assert should_disable_next_day(ReconciliationBreaks(missing_fill=["o1: x"]), lenient)
    overfilled = reconcile([order()], [fill(101)])
    assert should_disable_next_day(overfilled, lenient)
    with pytest.raises(ValueError, match="unknown kinds in severity table v9: qty"):
        Severities("v9", frozenset({"qty"}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "breaks.json"


def test_never_having_run_is_pending_and_a_clean_run_is_not(path):
    reconciler = EODReconciler(path)
    assert reconciler.check_pending_breaks()
    assert not reconciler.run_daily_reconciliation([order()], [fill()])
    assert not reconciler.check_pending_breaks()
    assert not EODReconciler(path).check_pending_breaks()


def test_an_empty_rerun_does_not_erase_open_breaks_and_a_correction_does(path):
    reconciler = EODReconciler(path, clock=FixedClock())
    reconciler.run_daily_reconciliation([order()], [])
    assert not reconciler.run_daily_reconciliation([], [])
    assert reconciler.check_pending_breaks()
    assert reconciler.pending_breaks() == {"missing_fill": ["o1: filled here, no fill at the broker"]}
    reconciler.run_daily_reconciliation([order()], [fill()])
    assert not reconciler.check_pending_breaks()


def test_the_same_run_twice_adds_nothing_and_keeps_when_it_was_first_seen(path):
    clock = FixedClock()
    reconciler = EODReconciler(path, clock=clock)
    reconciler.run_daily_reconciliation([order()], [])
    clock.advance(60)
    reconciler.run_daily_reconciliation([order()], [])
    rows = json.loads(path.read_text())["open"]
    assert [(row["first_seen"][11:19], row["last_seen"][11:19]) for row in rows] == [("15:00:00", "15:01:00")]


def test_an_unknown_fill_is_explained_once_the_order_is_found_here(path):
    reconciler = EODReconciler(path)
    reconciler.run_daily_reconciliation([], [fill()])
    reconciler.run_daily_reconciliation([], [])
    assert reconciler.check_pending_breaks()
    reconciler.run_daily_reconciliation([order()], [fill()])
    assert not reconciler.check_pending_breaks()


def test_a_person_resolves_with_a_name_and_a_reason_that_are_kept(path):
    reconciler = EODReconciler(path)
    reconciler.run_daily_reconciliation([order()], [])
    with pytest.raises(InvalidInputError, match="reason"):
        reconciler.resolve("o1", actor="ann", reason=" ")
    assert reconciler.resolve("o1", actor="ann", reason="broker confirmed the cancel") == 1
    assert not reconciler.check_pending_breaks()
    kept = json.loads(path.read_text())["resolved"]
    assert [(row["id"], row["by"], row["reason"]) for row in kept] == [("o1", "ann", "broker confirmed the cancel")]


def test_demoted_kinds_are_not_pending_but_an_overfill_is(path):
    lenient = Severities("lenient-1", frozenset({"qty_mismatch"}))
    reconciler = EODReconciler(path, severities=lenient)
    assert reconciler.run_daily_reconciliation([order()], [fill(99)])
    assert not reconciler.check_pending_breaks()
    reconciler.run_daily_reconciliation([order()], [fill(101)])
    assert reconciler.check_pending_breaks()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"version": 2}', b'{"version":1,"runs":1,"open":[{}],"resolved":[]}']
)
def test_a_damaged_file_is_pending_and_stops_a_run(path, damage):
    reconciler = EODReconciler(path)
    reconciler.run_daily_reconciliation([order()], [fill()])
    path.write_bytes(damage)
    assert reconciler.check_pending_breaks()
    with pytest.raises(ReconFileCorruptError, match="RECON_FILE_CORRUPT"):
        reconciler.run_daily_reconciliation([order()], [fill()])
    assert path.read_bytes() == damage


def test_a_write_that_fails_leaves_the_old_document(path, monkeypatch):
    reconciler = EODReconciler(path)
    reconciler.run_daily_reconciliation([order()], [])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        reconciler.run_daily_reconciliation([order()], [fill()])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if file.name.endswith(".new")] == []


def test_refused_input_leaves_the_file_as_it_was(path):
    reconciler = EODReconciler(path)
    with pytest.raises(InvalidInputError):
        reconciler.run_daily_reconciliation([order()], [fill(math.nan)])
    assert not path.exists()


def test_results_are_logged_one_line_a_break(caplog):
    caplog.set_level("INFO")
    log_reconciliation_results(reconcile([order()], []))
    log_reconciliation_results(reconcile([], []))
    assert [record.message for record in caplog.records] == [
        "reconciliation_break kind=missing_fill o1: filled here, no fill at the broker",
        "reconciliation_breaks count=1",
        "reconciliation_clean",
    ]
