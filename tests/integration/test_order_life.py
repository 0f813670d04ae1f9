"""Orders over HTTP at a broker that is late, refuses, replaces, forgets and takes back: the books follow."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.models import Account, Breaker, Execution, JournalEntry, Order, Position, RiskRow
from backend.tradingbot.services import cancels, cash_flows, journal, orders, recovery
from tests.integration.order_life import (
    CLOCK,
    RESTING,
    breaks,
    cancel,
    give_up,
    later,
    place_at_broker,
    poll,
    poll_until,
    reserved,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_orders_that_rest_unchanged_cost_a_poll_no_statement_each_and_no_lock(gateway, broker):
    def statements_of_a_poll() -> list[str]:
        poll()  # takes in what is new
        with CaptureQueriesContext(connection) as seen:
            poll()
        return [query["sql"] for query in seen.captured_queries]

    gateway.tick()
    gateway.order("rests-0", **RESTING)
    one = statements_of_a_poll()
    for number in range(1, 6):
        assert gateway.order(f"rests-{number}", type="limit", limit_price=f"9{number}.00").status_code == 201
    six = statements_of_a_poll()
    assert len(six) == len(one)
    assert not [sql for sql in six if "FOR UPDATE" in sql or "pg_advisory" in sql]


def test_an_order_given_up_frees_its_symbol_and_keeps_its_reservation_until_the_day_ends(gateway, broker):
    clock = give_up(gateway, broker)
    assert reserved() == 450
    assert gateway.order("next", **RESTING).status_code == 201
    assert recovery.watch(clock=clock) == {f"{gateway.prefix}-gone": "never_arrived"}
    assert recovery.watch(clock=clock) == {}  # once a minute is enough
    clock.at = Order.objects.get(client_order_id=f"{gateway.prefix}-gone").watch_until
    assert (clock.at - datetime.now(UTC) >= timedelta(minutes=55), reserved()) == (True, 900)
    recovery.watch(clock=clock)
    assert reserved() == 450
    assert JournalEntry.objects.filter(kind="watch_ended").count() == 1
    assert journal.verify("account:main").intact


def test_a_market_order_that_was_given_up_keeps_nobody_from_selling_what_is_held(gateway, broker):
    gateway.tick()
    gateway.order("held")
    poll_until(gateway, "held", "filled")
    give_up(gateway, broker, type="market", limit_price=None)
    sale = gateway.order("sale", side="sell")
    assert (sale.status_code, sale.json()["decision"]["allowed"]) == (201, True)


@pytest.mark.parametrize("way", ["watch", "poll"])
def test_a_late_arrival_is_taken_in_and_is_a_critical_break(gateway, broker, way):
    clock = give_up(gateway, broker)
    place_at_broker(broker, f"{gateway.prefix}-gone")
    recovery.watch(clock=clock) if way == "watch" else poll()
    order = gateway.read("gone")
    assert (order["status"], bool(order["broker_order_id"]), reserved()) == ("accepted", True, 450)
    assert breaks() == [("order_status", "critical")]
    assert broker.ids().count(f"{gateway.prefix}-gone") == 1


def test_one_jump_of_the_clock_does_not_give_an_order_up(gateway, broker):
    gateway.tick()
    broker.fault("drop_before")
    gateway.order("gone", **RESTING)
    clock, name = later(1), f"{gateway.prefix}-gone"
    recovery.recover(clock=clock)
    clock.advance(86_400)
    assert recovery.recover(clock=clock) == {name: "in_doubt"}
    clock.advance(16)
    assert recovery.recover(clock=clock) == {name: "in_doubt"}
    clock.advance(60)
    assert recovery.recover(clock=clock) == {name: "never_arrived"}


def test_a_question_that_fails_is_no_miss(gateway, broker):
    gateway.tick()
    broker.fault("drop_before")
    gateway.order("gone", **RESTING)
    broker.fault("error_500", target="lookup", times=None)
    clock, name = later(1), f"{gateway.prefix}-gone"
    for _ in range(5):
        assert recovery.recover(clock=clock) == {name: "in_doubt"}
        clock.advance(60)
    assert Order.objects.get(client_order_id=name).lookup_misses == 0


@pytest.fixture
def dying(monkeypatch):
    """The sender dies at a point of its way: what it had committed until then stays."""

    def die(name: str) -> None:
        def dead(*args: Any, **options: Any) -> None:
            raise SystemExit

        monkeypatch.setattr(orders, name, dead)

    return die


@pytest.mark.parametrize(("point", "status"), [("_place", "never_arrived"), ("record_answer", "accepted")])
def test_the_orphan_of_a_dead_worker_is_taken_up(gateway, broker, dying, point, status):
    gateway.tick()
    dying(point)
    gateway.order("orphan", **RESTING)
    assert gateway.read("orphan")["status"] == "pending_submit"
    clock = FixedClock(datetime.now(UTC))
    assert recovery.recover(clock=clock) == {}  # its time is not over
    clock.advance(16)
    for _ in range(3):
        recovery.recover(clock=clock)
        clock.advance(60)
    assert gateway.read("orphan")["status"] == status
    assert broker.ids().count(f"{gateway.prefix}-orphan") == (1 if status == "accepted" else 0)


def test_a_refused_cancel_leads_back_to_what_the_order_was(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.fault("cancel_refused")
    assert cancel(gateway, "a")["status"] == "accepted"
    steps = JournalEntry.objects.filter(kind="order_transition").order_by("seq").values_list("data__event", flat=True)
    assert list(steps)[-2:] == ["request_cancel", "refuse_cancel"]
    assert cancels.send_wished_cancels(clock=CLOCK) == 0
    cancel(gateway, "a")
    assert poll_until(gateway, "a", "canceled")["filled_qty"] == "0"


def test_a_refused_cancel_of_a_partly_filled_order_leads_back_there(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.control("execute", client_order_id=f"{gateway.prefix}-a", qty="2", price="90")
    poll()
    broker.fault("cancel_refused")
    assert cancel(gateway, "a")["status"] == "partially_filled"


def test_a_cancel_that_did_not_reach_the_broker_is_sent_again(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.fault("drop_before", target="cancel")
    assert cancel(gateway, "a")["status"] == "pending_cancel"
    assert [o["status"] for o in broker.ledger()["orders"] if o["client_order_id"].endswith("-a")][-1] == "new"
    assert cancels.send_wished_cancels(clock=CLOCK) == 1
    assert cancels.send_wished_cancels(clock=CLOCK) == 0
    poll_until(gateway, "a", "canceled")


def test_a_cancel_that_the_broker_took_and_dropped_later_is_sent_again(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.fault("cancel_kept", seconds=0.1)
    assert cancel(gateway, "a")["status"] == "pending_cancel"
    assert cancels.send_wished_cancels(clock=CLOCK) == 0  # it was asked just now
    time.sleep(0.3)
    assert cancels.send_wished_cancels(clock=later(11)) == 1
    poll_until(gateway, "a", "canceled")


def test_a_cancel_wished_in_doubt_is_sent_once_the_order_is_found(gateway, broker):
    gateway.tick()
    broker.fault("drop_after_accept")
    assert gateway.order("a", **RESTING).status_code == 202
    assert [cancel(gateway, "a")["status"] for _ in range(2)] == ["in_doubt"] * 2
    assert JournalEntry.objects.filter(kind="cancel_wished").count() == 1
    recovery.recover(clock=CLOCK)
    assert cancels.send_wished_cancels(clock=CLOCK) == 1
    poll_until(gateway, "a", "canceled")


def test_a_fill_while_the_cancel_is_on_its_way_is_booked(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.fault("cancel_pending", seconds=30)
    cancel(gateway, "a")
    broker.control("execute", client_order_id=f"{gateway.prefix}-a", qty="2", price="90")
    poll()
    assert (gateway.read("a")["status"], reserved()) == ("pending_cancel", 270)
    broker.control("execute", client_order_id=f"{gateway.prefix}-a", qty="3", price="90")
    poll()
    assert (gateway.read("a")["status"], reserved()) == ("filled", 0)


def test_an_order_that_expires_at_the_close_ends_here(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    closes = datetime.fromisoformat(broker.call("GET", "/v2/clock").json()["next_close"])
    try:
        broker.control("clock", at=(closes + timedelta(seconds=1)).isoformat())
        assert poll_until(gateway, "a", "expired")["filled_qty"] == "0"
    finally:
        broker.control("clock")
    assert reserved() == 0


def test_a_replacement_at_the_broker_is_followed(gateway, broker):
    gateway.tick()
    old = gateway.order("a", **RESTING).json()["broker_order_id"]
    broker.control("execute", order_id=old, qty="2", price="90")
    new = broker.call("PATCH", f"/v2/orders/{old}", {"limit_price": "91"}).json()["id"]
    poll()
    order = Order.objects.get()
    assert (order.broker_order_id, order.past_broker_order_ids, order.qty, order.filled_qty) == (new, [old], 5, 2)
    assert (order.limit_price, reserved(), breaks()) == (91, 273, [("price", "critical")])
    broker.control("execute", order_id=new, qty="3", price="91")
    assert poll_until(gateway, "a", "filled")["avg_price"] == "90.6"
    assert Order.objects.count() == 1


def test_an_order_placed_elsewhere_is_seen_counted_and_can_be_cancelled(gateway, broker):
    gateway.tick()
    theirs = place_at_broker(broker, f"{gateway.prefix}-hand", limit_price="80", qty="10")
    poll()
    order = Order.objects.select_related("strategy").get()
    assert (order.strategy.code, order.status, reserved()) == ("external", "accepted", 800)
    denied = gateway.order("a", qty="93", type="limit", limit_price="100.00")
    assert "insufficient" in [c["code"] for c in denied.json()["order"]["decision"]["checks"]]
    broker.control("execute", order_id=theirs["id"], qty="4", price="80")
    poll()
    assert (Position.objects.get(symbol="AAPL").qty, reserved()) == (4, 480)
    answer = gateway.call("DELETE", f"orders/{order.client_order_id}?account=main", token=gateway.risk)
    assert answer.json()["status"] == "pending_cancel"
    poll()
    assert (Order.objects.get(pk=order.pk).status, reserved(), breaks()) == (
        "canceled", 0, [("missing_internal", "warning")],
    )  # fmt: skip


def test_an_over_fill_at_the_broker_stops_the_account(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.control("execute", client_order_id=f"{gateway.prefix}-a", qty="9", price="90")
    poll()
    assert (gateway.read("a")["filled_qty"], gateway.read("a")["status"]) == ("9", "filled")
    assert breaks() == [("qty", "critical")]
    assert Breaker.objects.get(scope="account:main").reason == f"over-fill {gateway.prefix}-a"
    assert gateway.order("b", **RESTING).json()["code"] == "order_denied"


def test_a_bust_and_a_correction_at_the_broker_are_booked(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.control("execute", client_order_id=f"{gateway.prefix}-a", qty="5", price="90")
    poll()
    booked = Execution.objects.get()
    broker.control("bust", execution_id=booked.execution_id, price="89.50")
    poll()
    corrected = Execution.objects.get(kind="correction")
    assert (RiskRow.objects.get(pk="account:main").cash, corrected.corrects) == (
        Decimal("9552.5"), booked.execution_id,
    )  # fmt: skip
    broker.control("bust", execution_id=corrected.execution_id)
    poll()
    assert (RiskRow.objects.get(pk="account:main").cash, Position.objects.get().qty) == (10_000, 0)
    assert [(e.kind, e.qty) for e in Execution.objects.order_by("id")] == [
        ("fill", 5), ("reversal", -5), ("correction", 5), ("bust", -5),
    ]  # fmt: skip
    assert poll() == 0


def test_an_execution_that_is_filed_late_is_found_by_a_sweep(gateway, broker):
    gateway.tick()
    gateway.tick("MSFT")
    gateway.order("late", **RESTING)
    broker.fault("lag_activities", symbol="AAPL", seconds=3600, times=None)
    broker.control("execute", client_order_id=f"{gateway.prefix}-late", qty="5", price="90")
    gateway.order("seen", symbol="MSFT", qty="1", type="market")
    poll_until(gateway, "seen", "filled")  # the cursor is past the one that is not filed yet
    broker.heal()
    poll()
    assert (gateway.read("late")["status"], gateway.read("late")["filled_qty"]) == ("filled", "5")


def test_while_executions_are_missing_an_order_does_not_end(gateway, broker):
    gateway.tick()
    gateway.order("late", **RESTING)
    broker.fault("lag_activities", seconds=3600, times=None)
    broker.control("execute", client_order_id=f"{gateway.prefix}-late", qty="5", price="90")
    for _ in range(3):
        poll()
    assert (gateway.read("late")["status"], Order.objects.get().broker_status) == ("accepted", "filled")
    broker.heal()
    poll()
    assert gateway.read("late")["status"] == "filled"


def test_executions_are_read_over_any_number_of_pages(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    for _ in range(5):
        broker.control("execute", client_order_id=f"{gateway.prefix}-a", qty="1", price="90")
    broker.fault("short_pages", size=2, times=None)
    assert poll() == 5
    assert gateway.read("a")["status"] == "filled"


def test_an_order_that_ended_here_and_works_there_stops_the_account(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    Order.objects.update(status="canceled")
    for _ in range(2):
        poll()
    assert breaks() == [("order_status", "critical")]
    assert Breaker.objects.get(scope="account:main").reason == f"contradiction {gateway.prefix}-a"


def test_the_fees_of_the_broker_are_booked_once_and_are_no_withdrawal(gateway, broker):
    gateway.tick()
    gateway.order("buy")
    poll_until(gateway, "buy", "filled")
    gateway.order("sell", side="sell")
    poll_until(gateway, "sell", "filled")
    broker.control("fees")
    account = Account.objects.get(code="main")
    Account.objects.update(created_at=datetime.now(UTC) - timedelta(days=3))
    account.refresh_from_db()
    cash = RiskRow.objects.get(pk="account:main").cash
    assert cash_flows.read_cash_flows(account, clock=CLOCK) >= 2
    assert cash_flows.read_cash_flows(account, clock=CLOCK) == 0
    fees = account.cash_flows.filter(kind="FEE")
    assert {flow.moved_start for flow in fees} == {False}
    assert RiskRow.objects.get(pk="account:main").cash == cash + sum(flow.amount for flow in account.cash_flows.all())


def test_keys_of_another_account_send_nothing(gateway, broker):
    gateway.tick()
    Account.objects.update(broker_account="PA-ELSEWHERE")
    answer = gateway.order("a", **RESTING)
    assert (answer.status_code, answer.json()["code"]) == (422, "broker_rejected")
    assert Order.objects.get().evidence["reject"]["code"] == "wrong_broker_account"
    assert f"{gateway.prefix}-a" not in broker.ids()
    assert poll() == 0
