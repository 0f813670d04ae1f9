"""Sixty-four at once on one breaker: no trip, no error and no reset is lost, and without the lock they are."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db import connection

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError
from backend.tradingbot.models import Account, Breaker, BreakerEvent, JournalEntry
from backend.tradingbot.services import breakers, journal, marking
from backend.tradingbot.services.accounts import create_account

pytestmark = pytest.mark.django_db(transaction=True)
SCOPE, THREADS = "account:raced", 64


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def account(clock):
    limits = {"max_error_rate_per_min": THREADS, "cooldown_sec": 0}
    return create_account(code="raced", cash=Decimal(1_000), broker_account="PA-R", breaker=limits, clock=clock)


@pytest.fixture
def locks_off(monkeypatch):
    """Everyone reads the row before anyone writes it, which is what the row's lock is there to prevent."""
    everyone = threading.Barrier(THREADS)

    def read(scope):
        row = Breaker.objects.get(scope=scope)
        everyone.wait(60)
        return row

    monkeypatch.setattr(breakers, "_lock_row", read)


def all_at_once(actions: list[Callable[[], object]]) -> None:
    def act(action):
        try:
            action()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(actions)) as pool:
        list(pool.map(act, actions))


def trips(clock, count=THREADS):
    return [
        lambda name=f"cause {number}": breakers.trip(SCOPE, actor="ann", reason=name, clock=clock)
        for number in range(count)
    ]


def story() -> list[str]:
    """What is wrong with the record: an opening of what was open, a closing of what was closed, another end."""
    wrong, is_open = [], False
    for event in BreakerEvent.objects.filter(breaker__scope=SCOPE).order_by("id"):
        if event.kind == breakers.TRIP and is_open or event.kind != breakers.TRIP and not is_open:
            wrong.append(f"{event.kind} although it was {'open' if is_open else 'closed'}")
        is_open = event.kind != breakers.RESET
    if (Breaker.objects.get(scope=SCOPE).tripped_at is not None) != is_open:
        wrong.append("the row is not as its last event says")
    return wrong


def recorded_causes() -> set[str]:
    events = BreakerEvent.objects.filter(breaker__scope=SCOPE).exclude(kind=breakers.RESET)
    return {cause for event in events for cause in event.reason.split("; ")}


def test_no_trip_is_lost_among_other_trips(account, clock):
    all_at_once(trips(clock, 48))
    assert recorded_causes() == {f"cause {number}" for number in range(48)}
    kinds = sorted(BreakerEvent.objects.values_list("kind", flat=True))
    assert kinds == [breakers.CAUSE] * 47 + [breakers.TRIP]
    assert story() == []
    assert journal.verify("firm").intact


def test_without_the_lock_trips_are_lost(account, clock, locks_off):
    all_at_once(trips(clock))
    assert len(Breaker.objects.get(scope=SCOPE).state["later_causes"]) == 0
    assert "breaker_trip although it was open" in story()


def test_every_error_is_counted_and_the_last_one_trips(account, clock):
    all_at_once([lambda: breakers.mark_error(SCOPE, clock=clock)] * THREADS)
    event = BreakerEvent.objects.get()
    assert (event.reason, event.values["errors_last_min"]) == ("error-rate", THREADS)
    assert len(Breaker.objects.get(scope=SCOPE).state["error_times"]) == THREADS


def test_without_the_lock_errors_are_lost_and_nothing_trips(account, clock, locks_off):
    all_at_once([lambda: breakers.mark_error(SCOPE, clock=clock)] * THREADS)
    assert Breaker.objects.get(scope=SCOPE).tripped_at is None
    assert len(Breaker.objects.get(scope=SCOPE).state["error_times"]) == 1


def test_trips_resets_marks_and_errors_together_leave_a_record_that_holds(account, clock):
    def reset():
        try:
            breakers.reset(SCOPE, actor="bob", reason="looked at it", force=True, clock=clock)
        except ConflictError:
            pytest.fail("a forced reset is not refused")

    def mark():
        marking.mark_account(Account.objects.get(code="raced"), clock=clock)
        marking.mark_firm(clock=clock)

    others = [mark] * 16 + [reset] * 16 + [lambda: breakers.mark_error(SCOPE, clock=clock)] * 8
    actions = [*trips(clock, 24), *others]
    random.Random(7).shuffle(actions)
    all_at_once(actions)
    assert recorded_causes() == {f"cause {number}" for number in range(24)}
    assert story() == []
    assert JournalEntry.objects.filter(chain="firm", subject=SCOPE).exclude(kind="account_created").count() == (
        BreakerEvent.objects.count()
    )
    assert journal.verify("firm").intact and journal.verify(SCOPE).intact
    assert Breaker.objects.get(scope=SCOPE).evaluated_at == clock.now()


def test_sixty_four_first_trips_of_a_symbol_make_one_row(account, clock):
    all_at_once([lambda: breakers.trip("symbol:AAPL", actor="ann", reason="halted", clock=clock)] * THREADS)
    assert Breaker.objects.filter(scope="symbol:AAPL").count() == 1
    assert BreakerEvent.objects.count() == 1


def test_a_mark_between_a_trip_and_its_commit_does_not_undo_it(account, clock, monkeypatch):
    """The trip holds the row while the mark wants it; the mark then acts on the open breaker."""
    holding, may_end = threading.Event(), threading.Event()
    honest = breakers.LockedBreaker.save

    def slow_save(guard):
        if guard.actor == "ann":
            holding.set()
            may_end.wait(20)
        honest(guard)

    monkeypatch.setattr(breakers.LockedBreaker, "save", slow_save)
    mark = threading.Thread(target=lambda: (marking.mark_account(account, clock=clock), connection.close()))
    trip = threading.Thread(target=lambda: (trips(clock, 1)[0](), connection.close()))
    trip.start()
    assert holding.wait(20)
    mark.start()
    may_end.set()
    trip.join(20)
    mark.join(20)
    assert Breaker.objects.get(scope=SCOPE).reason == "cause 0"
