"""Halting, reducing and re-activating over HTTP: what still passes, who may, and what was under way."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from backend.tradingbot.models import Account, JournalEntry, Order, Position, TradingState
from backend.tradingbot.services import journal, orders, trading_states
from backend.tradingbot.services.accounts import create_account, create_strategy

pytestmark = pytest.mark.django_db(transaction=True)
SCOPES = ["firm", "account:main", "strategy:mean", "symbol:AAPL"]


def put(gateway, scope, state, reason="look", token=None):
    body = {"scope": scope, "state": state, "reason": reason}
    return gateway.call("PUT", "trading-state", body, token=token or gateway.risk)


def hold(qty):
    Position.objects.create(account=Account.objects.get(code="main"), symbol="AAPL", qty=qty, avg_price=100)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_halted_scope_denies_its_orders_until_the_risk_role_reactivates_it(gateway, broker, scope):
    gateway.tick()
    answer = put(gateway, scope, "halted", "look")
    assert (answer.status_code, answer.json()["state"], answer.json()["in_flight"]) == (200, "halted", [])
    denied = gateway.order("a")
    assert (denied.status_code, denied.json()["code"]) == (422, "order_denied")
    assert denied.json()["detail"] == f"trading_state: {scope} is halted: look"
    assert f"{gateway.prefix}-a" not in broker.ids()
    assert put(gateway, scope, "active", "seen").json()["state"] == "active"
    assert gateway.order("b").status_code == 201


@pytest.mark.parametrize("scope", ["account:other", "strategy:other", "symbol:MSFT"])
def test_a_halt_of_another_scope_does_not_touch_this_order(gateway, broker, scope):
    create_account(code="other", cash=None, broker_account="PA-2")
    create_strategy(code="other", mode="live")
    gateway.tick()
    assert put(gateway, scope, "halted").status_code == 200
    assert gateway.order("a").status_code == 201


def test_the_strictest_state_wins(gateway, broker):
    gateway.tick()
    hold(5)
    put(gateway, "firm", "reducing")
    sale = {"side": "sell", "type": "limit", "limit_price": "100.00", "qty": "2"}
    assert gateway.order("bought").json()["detail"].startswith("trading_state: firm is reducing")
    assert gateway.order("sold", **sale).status_code == 201
    put(gateway, "symbol:AAPL", "halted")
    assert gateway.order("halted", **sale).json()["code"] == "order_denied"


def test_every_change_is_journalled_once_with_who_and_why(gateway, broker):
    put(gateway, "account:main", "halted", "look")
    put(gateway, "account:main", "halted", "again")
    put(gateway, "account:main", "active", "seen")
    kept = JournalEntry.objects.filter(kind="trading_state_changed")
    assert list(kept.values_list("chain", "actor", "data")) == [
        ("account:main", "key:risk", {"before": "active", "after": "halted", "reason": "look"}),
        ("account:main", "key:risk", {"before": "halted", "after": "active", "reason": "seen"}),
    ]
    assert journal.verify("account:main").intact


def test_only_the_risk_role_may_change_a_state_and_only_with_a_reason(gateway):
    refused = put(gateway, "firm", "halted", token=gateway.trader)
    assert (refused.status_code, refused.json()["code"]) == (403, "role_not_allowed")
    wrong = put(gateway, "everything", "paused", reason=" ")
    assert (wrong.status_code, [e["field"] for e in wrong.json()["errors"]]) == (400, ["scope", "reason", "state"])
    nobody = put(gateway, "account:nobody", "halted")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "scope_not_found")
    assert {row["state"] for row in gateway.call("GET", "trading-state").json()["states"]} == {"active"}


def test_a_state_that_is_gone_denies(gateway, broker):
    gateway.tick()
    TradingState.objects.filter(scope="strategy:mean").delete()
    assert gateway.order("a").json()["detail"] == "trading_state: no trading state for strategy:mean"
    assert put(gateway, "strategy:mean", "active", "it was gone").status_code == 200
    assert JournalEntry.objects.get(kind="trading_state_changed").data["before"] == "missing"
    assert gateway.order("b").status_code == 201


def test_a_halt_between_the_decision_and_the_send_withholds_the_order(gateway, broker, monkeypatch):
    gateway.tick()
    decide = orders._decide

    def decide_then_halt(*args):
        judged = decide(*args)
        put(gateway, "symbol:AAPL", "halted")
        return judged

    monkeypatch.setattr(orders, "_decide", decide_then_halt)
    answer = gateway.order("a")
    assert (answer.status_code, answer.json()["order"]["status"]) == (422, "denied")
    assert f"{gateway.prefix}-a" not in broker.ids()


@pytest.fixture
def time_to_send(settings):
    """A busy machine may take its time between the last look and the send."""
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"send_by_seconds": 60.0})


def halt_while_one_is_sent(gateway, broker, monkeypatch, *, sent_after_the_halt):
    """The answer to a halt that comes while an order is past its last look, and what the broker has by then.

    The order is sent as soon as the halt is committed, or only after the halt was answered.
    """
    gateway.tick()
    looked, answered = threading.Event(), threading.Event()
    place = orders._place

    def dwell_and_place(intent, *rest):
        looked.set()
        while sent_after_the_halt and TradingState.objects.get(scope="firm").state != "halted":
            time.sleep(0.01)
        if not sent_after_the_halt:
            answered.wait(60)
        return place(intent, *rest)

    monkeypatch.setattr(orders, "_place", dwell_and_place)
    with ThreadPoolExecutor(1) as pool:
        order = pool.submit(gateway.order, "a")
        assert looked.wait(30)
        answer = put(gateway, "firm", "halted")
        at_the_broker = f"{gateway.prefix}-a" in broker.ids()
        answered.set()
        assert order.result().status_code == 201
    return answer.json()["in_flight"], at_the_broker


def test_a_halt_is_answered_only_when_what_was_under_way_is_there(gateway, broker, monkeypatch, time_to_send):
    patient = partial(trading_states.wait_for_sends, seconds=60)
    monkeypatch.setattr("backend.tradingbot.api.trading_states.wait_for_sends", patient)
    assert halt_while_one_is_sent(gateway, broker, monkeypatch, sent_after_the_halt=True) == ([], True)
    assert Order.objects.get().status == "accepted"


def test_a_halt_that_does_not_wait_is_answered_too_early_and_names_the_order(
    gateway, broker, monkeypatch, time_to_send
):
    """The control: the same order goes out after the answer."""
    hasty = partial(trading_states.wait_for_sends, seconds=0)
    monkeypatch.setattr("backend.tradingbot.api.trading_states.wait_for_sends", hasty)
    sent = halt_while_one_is_sent(gateway, broker, monkeypatch, sent_after_the_halt=False)
    assert sent == ([f"{gateway.prefix}-a"], False)
