"""What one posted order costs the database, and what stops it between its decision and the send."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from django.db import connection, transaction
from django.test import Client

from backend.tradingbot.core.clock import SYSTEM_CLOCK, FixedClock
from backend.tradingbot.core.parsing import parse_order
from backend.tradingbot.execution.order_state import Event
from backend.tradingbot.models import Account, Breaker, JournalEntry, Order, Position, RiskRow, Strategy
from backend.tradingbot.services import breakers, journal, orders
from backend.tradingbot.services.locks import locked_order, locked_risk

pytestmark = pytest.mark.django_db(transaction=True)
STATEMENTS = 14  # of the 16 that an order may cost; the rest is kept for limits above the account


@pytest.fixture
def statements():
    """What the server itself says it was asked on this thread's connection, BEGIN and COMMIT included."""
    heard: list[str] = []
    connection.ensure_connection()
    raw = connection.connection

    def hear(notice):
        kind, _, sql = notice.message_primary.partition(": ")
        if kind == "statement" or kind.startswith("execute"):
            heard.append(" ".join(sql.split()))

    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if not cursor.fetchone()[0]:
            pytest.skip("only a superuser may ask this PostgreSQL for its statements")
        cursor.execute("SET client_min_messages = log")
        cursor.execute("SET log_statement = 'all'")
    raw.add_notice_handler(hear)
    connection.health_check_enabled, connection.health_check_done = True, False  # as at the start of a request
    yield heard
    raw.remove_notice_handler(hear)
    connection.close()


def post(gateway, name, **changes):
    headers = {"Authorization": f"Bearer {gateway.trader}"}
    body = json.dumps(gateway.body(name, **changes))
    return Client().post("/api/v1/orders", body, content_type="application/json", headers=headers)


def test_a_posted_order_costs_at_most_fourteen_statements(gateway, broker, statements):
    gateway.tick()
    statements.clear()
    answer = post(gateway, "a")
    assert (answer.status_code, answer.json()["status"]) == (201, "accepted")
    assert statements.count("BEGIN") == statements.count("COMMIT") == 2
    assert statements[0] == "SELECT 1"  # the check of a kept connection counts as well
    assert len(statements) <= STATEMENTS, "\n".join(statements)
    assert broker.ids().count(f"{gateway.prefix}-a") == 1


def test_a_denied_order_is_stored_in_one_transaction(gateway, broker, statements):
    gateway.tick()
    statements.clear()
    answer = post(gateway, "a", symbol="TSLA")
    assert (answer.status_code, answer.json()["code"]) == (422, "order_denied")
    assert statements.count("BEGIN") == 1
    assert len(statements) <= STATEMENTS - 5


@pytest.fixture
def after_the_decision(monkeypatch):
    """Do something once transaction 1 is committed and before anything is sent."""

    def arrange(action):
        decide = orders._decide

        def decide_then_act(*args, **options):
            judged = decide(*args, **options)
            action()
            return judged

        monkeypatch.setattr(orders, "_decide", decide_then_act)

    return arrange


def trip(scope="account:main"):
    breakers.trip(scope, actor="test", reason="between", clock=SYSTEM_CLOCK)


@pytest.mark.parametrize("scope", ["firm", "account:main", "strategy:mean", "symbol:AAPL"])
def test_a_trip_between_the_decision_and_the_send_withholds_the_order(gateway, broker, after_the_decision, scope):
    gateway.tick()
    Breaker.objects.get_or_create(scope=scope)
    after_the_decision(lambda: trip(scope))
    answer = gateway.order("a")
    assert (answer.status_code, answer.json()["code"]) == (422, "order_denied")
    assert f"{scope}: between" in answer.json()["detail"]
    assert f"{gateway.prefix}-a" not in broker.ids()
    assert answer.json()["order"]["decision"]["allowed"] is True  # the decision was made and stays what it was
    order = Order.objects.get()
    assert (order.status, order.evidence["deny"]["failed"]) == ("denied", ["circuit_open"])
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 0
    assert gateway.order("a").json()["order"]["status"] == "denied"
    assert journal.verify("account:main").entries == 2


def test_without_the_last_look_a_trip_comes_too_late(gateway, broker, after_the_decision, monkeypatch):
    """The control: the same trip, and nobody looks again."""
    gateway.tick()
    monkeypatch.setattr(orders, "with_stops_of_now", lambda i, a, s, snapshot: (snapshot, SYSTEM_CLOCK.now()))
    after_the_decision(trip)
    assert gateway.order("a").status_code == 201
    assert f"{gateway.prefix}-a" in broker.ids()


def test_a_sale_that_only_reduces_is_still_sent_after_a_trip(gateway, broker, after_the_decision):
    gateway.tick()
    Position.objects.create(account=Account.objects.get(code="main"), symbol="AAPL", qty=5, avg_price=100)
    after_the_decision(trip)
    placed = gateway.order("a", side="sell", type="limit", limit_price="100.00")
    assert (placed.status_code, f"{gateway.prefix}-a" in broker.ids()) == (201, True)


GAP, TOLERANCE = 0.6, 0.3  # between decision and send; and what a busy machine may take from the last look to the send


