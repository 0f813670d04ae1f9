"""Which scope trips for what, whose error counts where, rows made on demand, and what is recorded."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from backend.tradingbot.brokers.answers import (
    BrokerInDoubtError,
    BrokerQueryError,
    BrokerRejectedError,
    BrokerUnreachableError,
)
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError, NotFoundError
from backend.tradingbot.models import Breaker, BreakerEvent, JournalEntry
from backend.tradingbot.services import breakers, journal
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.marking import mark_account, mark_firm

pytestmark = pytest.mark.django_db(transaction=False)


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 1, 5, 15, 0, tzinfo=UTC))


@pytest.fixture
def account(clock):
    create_strategy(code="mean", mode="live", clock=clock)
    return create_account(code="main", cash=Decimal(100_000), broker_account="PA-MAIN", clock=clock)


def trip(scope, clock, reason="operator"):
    return breakers.trip(scope, actor="ann", reason=reason, clock=clock)


@pytest.mark.parametrize("scope", ["symbol:AAPL", "symbol:BRK.B", "strategy:mean", "account:main", "firm"])
def test_a_trip_makes_the_row_of_its_scope_when_it_is_not_there(account, clock, scope):
    Breaker.objects.filter(scope=scope).delete()
    row = trip(scope, clock)
    assert (row.scope, row.reason, row.tripped_at) == (scope, "operator", clock.now())
    assert BreakerEvent.objects.get().breaker == row
    assert (trip(scope, clock).pk, Breaker.objects.filter(scope=scope).count()) == (row.pk, 1)


@pytest.mark.parametrize(
    ("scope", "code"), [("account:nobody", "account_not_found"), ("strategy:nothing", "strategy_not_found")]
)
def test_a_trip_of_an_account_or_strategy_that_does_not_exist_is_refused_with_a_remedy(account, clock, scope, code):
    with pytest.raises(NotFoundError) as caught:
        trip(scope, clock)
    assert (caught.value.code, caught.value.remedy) == (code, "check its code")
    assert not Breaker.objects.filter(scope=scope).exists()


@pytest.mark.parametrize(
    "scope", ["", "firm:x", "symbol:", "symbol:aapl", "symbol:A B", "account:", "account:a b", "desk:1", "\x00", 7]
)
def test_a_trip_of_what_is_no_scope_is_refused_by_name(account, clock, scope):
    with pytest.raises(InvalidInputError) as caught:
        trip(scope, clock)
    assert [error.field for error in caught.value.errors] == ["scope"]
    assert caught.value.remedy == "use firm, account:<code>, strategy:<code> or symbol:<SYMBOL>"


@pytest.mark.parametrize("scope", ["symbol:NEVER", "account:nobody", "\x00"])
def test_what_has_no_breaker_cannot_be_reset(account, clock, scope):
    with pytest.raises(NotFoundError) as caught:
        breakers.reset(scope, actor="ann", reason="why", force=True, clock=clock)
    assert caught.value.code == "breaker_not_found"


REJECTED = [
    ("broker_rejected", "strategy:mean"),
    ("broker_forbidden", "strategy:mean"),
    ("client_order_id_taken", "strategy:mean"),
    ("broker_unauthorized", "account:main"),
    ("broker_rate_limited", None),
    ("order_not_found", None),
    ("order_not_cancelable", None),
]


@pytest.mark.parametrize(
    ("error", "scope"),
    [
        (BrokerInDoubtError("read_timeout"), "account:main"),
        (BrokerInDoubtError("http_503"), "account:main"),
        (BrokerInDoubtError("unreadable_answer"), "account:main"),
        (BrokerUnreachableError("connect_timeout"), "account:main"),
        (BrokerQueryError("a look-up failed"), None),
        (ConflictError("a caller's 4xx", code="order_terminal"), None),
        *((BrokerRejectedError(code, "no"), scope) for code, scope in REJECTED),
    ],
)
def test_an_error_counts_where_the_table_says_and_nowhere_else(account, clock, error, scope):
    breakers.count_broker_error(error, account="main", strategy="mean", clock=clock)
    counted = {row.scope: len(row.state.get("error_times", ())) for row in Breaker.objects.all()}
    assert counted == {"firm": 0, "account:main": 0, "strategy:mean": 0} | ({} if scope is None else {scope: 1})


def test_the_error_that_trips_is_evidence(account, clock):
    for _ in range(5):
        error = BrokerInDoubtError("read_timeout")
        breakers.count_broker_error(error, account="main", strategy="mean", clock=clock)
    event = BreakerEvent.objects.get()
    assert (event.kind, event.reason, event.actor) == ("breaker_trip", "error-rate", "gateway")
    assert (event.values["code"], event.values["errors_last_min"]) == ("broker_in_doubt", 5)


def test_a_later_cause_of_an_open_breaker_is_recorded_with_who_and_why(account, clock):
    trip("firm", clock, "operator")
    clock.advance(1)
    breakers.trip("firm", actor="bob", reason="exchange halted", clock=clock)
    breakers.trip("firm", actor="bob", reason="exchange halted", clock=clock)
    events = BreakerEvent.objects.order_by("id").values_list("kind", "actor", "reason")
    assert list(events) == [("breaker_trip", "ann", "operator"), ("breaker_cause", "bob", "exchange halted")]
    row = Breaker.objects.get(scope="firm")
    assert (row.reason, row.tripped_at) == ("operator", clock.now() - timedelta(seconds=1))
    kinds = JournalEntry.objects.filter(chain="firm", subject="firm").order_by("seq").values_list("kind", flat=True)
    assert list(kinds) == ["breaker_trip", "breaker_cause"]


def test_a_reset_is_an_event_with_who_why_and_whether_it_was_forced(account, clock):
    trip("firm", clock)
    with pytest.raises(ConflictError):
        breakers.reset("firm", actor="bob", reason="looked at it", force=False, clock=clock)
    breakers.reset("firm", actor="bob", reason="looked at it", force=True, clock=clock)
    event = BreakerEvent.objects.order_by("id").last()
    assert (event.kind, event.actor, event.reason) == ("breaker_reset", "bob", "looked at it (forced)")
    assert Breaker.objects.get(scope="firm").tripped_at is None
    assert journal.verify("firm").intact


@pytest.mark.parametrize("state", [{"start_equity": "0"}, {"surprise": 1}, [1, 2], "text", 5])
def test_a_stored_state_that_cannot_be_read_opens_the_breaker(account, clock, state):
    Breaker.objects.filter(scope="account:main").update(state=state)
    assert breakers.restore(Breaker.objects.get(scope="account:main"), clock).can_trade() is False
    mark_account(account, clock=clock)
    row = Breaker.objects.get(scope="account:main")
    assert (row.reason, row.tripped_at, row.session) == ("bad-state", clock.now(), date(2026, 1, 5))
    event = BreakerEvent.objects.get()
    assert event.values["unreadable"] == str(state)


def test_a_trip_of_an_unreadable_breaker_opens_it(account, clock):
    Breaker.objects.filter(scope="strategy:mean").update(state={"broken": True})
    trip("strategy:mean", clock)
    row = Breaker.objects.get(scope="strategy:mean")
    assert (row.reason, row.state["later_causes"]) == ("bad-state", ["operator"])


def test_limits_that_make_no_sense_open_the_breaker_too(account, clock):
    Breaker.objects.filter(scope="account:main").update(max_daily_drawdown=7)
    mark_account(account, clock=clock)
    assert Breaker.objects.get(scope="account:main").reason == "bad-state"


def test_the_database_refuses_an_open_breaker_without_a_reason_and_a_closed_one_with_one(account, clock):
    for wrong in ({"tripped_at": clock.now(), "reason": ""}, {"tripped_at": None, "reason": "left over"}):
        with pytest.raises(IntegrityError, match="breaker_open_says_why"), transaction.atomic():
            Breaker.objects.filter(scope="firm").update(**wrong)


def locks_taken(captured):
    """The tables locked, in the order of the locks."""
    statements = [query["sql"] for query in captured.captured_queries if "FOR UPDATE" in query["sql"]]
    names = {"tradingbot_riskrow": "risk", "tradingbot_breaker": "breaker"}
    return [names[statement.split(' FROM "')[1].split('"')[0]] for statement in statements]


def test_a_mark_that_opens_nothing_does_not_lock_the_firms_row(account, clock):
    with CaptureQueriesContext(connection) as captured:
        mark_account(account, clock=clock)
    assert locks_taken(captured) == ["risk", "breaker"]
    with CaptureQueriesContext(connection) as captured:
        mark_firm(clock=clock)
    assert locks_taken(captured) == ["breaker"]
    with CaptureQueriesContext(connection) as captured:
        breakers.mark_error("account:main", clock=clock)
    assert locks_taken(captured) == ["breaker"]


def test_what_is_recorded_locks_the_journal_last(account, clock):
    with CaptureQueriesContext(connection) as captured:
        trip("firm", clock)
    assert locks_taken(captured) == ["breaker", "risk"]
