"""Resets by two people, and the equity that is kept for the breaker's chart."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError
from backend.tradingbot.models import Account, Breaker, BreakerEvent, EquityMark, JournalEntry, ResetRequest
from backend.tradingbot.selectors.breaker_history import last_trip, timeline
from backend.tradingbot.services import breaker_resets, breakers, equity_history, marking
from backend.tradingbot.services.accounts import create_account

pytestmark = pytest.mark.django_db(transaction=False)
SCOPE = "account:main"


@pytest.fixture
def clock(settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"reset_second_person": True})
    clock = FixedClock()
    create_account(code="main", cash=Decimal(10_000), broker_account="PA-1", symbols=["AAPL"], clock=clock)
    breakers.trip(SCOPE, actor="test", reason="look", clock=clock)
    clock.advance(2_000)
    return clock


def ask(clock, actor="ann", force=False):
    return breaker_resets.ask_reset(SCOPE, actor=actor, reason="seen", force=force, clock=clock)


def mark(clock):
    marking.mark_account(Account.objects.get(), clock=clock)
    marking.mark_firm(clock=clock)


def is_open():
    return Breaker.objects.get(scope=SCOPE).tripped_at is not None


def journalled():
    found = JournalEntry.objects.filter(chain="firm", subject=SCOPE, kind__startswith="breaker_reset").order_by("seq")
    return list(found.values_list("kind", "actor"))


def test_one_person_asks_and_another_carries_it_out(clock):
    assert ask(clock).request.requested_by == "ann"
    assert is_open()
    assert ask(clock, "bob").request is None
    assert not is_open()
    event = BreakerEvent.objects.filter(kind="breaker_reset").get()
    assert (event.actor, event.reason) == ("bob", "seen: seen (asked by ann)")
    request = ResetRequest.objects.get()
    assert (request.state, request.decided_by) == ("approved", "bob")
    assert journalled() == [("breaker_reset_asked", "ann"), ("breaker_reset_approved", "bob"), ("breaker_reset", "bob")]


def test_who_asked_cannot_carry_it_out(clock):
    ask(clock)
    for door in ("ann", "admin:ann", "key:Ann"):
        with pytest.raises(ConflictError) as refused:
            ask(clock, door)
        assert refused.value.code == "second_person_needed"
    assert is_open()


def test_what_would_be_refused_is_not_asked_for(clock):
    breakers.reset(SCOPE, actor="x", reason="y", force=True, clock=clock)
    breakers.trip(SCOPE, actor="test", reason="again", clock=clock)
    with pytest.raises(ConflictError) as refused:
        ask(clock)
    assert refused.value.code == "cooldown_active"
    assert not ResetRequest.objects.exists()


def test_a_forced_request_needs_a_second_person_who_may_force(clock):
    ask(clock, force=True)
    with pytest.raises(ConflictError) as refused:
        ask(clock, "bob")
    assert refused.value.code == "force_needed"
    ask(clock, "bob", force=True)
    assert BreakerEvent.objects.get(kind="breaker_reset").reason == "seen: seen (asked by ann, forced)"


def test_a_request_expires_and_is_not_carried_out_afterwards(clock):
    ask(clock)
    clock.advance(901)
    assert breaker_resets.expire_due(clock=clock) == 1
    assert ask(clock, "bob").request.requested_by == "bob"
    assert is_open()
    assert journalled() == [("breaker_reset_asked", "ann"), ("breaker_reset_expired", "gateway"),
                            ("breaker_reset_asked", "bob")]  # fmt: skip


def test_a_request_stands_for_the_trip_that_it_was_made_for(clock):
    ask(clock)
    breakers.reset(SCOPE, actor="x", reason="y", force=True, clock=clock)
    breakers.trip(SCOPE, actor="test", reason="another cause", clock=clock)
    clock.advance(2_000 - 900)
    assert breaker_resets.expire_due(clock=clock) == 1
    assert ResetRequest.objects.get().decision_reason in ("that trip is over", "nobody carried it out in time")
    assert is_open()


def test_a_request_is_refused_with_a_reason(clock):
    request = ask(clock).request
    breaker_resets.refuse(request.pk, actor="bob", reason="not yet", clock=clock)
    with pytest.raises(ConflictError):
        breaker_resets.refuse(request.pk, actor="bob", reason="again", clock=clock)
    assert journalled()[-1] == ("breaker_reset_refused", "bob")
    assert is_open()


def test_without_the_setting_one_person_resets(clock, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"reset_second_person": False})
    assert ask(clock).request is None
    assert not is_open()


def test_equity_is_kept_once_a_minute_and_pruned(clock):
    for _ in range(4):
        mark(clock)
        equity_history.keep_marks(clock=clock)
        clock.advance(20)
    kept = EquityMark.objects.filter(scope=SCOPE).order_by("at")
    assert [(mark.equity, mark.start_equity) for mark in kept] == [(Decimal(10_000), Decimal(10_000))] * 2
    assert set(EquityMark.objects.values_list("scope", flat=True)) == {"firm", SCOPE}
    clock.advance(73 * 3600)
    mark(clock)
    equity_history.keep_marks(clock=clock)
    assert EquityMark.objects.filter(scope=SCOPE).count() == 1


def test_the_timeline_stands_around_the_trip_with_its_limit(clock):
    mark(clock)
    equity_history.keep_marks(clock=clock)
    row = Breaker.objects.get(scope=SCOPE)
    line = timeline(row, last_trip(row), clock.now())
    assert (line.of, line.start, line.limit) == ("equity", 10_000.0, pytest.approx(9_400.0))
    assert [what for _, what in line.happened] == ["trip"]
    assert line.until - line.since == timedelta(seconds=2_000) + timedelta(hours=2)


def test_errors_that_tripped_are_told_one_by_one(clock):
    scope = "symbol:AAPL"
    for _ in range(5):
        clock.advance(3)
        breakers.mark_error(scope, clock=clock)
    row = Breaker.objects.get(scope=scope)
    line = timeline(row, last_trip(row), clock.now())
    assert (line.of, line.limit) == ("errors in a minute", 5.0)
    assert [count for _, count in line.points] == [1.0, 2.0, 3.0, 4.0, 5.0]
