"""The broker's word on an order, merged: the same view in whatever order, and however often, it is heard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.execution.order_state import Event, Status
from backend.tradingbot.execution.order_view import Standing, View, due_event, fill_event, refusal_event

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
moments = st.none() | st.integers(0, 5).map(lambda second: START + timedelta(seconds=second))
words = st.sampled_from(["new", "partially_filled", "filled", "canceled", "expired", "rejected", "done_for_day", "odd"])
views = st.builds(View, words, st.integers(0, 10).map(Decimal), moments)


@given(st.lists(views, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_merging_gives_the_same_view_in_any_order_and_with_doubles(heard: list[View], random) -> None:
    again = [*heard, *heard[: random.randint(0, len(heard))]]
    random.shuffle(again)
    assert reduce(View.merged, again) == reduce(View.merged, heard)


@given(views, views, views)
def test_merging_is_associative(a: View, b: View, c: View) -> None:
    assert a.merged(b).merged(c) == a.merged(b.merged(c))


def test_an_ended_view_beats_a_later_one_that_has_not_ended() -> None:
    ended, later = View("canceled", Decimal(0), START), View("new", Decimal(0), START + timedelta(seconds=9))
    assert later.merged(ended) == ended == ended.merged(later)


def standing(status: Status, qty: int = 10, reported: int = 0, booked: int | None = None) -> Standing:
    return Standing(status, Decimal(qty), Decimal(reported), Decimal(reported if booked is None else booked))


@pytest.mark.parametrize(
    "reported, executed, event",
    [(0, 4, Event.PARTIAL_FILL), (4, 6, Event.FILL), (4, 7, Event.OVER_FILL), (10, 1, Event.OVER_FILL)],
)
def test_an_execution_is_judged_by_what_it_adds_up_to(reported: int, executed: int, event: Event) -> None:
    assert fill_event(standing(Status.ACCEPTED, reported=reported), Decimal(executed)) is event


@pytest.mark.parametrize("status", [Status.PENDING_SUBMIT, Status.IN_DOUBT, Status.NEVER_ARRIVED])
def test_an_order_that_is_found_is_accepted_first_unless_it_was_refused(status: Status) -> None:
    assert due_event(standing(status), View("expired", Decimal(0))) is Event.ACCEPT
    assert due_event(standing(status), View("a_word_nobody_knows", Decimal(0))) is Event.ACCEPT
    assert due_event(standing(status), View("rejected", Decimal(0))) is Event.REJECT
    assert due_event(standing(status), View("rejected", Decimal(3))) is Event.ACCEPT


def test_an_order_ends_only_when_the_executions_that_the_broker_counts_are_here() -> None:
    view = View("canceled", Decimal(4))
    assert due_event(standing(Status.ACCEPTED), view) is None
    assert due_event(standing(Status.PARTIALLY_FILLED, reported=4), view) is Event.CANCEL


def test_after_a_replacement_only_the_executions_of_the_present_id_count_for_its_end() -> None:
    assert due_event(standing(Status.PARTIALLY_FILLED, reported=4, booked=0), View("expired", Decimal(2))) is None
    done = standing(Status.PARTIALLY_FILLED, reported=6, booked=2)
    assert due_event(done, View("expired", Decimal(2))) is Event.EXPIRE


def test_the_rest_of_a_partly_filled_order_that_the_venue_refuses_is_canceled() -> None:
    assert due_event(standing(Status.ACCEPTED), View("rejected", Decimal(0))) is Event.REJECT
    assert due_event(standing(Status.PARTIALLY_FILLED, reported=4), View("rejected", Decimal(4))) is Event.CANCEL


@pytest.mark.parametrize("word", ["new", "done_for_day", "calculated", "replaced", "pending_cancel", "held", "xyz"])
def test_a_word_that_does_not_end_an_order_leaves_it_working(word: str) -> None:
    assert due_event(standing(Status.ACCEPTED), View(word, Decimal(0))) is None


def test_nothing_more_is_due_of_an_order_that_has_ended() -> None:
    assert due_event(standing(Status.FILLED, reported=10), View("canceled", Decimal(10))) is None


def test_a_refused_cancel_says_what_the_order_goes_back_to() -> None:
    assert refusal_event(Decimal(0)) is Event.REFUSE_CANCEL
    assert refusal_event(Decimal(1)) is Event.REFUSE_CANCEL_OF_REST