def posts_around_a_trip(gateway, monkeypatch, round_name=""):
    """Eight posters race one trip, and dwell between decision and send. The orders sent after it was answered."""
    gateway.tick()
    decide, place = orders._decide, orders._place
    answered, stop, placed = threading.Event(), threading.Event(), threading.Event()
    answered_at: list[float] = []
    late: list[str] = []

    def decide_and_dwell(*args, **options):
        judged = decide(*args, **options)
        time.sleep(GAP)
        return judged

    def note_and_place(intent, *rest):
        if answered.is_set() and time.monotonic() > answered_at[0] + TOLERANCE:
            late.append(intent.client_order_id)
        return place(intent, *rest)

    def keep_posting(poster):
        codes = []
        time.sleep(GAP * poster / 8)  # so that some are in the gap at any moment
        while not stop.is_set():
            codes.append(gateway.order(f"{round_name}{poster}-{len(codes)}", qty="1").status_code)
            if codes[-1] == 201:
                placed.set()
        return codes

    monkeypatch.setattr(orders, "_decide", decide_and_dwell)
    monkeypatch.setattr(orders, "_place", note_and_place)
    with ThreadPoolExecutor(8) as pool:
        posters = [pool.submit(keep_posting, poster) for poster in range(8)]
        assert placed.wait(30)
        trip_it = gateway.call("POST", "breakers/account:main/trip", {"reason": "race"}, token=gateway.risk)
        answered_at.append(time.monotonic())
        answered.set()
        time.sleep(2 * GAP)
        stop.set()
        codes = [code for poster in posters for code in poster.result()]
    assert (trip_it.status_code, set(codes)) == (200, {201, 422})
    return late


def test_of_posts_that_race_a_trip_none_is_sent_after_it_was_answered(gateway, broker, monkeypatch):
    assert posts_around_a_trip(gateway, monkeypatch) == []


def test_without_the_last_look_the_race_against_a_trip_is_lost(gateway, broker, monkeypatch):
    """The control: the same race, and nobody looks again."""
    monkeypatch.setattr(orders, "with_stops_of_now", lambda i, a, s, snapshot: (snapshot, SYSTEM_CLOCK.now()))
    late: list[str] = []
    for attempt in range(5):  # on a busy machine the trip itself can take longer than the gap
        with monkeypatch.context() as patch:
            late = posts_around_a_trip(gateway, patch, f"{attempt}-")
        if late:
            break
        Breaker.objects.filter(scope="account:main").update(cooldown_sec=0)
        again = gateway.call("POST", "breakers/account:main/reset", {"reason": "once more"}, token=gateway.risk)
        assert again.status_code == 200
    assert late and set(late) <= set(broker.ids())


def intent_of(gateway, name):
    return parse_order(gateway.body(name))


def submit(gateway, name, clock):
    parties = {"account": Account.objects.get(code="main"), "strategy": Strategy.objects.get(code="mean")}
    return orders.submit_order(intent_of(gateway, name), **parties, actor="test", clock=clock).order


def test_a_sender_that_was_paused_past_its_time_does_not_send(gateway, broker, after_the_decision):
    gateway.tick()
    clock = FixedClock(datetime.now(UTC))
    after_the_decision(lambda: clock.advance(5))
    assert submit(gateway, "late", clock).status == "pending_submit"
    assert f"{gateway.prefix}-late" not in broker.ids()


def test_the_time_to_send_is_kept_by_the_clock_of_the_database(gateway, broker, after_the_decision, settings):
    gateway.tick()
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"send_by_seconds": 0.05})
    after_the_decision(lambda: time.sleep(0.1))
    assert submit(gateway, "late", FixedClock(datetime.now(UTC))).status == "pending_submit"  # whose own clock stands
    assert f"{gateway.prefix}-late" not in broker.ids()


def test_an_order_that_recovery_took_over_is_not_denied_and_not_sent(gateway, broker, after_the_decision):
    gateway.tick()

    def take_over_and_trip():
        evidence = {"code": "sender_gone", "message": "no answer was recorded in time"}
        orders.record_answer(Order.objects.get(), Event.LOSE_SIGHT, evidence, cause="recovery", clock=SYSTEM_CLOCK)
        trip()

    after_the_decision(take_over_and_trip)
    answer = gateway.order("a")
    assert (answer.status_code, answer.json()["status"]) == (202, "in_doubt")
    assert f"{gateway.prefix}-a" not in broker.ids()


def test_an_order_that_is_not_there_takes_its_journal_entry_with_it(gateway, broker):
    gateway.tick()
    gateway.order("a")
    gone = Order.objects.get()
    gone.pk += 1
    with (
        pytest.raises(RuntimeError, match="was to be saved once and was saved 0 times"),
        locked_risk("account:main") as row,
    ):
        journal.append_with_order(row, gone, kind="x", actor="test", data={}, at=SYSTEM_CLOCK.now())
    assert journal.verify("account:main").entries == 2
    assert JournalEntry.objects.filter(kind="x").count() == 0


def held_by_somebody(model, **key):
    """Whether another transaction holds that row."""
    with transaction.atomic():
        return not model.objects.select_for_update(skip_locked=True).filter(**key).exists()


def test_an_order_is_locked_together_with_its_account(gateway, broker):
    gateway.tick()
    gateway.order("a")
    order = Order.objects.get()

    def what_is_held():
        try:
            return held_by_somebody(RiskRow, scope="account:main"), held_by_somebody(Order, pk=order.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with locked_order(order.pk) as (row, locked):
            assert (row.scope, locked.client_order_id) == ("account:main", order.client_order_id)
            assert pool.submit(what_is_held).result() == (True, True)
        assert pool.submit(what_is_held).result() == (False, False)
