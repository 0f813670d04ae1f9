"""Declared feeds: when silence trips, when it only denies, and when nothing is known."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from backend.tradingbot.hot_state import HotState, hot_state
from backend.tradingbot.models import Breaker, BreakerEvent, Feed, JournalEntry, Order, Position, RiskRow
from backend.tradingbot.services import breakers, feeds, marking
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.feeds import change_feed, declare_feed

pytestmark = pytest.mark.django_db(transaction=False)
SCOPE = "account:fed"


@pytest.fixture
def clock():
    """Monday 5 January 2026, 10:00 in New York."""
    return FixedClock(datetime(2026, 1, 5, 15, 0, tzinfo=UTC))


@pytest.fixture(autouse=True)
def nothing_but_these_ticks():
    hot_state()._redis.flushdb()


@pytest.fixture
def account(clock, monkeypatch):
    monkeypatch.setattr(marking, "ask_previous_close", lambda account, clock: None)
    return create_account(
        code="fed",
        cash=Decimal(100_000),
        broker_account="PA-FED",
        symbols=["ONE", "TWO"],
        max_mark_age_seconds=100_000,
        clock=clock,
    )


def declare(clock, **changes):
    fields = {"code": "feed", "symbols": ["ONE", "TWO"], "max_silence_seconds": 60, **changes}
    return declare_feed(**fields, actor="ann", reason="we trade on it", clock=clock)


def tick(symbol, clock, at=None):
    row = {"price": "100", "bid": None, "ask": None, "as_of": (at or clock.now()).isoformat()}
    hot_state().store([(symbol, row)])


def hold(account, symbol="ONE", qty=10):
    Position.objects.update_or_create(account=account, symbol=symbol, defaults={"qty": qty, "avg_price": 100})


def reason(scope=SCOPE):
    return Breaker.objects.get(scope=scope).reason


def to(clock, *parts):
    clock.advance((datetime(*parts, tzinfo=UTC) - clock.now()).total_seconds())


def test_a_feed_silent_as_a_whole_trips_the_account_that_holds_its_symbol(account, clock):
    declare(clock)
    hold(account)
    tick("ONE", clock)
    clock.advance(60)
    marking.mark_all(clock=clock)
    assert reason() == ""
    clock.advance(0.5)
    marking.mark_all(clock=clock)
    assert reason() == "stale-data"
    values = BreakerEvent.objects.get(breaker__scope=SCOPE).values
    assert {name: values[name] for name in ("feed", "silent_seconds", "max_silence_seconds")} == {
        "feed": "feed",
        "silent_seconds": "60.5",
        "max_silence_seconds": 60,
    }
    assert (reason("firm"), Breaker.objects.filter(scope__startswith="symbol:").count()) == ("", 0)


def test_one_symbols_silence_does_not_trip(account, clock):
    declare(clock)
    hold(account)
    tick("ONE", clock)
    clock.advance(1000)
    tick("TWO", clock)
    marking.mark_all(clock=clock)
    assert reason() == ""


def test_an_account_without_position_or_order_in_the_feed_is_not_tripped(account, clock):
    declare(clock, symbols=["TWO"])
    hold(account, "ONE")
    tick("ONE", clock)
    clock.advance(1000)
    marking.mark_all(clock=clock)
    assert reason() == ""


@pytest.mark.parametrize(
    ("status", "tripped"),
    [("accepted", "stale-data"), ("in_doubt", "stale-data"), ("pending_submit", "stale-data"), ("canceled", "")],
)
def test_an_order_that_works_or_may_work_is_exposure_and_an_ended_one_is_not(account, clock, status, tripped):
    declare(clock)
    Order.objects.create(
        account=account, strategy=create_strategy(code="plain", mode="live", clock=clock), client_order_id="a",
        symbol="TWO",
        side="buy", qty=1, type="market", time_in_force="day", status=status, created_at=clock.now(),
        updated_at=clock.now(),
    )  # fmt: skip
    clock.advance(61)
    marking.mark_all(clock=clock)
    assert reason() == tripped


def test_outside_its_session_a_feed_may_be_silent_and_the_next_session_counts_anew(account, clock):
    declare(clock)
    hold(account)
    to(clock, 2026, 1, 5, 20, 59, 30)
    tick("ONE", clock)
    to(clock, 2026, 1, 6, 3, 0)
    marking.mark_all(clock=clock)
    to(clock, 2026, 1, 6, 14, 31)
    marking.mark_all(clock=clock)
    assert reason() == ""
    clock.advance(0.5)
    marking.mark_all(clock=clock)
    assert reason() == "stale-data"


def test_a_round_the_clock_feed_is_silent_across_the_roll_of_the_day(account, clock):
    declare(clock, session_calendar="24/7")
    hold(account)
    to(clock, 2026, 1, 5, 21, 59, 30)
    tick("ONE", clock)
    clock.advance(61)
    marking.mark_all(clock=clock)
    assert reason() == "stale-data"


def test_a_feed_never_heard_counts_from_its_declaration_and_a_change_counts_anew(account, clock):
    declare(clock)
    hold(account)
    clock.advance(50)
    change_feed("feed", {"max_silence_seconds": 30}, actor="ann", reason="stricter", clock=clock)
    clock.advance(30)
    marking.mark_all(clock=clock)
    assert reason() == ""
    clock.advance(1)
    marking.mark_all(clock=clock)
    assert reason() == "stale-data"


def test_a_feed_switched_off_is_not_watched(account, clock):
    declare(clock)
    hold(account)
    change_feed("feed", {"active": False}, actor="ann", reason="the vendor is gone", clock=clock)
    clock.advance(1000)
    marking.mark_all(clock=clock)
    assert reason() == ""


def test_a_store_that_was_emptied_does_not_make_a_feed_silent_at_once(account, clock):
    declare(clock)
    hold(account)
    clock.advance(3600)
    tick("ONE", clock)
    marking.mark_all(clock=clock)
    hot_state()._redis.flushdb()
    clock.advance(60)
    marking.mark_all(clock=clock)
    assert reason() == ""
    clock.advance(1)
    marking.mark_all(clock=clock)
    assert reason() == "stale-data"


def test_a_store_that_does_not_answer_says_nothing_about_the_feed(account, clock, monkeypatch):
    declare(clock)
    hold(account)
    tick("ONE", clock)

    def down(self, symbols):
        raise UnavailableError("the store does not answer", code="market_data_unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(HotState, "quotes", down)
        clock.advance(10_000)
        marking.mark_all(clock=clock)
        assert reason() == ""
        assert RiskRow.objects.get(pk=SCOPE).equity is None
    marking.mark_all(clock=clock)
    assert reason() == "stale-data"


def test_while_the_store_is_down_a_trip_for_silence_cannot_be_reset(account, clock, monkeypatch):
    Breaker.objects.filter(scope=SCOPE).update(cooldown_sec=0)
    declare(clock)
    hold(account)
    clock.advance(61)
    marking.mark_all(clock=clock)

    def down(self, symbols):
        raise UnavailableError("the store does not answer", code="market_data_unavailable")

    monkeypatch.setattr(HotState, "quotes", down)
    clock.advance(100)
    marking.mark_all(clock=clock)
    with pytest.raises(ConflictError) as caught:
        breakers.reset(SCOPE, actor="ann", reason="let us go on", force=False, clock=clock)
    assert caught.value.code == "cause_holds"


def test_a_reset_is_refused_while_the_feed_is_silent_and_taken_when_it_is_back(account, clock):
    Breaker.objects.filter(scope=SCOPE).update(cooldown_sec=0)
    declare(clock)
    hold(account)
    clock.advance(61)
    marking.mark_all(clock=clock)
    with pytest.raises(ConflictError):
        breakers.reset(SCOPE, actor="ann", reason="let us go on", force=False, clock=clock)
    tick("TWO", clock)
    marking.mark_all(clock=clock)
    breakers.reset(SCOPE, actor="ann", reason="the feed is back", force=False, clock=clock)
    assert reason() == ""
    marking.mark_all(clock=clock)
    assert reason() == ""


def test_a_tick_from_the_future_does_not_keep_a_feed_alive(account, clock):
    declare(clock)
    hold(account)
    tick("ONE", clock, at=datetime(2026, 1, 5, 16, 0, tzinfo=UTC))
    clock.advance(61)
    marking.mark_all(clock=clock)
    assert (reason(), Feed.objects.get().last_seen_at) == ("stale-data", None)


def test_an_unreadable_tick_is_none_and_the_others_are_read(clock):
    tick("ONE", clock)
    hot_state()._redis.set("tick:TWO", "not json")
    found = hot_state().quotes(["ONE", "TWO", "GONE"])
    assert (found["ONE"].price, found["TWO"], found["GONE"]) == (Decimal(100), None, None)


def test_declaring_and_changing_a_feed_is_journalled_with_who_and_why(account, clock):
    declare(clock)
    change_feed("feed", {"symbols": ["TWO"], "active": True}, actor="bob", reason="one is delisted", clock=clock)
    change_feed("feed", {"symbols": ["TWO"]}, actor="bob", reason="the same again", clock=clock)
    entries = JournalEntry.objects.filter(subject="feed:feed").order_by("seq")
    assert [(entry.kind, entry.actor) for entry in entries] == [("feed_declared", "ann"), ("feed_changed", "bob")]
    assert entries[1].data == {
        "reason": "one is delisted",
        "before": {"symbols": ["ONE", "TWO"]},
        "after": {"symbols": ["TWO"]},
    }


def test_a_feed_is_declared_once(account, clock):
    declare(clock)
    with pytest.raises(ConflictError) as caught:
        declare(clock)
    assert caught.value.code == "feed_code_used"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code", "a b"),
        ("symbols", []),
        ("symbols", ["lower"]),
        ("symbols", "ONE"),
        ("max_silence_seconds", 0),
        ("max_silence_seconds", 1.5),
        ("max_silence_seconds", True),
        ("max_silence_seconds", 86_401),
        ("session_calendar", "XLON"),
    ],
)
def test_a_feed_that_makes_no_sense_is_refused_by_field(account, clock, name, value):
    with pytest.raises(InvalidInputError) as caught:
        declare(clock, **{name: value})
    assert [error.field for error in caught.value.errors] == [name]
    assert Feed.objects.count() == 0


def test_a_change_of_what_cannot_be_changed_or_is_not_there_is_refused(account, clock):
    with pytest.raises(NotFoundError) as missing:
        change_feed("feed", {"active": False}, actor="ann", reason="why", clock=clock)
    assert missing.value.code == "feed_not_found"
    declare(clock)
    for changes in ({"code": "other"}, {"last_seen_at": None}, {"symbols": "ONE"}, {"active": "yes"}):
        with pytest.raises(InvalidInputError):
            change_feed("feed", changes, actor="ann", reason="why", clock=clock)


@pytest.mark.parametrize("wrong", [{"max_silence_seconds": 0}, {"symbols": []}, {"session_calendar": "XLON"}])
def test_the_database_refuses_a_senseless_feed_too(clock, wrong):
    fields = {"code": "raw", "symbols": ["ONE"], "max_silence_seconds": 1, "watched_since": clock.now(), **wrong}
    with pytest.raises(IntegrityError), transaction.atomic():
        Feed.objects.create(**fields)


def test_the_worst_of_several_silent_feeds_is_shown(clock):
    declared = [Feed(code="a", symbols=["ONE"]), Feed(code="b", symbols=["ONE"]), Feed(code="c", symbols=["TWO"])]
    silent = {"a": feeds.Silence("a", 100, 90), "b": feeds.Silence("b", 70, 30), "c": feeds.Silence("c", 900, 1)}
    assert feeds.look(declared, silent, {"ONE"}).silence.feed == "b"
    assert feeds.look(declared, silent, set()).silence is None
