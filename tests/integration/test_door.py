"""The one door for executions and order states: once each, whatever the order, the doubles and the contradictions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.tradingbot.models import Breaker, Execution, HeldReport, JournalEntry, Order
from backend.tradingbot.services import adoption, booking
from backend.tradingbot.services.adoption import adopt, take_execution
from backend.tradingbot.services.booking import UnknownOrderError, book_execution
from tests.integration.booked import CASH, Book, NoBroker, at, execution, shown

pytestmark = pytest.mark.django_db(transaction=True)


def hear(book: Book, *told: Any) -> Book:
    """What the broker says, as the stream brings it: an order, or an execution together with its order."""
    for news in told:
        if isinstance(news, tuple):
            fill, order = news
            take_execution(book.account, NoBroker(), fill, clock=book.clock, source="stream", seen=order)
            news = order
        adopt(book.account, NoBroker(), news, clock=book.clock)
    return book


@st.composite
def lives(draw: Any) -> list[Any]:
    """One life as the broker tells it: fills in parts, perhaps too much, taken back or corrected, and an end."""
    told: list[Any] = [shown()]
    filled, standing, second = Decimal(0), {}, 0

    def order(status: str) -> Any:
        return shown(status=status, filled_qty=str(filled), updated_at=at(second))

    for number in range(draw(st.integers(0, 4))):
        second += 1
        qty, price = Decimal(draw(st.integers(1, 5))), draw(st.sampled_from(["99.98", "99.5", "100"]))
        filled += qty
        standing[f"e{number}"] = qty
        status = "filled" if filled >= 10 else "partially_filled"
        told.append((execution(f"e{number}", str(qty), price, second), order(status)))
    word = "filled" if filled >= 10 else "partially_filled" if filled else "new"
    for number in range(draw(st.integers(0, 2)) if standing else 0):
        second += 1
        name = draw(st.sampled_from(sorted(standing)))
        qty = standing.pop(name)
        if draw(st.booleans()):
            filled -= qty
            fill = execution(f"x{number}", str(qty), "100", second, type="trade_bust", previous_execution_id=name)
        else:
            better = Decimal(draw(st.integers(1, 5)))
            filled += better - qty
            standing[f"x{number}"] = better
            changes = {"type": "trade_correct", "previous_execution_id": name}
            fill = execution(f"x{number}", str(better), "99.75", second, **changes)
        told.append((fill, order(word)))
        if not standing:
            break
    second += 1
    if word != "filled" and draw(st.booleans()):
        told.append(order(draw(st.sampled_from(["canceled", "expired"]))))
    return told


def book_of(told: list[Any]) -> dict[str, Any]:
    """An over-fill that a bust takes back again is only seen when the bust comes later: that break may differ."""
    contents = hear(Book(), *told).contents()
    return contents | {"breaks": [found for found in contents["breaks"] if found[0] != "qty"]}


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(lives(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_with_doubles_leaves_the_same_book(told: list[Any], random: Any) -> None:
    expected = book_of(told)
    shuffled = [*told, *random.sample(told, random.randint(0, len(told)))]
    random.shuffle(shuffled)
    assert book_of(shuffled) == expected


def test_a_fill_in_parts_is_added_up_exactly_and_its_reservation_follows():
    book = hear(Book(), shown(), (execution("e1", "3", "99.5"), shown(status="partially_filled", filled_qty="3")))
    assert (book.now.status, book.now.filled_qty, book.now.avg_price) == ("partially_filled", 3, Decimal("99.5"))
    assert (book.row.reserved_cash, book.row.cash) == (Decimal(700), CASH - Decimal("298.5"))
    hear(book, (execution("e2", "7", "99", 2), shown(status="filled", filled_qty="10", updated_at=at(2))))
    assert (book.now.status, book.now.avg_price) == ("filled", Decimal("99.15"))
    assert (book.row.reserved_cash, book.row.cash) == (Decimal(0), CASH - Decimal("991.5"))
    assert book.position() == (Decimal(10), Decimal("99.15"), Decimal(0))


def test_each_transition_is_one_entry_with_before_after_cause_and_evidence():
    book = hear(Book(), shown(), (execution("e1", "10"), shown(status="filled", filled_qty="10")))
    entries = JournalEntry.objects.filter(chain=book.row.scope, kind="order_transition").order_by("seq")
    steps = [(e.data["before"], e.data["event"], e.data["after"], e.actor) for e in entries]
    assert steps == [("pending_submit", "accept", "accepted", "broker"), ("accepted", "fill", "filled", "broker")]
    assert entries[1].data["evidence"] == {"execution_id": "e1", "qty": "10", "price": "100"}


def test_a_listing_that_is_read_again_takes_in_only_what_is_new_or_changed(django_assert_num_queries):
    book = hear(Book(), shown(), (execution("e1", "4", "100", 1), shown(status="partially_filled", filled_qty="4")))
    known, new = execution("e1", "4", "100", 1), execution("e2", "1", "100", 2)
    changed = execution("e1", "5", "100", 1)
    with django_assert_num_queries(1):
        assert booking.without_booked(book.account, [known, new]) == [new]
    assert booking.without_booked(book.account, [changed, known]) == [changed]


def test_an_execution_is_booked_once_whichever_way_it_comes():
    book = hear(Book(), shown())
    fill = execution("e1", "4")
    assert book_execution(book.account, fill, clock=book.clock, source="stream") is True
    assert book_execution(book.account, fill, clock=book.clock) is False
    assert (book.now.filled_qty, Execution.objects.count(), Execution.objects.get().source) == (4, 1, "stream")
    assert (book.row.fills_cursor, book.breaks()) == ("", [])  # only a listing that began at the cursor moves it


@pytest.mark.parametrize("changes", [{"qty": "5"}, {"price": "101"}, {"side": "sell"}, {"symbol": "MSFT"}])
def test_the_same_execution_id_with_other_content_is_flagged_and_never_overwrites(changes):
    book = hear(Book(), shown(), (execution("e1", "4"), shown(status="partially_filled", filled_qty="4")))
    before = {**book.contents(), "breaks": None}
    other = execution("e1", **{"qty": "4", **changes})
    for _ in range(2):
        assert book_execution(book.account, other, clock=book.clock) is False
    assert {**book.contents(), "breaks": None} == before
    assert book.breaks() == [("duplicate", "e1", "critical")]
    assert book.kinds().count("break_opened") == 1


def test_a_late_fill_after_the_cancel_is_booked_and_fills_the_order():
    book = hear(Book(), shown(), shown(status="canceled", updated_at=at(5)))
    assert (book.now.status, book.row.reserved_cash) == ("canceled", 0)
    hear(book, (execution("e1", "4"), shown(status="canceled", filled_qty="4", updated_at=at(6))))
    assert (book.now.status, book.now.filled_qty, book.row.reserved_cash) == ("canceled", 4, 0)
    hear(book, (execution("e2", "6"), shown(status="filled", filled_qty="10", updated_at=at(7))))
    assert (book.now.status, book.now.filled_qty, book.breaks()) == ("filled", 10, [])


def test_an_order_ends_at_the_end_of_its_session_with_what_it_got():
    book = hear(Book(), shown(), (execution("e1", "4"), shown(status="partially_filled", filled_qty="4")))
    hear(book, shown(status="done_for_day", filled_qty="4", updated_at=at(5)))
    assert (book.now.status, book.row.reserved_cash) == ("partially_filled", 600)
    hear(book, shown(status="expired", filled_qty="4", updated_at=at(6)))
    assert (book.now.status, book.row.reserved_cash) == ("expired", 0)


def test_an_over_fill_is_booked_trips_the_breaker_and_opens_a_break():
    book = hear(Book(), shown(), (execution("e1", "10"), shown(status="filled", filled_qty="10")))
    hear(book, (execution("e2", "2", second=2), shown(status="filled", filled_qty="12")))
    assert (book.now.status, book.now.filled_qty, book.position()[0]) == ("filled", 12, 12)
    assert book.breaks() == [("qty", "c-1", "critical")]
    guard = Breaker.objects.get(scope=book.row.scope)
    assert (guard.tripped_at is not None, guard.reason) == (True, "over-fill c-1")
    steps = JournalEntry.objects.filter(chain=book.row.scope, kind="order_transition", data__event="over_fill")
    assert [(e.data["before"], e.data["after"]) for e in steps] == [("filled", "filled")]


def test_a_process_that_dies_between_the_trip_and_the_booking_loses_neither(monkeypatch):
    """The trip comes first: what is not booked yet is read again, and trips again."""
    book = hear(Book(), shown(), (execution("e1", "10"), shown(status="filled", filled_qty="10")))
    trip = booking.breakers.trip

    def trip_and_die(*args: Any, **options: Any) -> None:
        trip(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(booking.breakers, "trip", trip_and_die)
    with pytest.raises(KeyboardInterrupt):
        book_execution(book.account, execution("e2", "2", second=2), clock=book.clock)
    assert (Execution.objects.count(), Breaker.objects.get(scope=book.row.scope).reason) == (1, "over-fill c-1")
    monkeypatch.undo()
    assert book_execution(book.account, execution("e2", "2", second=2), clock=book.clock) is True
    assert (book.now.filled_qty, book.breaks()) == (12, [("qty", "c-1", "critical")])


def test_an_execution_of_another_side_and_symbol_is_booked_as_it_happened_and_flagged():
    book = hear(Book(), shown())
    book_execution(book.account, execution("e1", "10", side="sell", symbol="MSFT"), clock=book.clock)
    assert (book.position("MSFT")[0], book.position("AAPL")[0]) == (-10, 0)
    assert book.breaks() == [("side", "e1", "critical"), ("symbol", "e1", "critical")]
    assert Breaker.objects.get(scope=book.row.scope).tripped_at is not None


def test_a_bust_takes_the_execution_back_by_a_row_of_its_own():
    book = hear(Book(), shown(), (execution("e1", "10", "99"), shown(status="filled", filled_qty="10")))
    bust = execution("x1", "10", "99", 9, type="trade_bust", previous_execution_id="e1")
    assert book_execution(book.account, bust, clock=book.clock) is True
    assert book_execution(book.account, bust, clock=book.clock) is False
    rows = list(Execution.objects.order_by("id").values_list("execution_id", "kind", "corrects", "qty"))
    assert rows == [("e1", "fill", "", 10), ("x1", "bust", "e1", -10)]
    assert (book.now.status, book.now.filled_qty, book.now.avg_price) == ("filled", 0, None)
    assert (book.row.cash, book.position()) == (CASH, (0, 0, 0))
    assert book.breaks() == [("bust_or_correction", "x1", "warning")]
    assert "execution_busted" in book.kinds()


def test_a_correction_is_a_reversal_and_the_execution_anew():
    book = hear(Book(), shown(), (execution("e1", "10", "99"), shown(status="filled", filled_qty="10")))
    changes = {"type": "trade_correct", "previous_execution_id": "e1"}
    book_execution(book.account, execution("x1", "8", "99.5", 9, **changes), clock=book.clock)
    rows = list(Execution.objects.order_by("id").values_list("execution_id", "kind", "qty", "price"))
    assert rows == [
        ("e1", "fill", 10, 99), ("reversal-of-e1", "reversal", -10, 99), ("x1", "correction", 8, Decimal("99.5")),
    ]  # fmt: skip
    assert (book.now.filled_qty, book.now.avg_price, book.row.cash) == (8, Decimal("99.5"), CASH - 796)
    assert book.position() == (8, Decimal("99.5"), 0)
    again = execution("x2", "7", "99.5", 10, type="trade_correct", previous_execution_id="x1")
    book_execution(book.account, again, clock=book.clock)
    assert (book.now.filled_qty, book.row.cash) == (7, CASH - Decimal("696.5"))


def test_a_bust_that_comes_first_is_held_until_its_execution_is_here():
    book = hear(Book(), shown())
    bust = execution("x1", "4", "99", 9, type="trade_bust", previous_execution_id="e1")
    book_execution(book.account, bust, clock=book.clock)
    assert (HeldReport.objects.get().booked_at, Execution.objects.count()) == (None, 0)
    book_execution(book.account, execution("e1", "4", "99"), clock=book.clock)
    assert (HeldReport.objects.get().booked_at, Execution.objects.count()) == (book.clock.now(), 2)
    assert (book.now.filled_qty, book.now.reported_qty, book.row.cash) == (0, 4, CASH)
    assert (book.now.status, book.row.reserved_cash) == ("partially_filled", 1000)


def test_an_execution_is_taken_back_once():
    book = hear(Book(), shown(), (execution("e1", "4"), shown(status="partially_filled", filled_qty="4")))
    for name in ("x1", "x2"):
        bust = execution(name, "4", type="trade_bust", previous_execution_id="e1")
        book_execution(book.account, bust, clock=book.clock)
    assert (book.now.filled_qty, book.row.cash) == (0, CASH)
    assert ("duplicate", "x2", "critical") in book.breaks()


def test_an_order_placed_elsewhere_is_external_and_counted():
    book = Book()
    elsewhere = shown(id="b-9", client_order_id="by-hand", limit_price="50", qty="20")
    hear(book, elsewhere)
    order = Order.objects.get(broker_order_id="b-9")
    assert (order.strategy.code, order.status, order.client_order_id) == ("external", "accepted", "ext-b-9")
    assert book.row.reserved_cash == 1000 + 1000
    part = shown(id="b-9", client_order_id="by-hand", qty="20", status="partially_filled", filled_qty="5")
    hear(book, (execution("e9", "5", "50", order_id="b-9"), part))
    assert (book.position()[0], book.row.reserved_cash, book.row.cash) == (5, 1750, CASH - 250)
    assert book.breaks() == [("missing_internal", "b-9", "warning")]
    assert Order.objects.filter(broker_order_id="b-9").count() == 1


def test_an_external_order_that_came_to_nothing_leaves_nothing():
    book = hear(Book(), shown(id="b-9", client_order_id="by-hand", status="canceled"))
    assert (Order.objects.count(), book.breaks()) == (1, [])


def test_what_happened_before_the_books_began_is_not_booked():
    book = Book()
    old = execution("e0", "5", order_id="b-0", second=-10 * 365 * 86_400)
    assert take_execution(book.account, NoBroker(), old, clock=book.clock) is False
    assert (Execution.objects.count(), book.row.cash) == (0, CASH)


def test_an_execution_of_an_unknown_order_is_not_booked_blindly():
    with pytest.raises(UnknownOrderError):
        book = Book()
        book_execution(book.account, execution("e1", "5", order_id="b-8"), clock=book.clock)
    assert Execution.objects.count() == 0


@pytest.mark.parametrize("status", ["denied", "rejected"])
def test_the_broker_having_an_order_that_was_refused_here_stops_the_account(status):
    book = Book(status=status)
    told = shown(status="partially_filled", filled_qty="4")
    for _ in range(2):
        hear(book, (execution("e1", "4"), told))
    assert (book.now.status, book.now.filled_qty) == (status, 0)
    external = Order.objects.get(broker_order_id="b-1")
    assert (external.strategy.code, external.filled_qty, book.position()[0]) == ("external", 4, 4)
    assert ("order_status", "c-1", "critical") in book.breaks()
    assert book.kinds().count("transition_refused") == 1
    assert Breaker.objects.get(scope=book.row.scope).reason == "contradiction c-1"


def test_a_second_order_of_the_broker_under_one_id_is_counted_and_stops_the_account():
    book = hear(Book(), shown())
    hear(book, shown(id="b-2"))
    assert (book.now.broker_order_id, Order.objects.get(broker_order_id="b-2").strategy.code) == ("b-1", "external")
    assert ("order_status", "c-1", "critical") in book.breaks()
    assert Breaker.objects.get(scope=book.row.scope).tripped_at is not None


def test_an_answer_that_is_recorded_while_the_order_is_looked_for_is_no_contradiction(monkeypatch):
    book = hear(Book(), shown())
    monkeypatch.setattr(adoption, "find_order", lambda *_: None)  # as it was a moment ago
    hear(book, shown(updated_at=at(1)))
    assert (Order.objects.count(), book.breaks()) == (1, [])
    assert Breaker.objects.get(scope=book.row.scope).tripped_at is None


def test_an_order_refused_there_under_our_id_is_no_contradiction():
    book = hear(Book(status="in_doubt"), shown(status="rejected"))
    assert (book.now.status, book.row.reserved_cash, book.breaks()) == ("rejected", 0, [])


REPLACEMENT = {"id": "b-2", "client_order_id": "made-there", "replaces": "b-1"}


def test_a_replaced_order_goes_on_under_its_new_id_and_keeps_the_old_one():
    book = hear(Book(), shown(), shown(**REPLACEMENT, updated_at=at(1)))
    assert (book.now.broker_order_id, book.now.past_broker_order_ids) == ("b-2", ["b-1"])
    assert (book.now.status, book.breaks()) == ("accepted", [])
    hear(book, shown(status="replaced", replaced_by="b-2", updated_at=at(1)))
    for name, broker_id in (("e1", "b-1"), ("e2", "b-2")):
        book_execution(book.account, execution(name, "2", order_id=broker_id), clock=book.clock)
    assert (book.now.filled_qty, book.now.status) == (4, "partially_filled")
    step = JournalEntry.objects.get(chain=book.row.scope, data__event="replace").data["evidence"]
    assert (step["broker_order_id_before"], step["broker_order_id"]) == ("b-1", "b-2")


def test_other_terms_of_a_replacement_count_at_once_and_are_flagged():
    book = hear(Book(), shown(), shown(**REPLACEMENT, qty="30", limit_price="50"))
    assert (book.now.qty, book.now.limit_price, book.row.reserved_cash) == (30, 50, 1500)
    assert book.breaks() == [("price", "c-1:b-2", "critical"), ("qty", "c-1:b-2", "critical")]


REPLACED_LIFE = [
    shown(),
    (execution("e1", "4"), shown(status="partially_filled", filled_qty="4", updated_at=at(1))),
    shown(status="replaced", filled_qty="4", replaced_by="b-2", updated_at=at(2)),
    shown(**REPLACEMENT, qty="6", updated_at=at(2)),
    (execution("e2", "5", order_id="b-2", second=3),
     shown(**REPLACEMENT, qty="6", status="partially_filled", filled_qty="5", updated_at=at(3))),
    shown(**REPLACEMENT, qty="6", status="canceled", filled_qty="5", updated_at=at(4)),
]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.permutations(REPLACED_LIFE[1:]), st.lists(st.sampled_from(REPLACED_LIFE), max_size=3))
def test_the_life_of_a_replaced_order_comes_out_the_same_in_any_order(told, doubled) -> None:
    book = hear(Book(), REPLACED_LIFE[0], *told, *doubled)
    assert (book.now.status, book.now.qty, book.now.filled_qty) == ("canceled", 10, 9)
    assert (book.row.reserved_cash, book.row.cash) == (0, CASH - 900)
    assert Breaker.objects.get(scope=book.row.scope).tripped_at is None


def test_a_replacement_of_an_order_that_ended_here_is_counted_and_stops_the_account():
    book = hear(Book(), shown(), shown(status="canceled", updated_at=at(1)))
    told = shown(**REPLACEMENT, status="partially_filled", filled_qty="3")
    hear(book, (execution("e1", "3", order_id="b-2"), told), (execution("e1", "3", order_id="b-2"), told))
    assert (book.now.status, Order.objects.get(broker_order_id="b-2").filled_qty) == ("canceled", 3)
    assert (book.position()[0], Breaker.objects.get(scope=book.row.scope).reason) == (3, "contradiction c-1")


def test_a_replacement_that_the_broker_refused_changes_nothing():
    book = hear(Book(), shown(), shown(**REPLACEMENT, status="rejected"))
    assert (book.now.broker_order_id, Order.objects.count(), book.breaks()) == ("b-1", 1, [])


def test_a_chain_of_replacements_that_was_never_seen_is_followed_back():
    class Asked(NoBroker):
        def get_order(self, broker_order_id: str) -> Any:
            return {"b-1": shown(status="replaced", replaced_by="b-2"),
                    "b-2": shown(**REPLACEMENT, status="replaced", replaced_by="b-3")}[broker_order_id]  # fmt: skip

    book = Book(status="in_doubt")
    last = shown(id="b-3", client_order_id="made-there-too", replaces="b-2")
    fill = execution("e1", "10", order_id="b-3")
    take_execution(book.account, Asked(), fill, clock=book.clock, seen=last)
    assert (book.now.status, book.now.past_broker_order_ids) == ("filled", ["b-1", "b-2"])
    assert book.breaks() == []


def test_an_answer_that_the_table_forbids_raises_and_is_journalled_as_refused():
    book = hear(Book(), shown(), (execution("e1", "10"), shown(status="filled", filled_qty="10")))
    from backend.tradingbot.execution.order_state import Event, IllegalTransitionError
    from backend.tradingbot.services.order_life import record_answer

    with pytest.raises(IllegalTransitionError, match="an order that is filled cannot reject"):
        record_answer(book.now, Event.REJECT, {}, cause="broker", clock=book.clock)
    assert (book.now.status, book.kinds()[-2:]) == ("filled", ["transition_refused", "break_opened"])
    assert book.breaks() == [("order_status", "c-1", "critical")]


def test_the_adopted_execution_of_a_sale_moves_cash_and_position_the_other_way():
    book = Book(side="sell")
    sold = shown(side="sell", status="filled", filled_qty="10")
    hear(book, (execution("e1", "10", "101", side="sell"), sold))
    assert (book.row.cash, book.position(), adoption.externals.EXTERNAL) == (CASH + 1010, (-10, 101, 0), "external")


@pytest.mark.parametrize("replaced", [False, True])
def test_an_order_ends_when_a_correction_was_larger_than_what_it_corrects(replaced):
    book = hear(Book(), shown())
    name = "b-1"
    if replaced:
        name = "b-2"
        hear(book, shown(id=name, client_order_id="theirs", replaces="b-1", updated_at=at(1)))
    hear(book, (execution("e1", "4", order_id=name), shown(id=name, status="partially_filled", filled_qty="4")))
    better = execution("x1", "6", "100", 2, type="trade_correct", previous_execution_id="e1", order_id=name)
    book_execution(book.account, better, clock=book.clock)
    hear(book, shown(id=name, status="canceled", filled_qty="6", updated_at=at(5)))
    assert (book.now.status, book.now.filled_qty, book.row.reserved_cash) == ("canceled", 6, 0)
