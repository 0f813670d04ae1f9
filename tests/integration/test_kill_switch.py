"""The kill switch over HTTP: what it cancels, what it leaves alone, when it is done, and how it flattens."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import requests

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.core.clock import SYSTEM_CLOCK, FixedClock
from backend.tradingbot.models import (
    Account,
    AccountExposure,
    JournalEntry,
    KillSwitchRun,
    NameExposure,
    Order,
    RiskRow,
    ShadowOrder,
    SharedHeadroom,
    Strategy,
    StrategyBuild,
)
from backend.tradingbot.services import cancel_pass, cancels, fills, journal, kill_switch, recovery
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.keys import create_key
from tests.integration.conftest import BROKER_HEADERS, MAY_HAMMER
from tests.integration.kill_switch import RESTING, finish, outcomes, place_elsewhere, pull, statuses

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_halts_cancels_what_is_open_and_stays_halted(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    gateway.order("b", **RESTING)
    answer = pull(gateway, reason="fire drill")
    assert (answer.status_code, answer.json()["stage"], answer.json()["in_flight"]) == (202, "cancelling", [])
    assert outcomes(answer.json(), gateway) == {
        "a": ("cancel_requested", "pending_cancel"),
        "b": ("cancel_requested", "pending_cancel"),
    }
    run = finish(gateway, answer)
    assert (run["stage"], run["open_orders"], run["problem"]) == ("done", 0, None)
    assert outcomes(run, gateway) == {"a": ("cancel_requested", "canceled"), "b": ("cancel_requested", "canceled")}
    assert statuses(broker, gateway) == {"a": "canceled", "b": "canceled"}
    assert gateway.order("c", **RESTING).json()["detail"] == "trading_state: firm is halted: fire drill"
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 0
    kinds = JournalEntry.objects.filter(chain="firm", subject="firm").values_list("kind", "actor")
    assert list(kinds) == [
        ("trading_state_changed", "key:risk"),
        ("kill_switch_pulled", "key:risk"),
        ("kill_switch_done", "key:risk"),
    ]
    assert journal.verify("account:main").intact and journal.verify("firm").intact


@pytest.fixture
def wider(gateway, keys_of_every_account):
    """A second account and a second strategy, with keys, and one resting order each of four kinds."""
    bound = Account.objects.get(code="main")
    like = {"symbols": ["AAPL", "MSFT"], "session_calendar": "24/7", "limits": MAY_HAMMER}
    other = create_account(code="other", cash=Decimal(10_000), broker_account="PA-2", **like)
    trend = create_strategy(code="trend", mode="live")
    _, second = create_key(name="second", role="trader", account=bound, strategy=trend)
    _, third = create_key(name="third", role="trader", account=other, strategy=Strategy.objects.get(code="mean"))
    for symbol in ("AAPL", "MSFT"):
        gateway.tick(symbol)
    gateway.order("plain", **RESTING)
    gateway.order("symbol", **RESTING, symbol="MSFT")
    gateway.call("POST", "orders", gateway.body("strategy", **RESTING, strategy="trend"), token=second)
    gateway.call("POST", "orders", gateway.body("account", **RESTING, account="other"), token=third)
    assert Order.objects.filter(status="accepted").count() == 4
    return gateway


def assert_exposure_is_that_of_the_open_orders():
    """Account, name and shared sums, against what is open: every order here is for one share at 90, marked at 100."""
    still = Order.objects.filter(status="accepted").values_list("account__code", "strategy__code", "symbol")
    gross = {code: Decimal(100) * sum(a == code for a, _, _ in still) for code in ("main", "other")}
    assert dict(AccountExposure.objects.values_list("account__code", "gross")) == gross
    named = {(a, s): g for a, s, g in NameExposure.objects.values_list("account__code", "symbol", "gross") if g}
    assert named == {pair: 100 * sum((a, s) == pair for a, _, s in still) for pair in {(a, s) for a, _, s in still}}
    shared = dict(SharedHeadroom.objects.values_list("scope", "reserved"))
    assert shared["firm"] == 100 * len(still)
    assert shared["symbol:MSFT"] == 100 * sum(s == "MSFT" for _, _, s in still)


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        ("firm", set()),
        ("account:main", {"account"}),
        ("account:other", {"plain", "symbol", "strategy"}),
        ("strategy:trend", {"plain", "symbol", "account"}),
        ("symbol:MSFT", {"plain", "strategy", "account"}),
    ],
)
def test_it_cancels_what_its_scope_covers_and_nothing_else(wider, broker, scope, left):
    run = finish(wider, pull(wider, scope))
    assert run["stage"] == "done"
    assert_exposure_is_that_of_the_open_orders()
    assert {name for name, status in statuses(broker, wider).items() if status == "new"} == left
    assert {o["client_order_id"].removeprefix(f"{wider.prefix}-") for o in run["orders"]} == {
        "plain", "symbol", "strategy", "account",
    } - left  # fmt: skip


@pytest.mark.parametrize("scope", ["firm", "account:main", "symbol:AAPL"])
def test_an_order_that_was_placed_elsewhere_is_cancelled_and_named(gateway, broker, scope):
    gateway.tick()
    gateway.order("ours", **RESTING)
    stranger = place_elsewhere(gateway, broker, "stranger")
    other_symbol = place_elsewhere(gateway, broker, "other", symbol="MSFT")
    run = finish(gateway, pull(gateway, scope))
    seen = statuses(broker, gateway)
    assert (run["stage"], seen["ours"], seen["stranger"]) == ("done", "canceled", "canceled")
    named = {o["broker_order_id"] for o in run["external_orders"]}
    assert stranger in named
    assert (other_symbol in named, seen["other"]) == ((False, "new") if scope == "symbol:AAPL" else (True, "canceled"))


def test_an_order_in_doubt_is_cancelled_at_the_broker_and_keeps_the_run_going(gateway, broker):
    gateway.tick()
    broker.fault("drop_after_accept")
    assert gateway.order("lost", **RESTING).json()["status"] == "in_doubt"
    answer = pull(gateway)
    assert statuses(broker, gateway) == {"lost": "canceled"}
    run = finish(gateway, answer, passes=2)
    assert (run["stage"], run["open_orders"], outcomes(run, gateway)["lost"]) == (
        "cancelling",
        1,
        ("wish_stored", "in_doubt"),
    )
    recovery.recover(clock=SYSTEM_CLOCK)
    run = finish(gateway, answer)
    assert (run["stage"], outcomes(run, gateway)["lost"][1]) == ("done", "canceled")


def test_an_order_that_never_arrived_lets_the_run_end_only_when_that_is_known(gateway, broker):
    gateway.tick()
    broker.fault("drop_before")
    assert gateway.order("gone", **RESTING).json()["status"] == "in_doubt"
    answer = pull(gateway)
    assert finish(gateway, answer, passes=2)["stage"] == "cancelling"
    clock = FixedClock(datetime.now(UTC))
    for _ in range(4):
        recovery.recover(clock=clock)
        clock.advance(60)
    run = finish(gateway, answer)
    assert (run["stage"], outcomes(run, gateway)["gone"][1]) == ("done", "never_arrived")


@pytest.mark.parametrize("target", ["lookup", "cancel"])
def test_a_broker_that_does_not_answer_keeps_the_run_going_until_it_does(gateway, broker, target):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.fault("error_500", target=target, times=None)
    answer = pull(gateway)
    assert answer.status_code == 202
    run = finish(gateway, answer, passes=2)
    assert (run["stage"], bool(run["problem"]), run["finished_at"]) == ("cancelling", target != "cancel", None)
    assert gateway.order("b", **RESTING).json()["code"] == "order_denied"
    broker.heal()
    clock = FixedClock(datetime.now(UTC))
    clock.advance(4)
    run = finish(gateway, answer, clock)
    assert (run["stage"], run["problem"], statuses(broker, gateway)["a"]) == ("done", None, "canceled")


def test_a_second_pull_joins_the_run_and_may_add_the_flattening(gateway, broker):
    gateway.tick()
    gateway.order("a", **RESTING)
    broker.fault("error_500", target="lookup", times=None)
    first = pull(gateway, "account:main").json()
    again = pull(gateway, "account:main").json()
    added = pull(gateway, "account:main", flatten=True).json()
    never_less = pull(gateway, "account:main", flatten=False).json()
    assert first["run"] == again["run"] == added["run"] == never_less["run"]
    assert [run["flatten"] for run in (first, again, added, never_less)] == [False, False, True, True]
    kinds = list(
        JournalEntry.objects.filter(subject="account:main", kind__startswith="kill").values_list("kind", flat=True)
    )
    assert kinds == ["kill_switch_pulled", "kill_switch_flatten_added"]
    assert KillSwitchRun.objects.count() == 1


def test_nothing_open_is_done_at_once(gateway, broker):
    kill_switch.advance(pull(gateway).json()["run"], clock=SYSTEM_CLOCK)  # what earlier tests left at the broker
    answer = pull(gateway)
    assert (answer.status_code, answer.json()["stage"], answer.json()["orders"]) == (200, "done", [])


def test_trading_is_reactivated_by_the_risk_role_and_not_before_the_run_has_ended(gateway, broker):
    gateway.tick()
    broker.fault("error_500", target="lookup", times=None)
    token = pull(gateway).json()["run"]
    active = {"scope": "firm", "state": "active", "reason": "go on"}
    early = gateway.call("PUT", "trading-state", active, token=gateway.risk)
    assert (early.status_code, early.json()["code"]) == (409, "kill_switch_running")
    assert gateway.call("POST", f"kill-switch/{token}/stop", {"reason": "enough"}).status_code == 403
    assert gateway.call("POST", f"kill-switch/{token}/stop", {}, token=gateway.risk).status_code == 400
    stopped = gateway.call("POST", f"kill-switch/{token}/stop", {"reason": "enough"}, token=gateway.risk)
    assert (stopped.status_code, stopped.json()["stage"]) == (200, "stopped")
    again = gateway.call("POST", f"kill-switch/{token}/stop", {"reason": "enough"}, token=gateway.risk)
    assert (again.status_code, again.json()["code"]) == (409, "kill_switch_ended")
    assert gateway.order("halted").json()["code"] == "order_denied"
    assert gateway.call("PUT", "trading-state", active, token=gateway.risk).status_code == 200
    assert gateway.order("b").status_code == 201


def test_only_the_risk_role_pulls_it_and_a_wrong_body_is_named(gateway):
    assert (pull(gateway, token=gateway.trader).status_code, KillSwitchRun.objects.count()) == (403, 0)
    wrong = pull(gateway, "all", flatten="yes", reason="", when="now").json()
    assert [e["field"] for e in wrong["errors"]] == ["when", "scope", "flatten", "reason"]
    assert pull(gateway, "account:nobody").json()["code"] == "scope_not_found"
    missing = gateway.call("GET", "kill-switch/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "run_not_found")
    assert gateway.call("GET", "kill-switch").json() == {"runs": []}


def test_cancel_all_takes_the_callers_own_orders_and_leaves_trading_on(wider, broker):
    answer = wider.call("POST", "orders/cancel-all", {"account": "main"})
    assert answer.status_code == 202
    assert {
        (o["client_order_id"].removeprefix(f"{wider.prefix}-"), o["outcome"], o["status"])
        for o in answer.json()["orders"]
    } == {
        ("plain", "cancel_requested", "pending_cancel"),
        ("symbol", "cancel_requested", "pending_cancel"),
    }
    assert {n for n, status in statuses(broker, wider).items() if status == "new"} == {"strategy", "account"}
    assert wider.order("next", **RESTING).status_code == 201
    foreign = wider.call("POST", "orders/cancel-all", {"account": "other"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "not_your_account")
    every = wider.call("POST", "orders/cancel-all", {"account": "main", "symbol": "AAPL"}, token=wider.risk)
    assert {o["client_order_id"].removeprefix(f"{wider.prefix}-") for o in every.json()["orders"]} == {
        "plain",
        "strategy",
        "next",
    }
    wrong = wider.call("POST", "orders/cancel-all", {"account": "main", "symbol": "??", "all": True})
    assert [e["field"] for e in wrong.json()["errors"]] == ["all", "symbol"]


def five_hundred_open(gateway, broker):
    """Resting orders at the broker with their rows here; the order path made the first, and the others are its like."""
    gateway.tick()
    gateway.order("0", **RESTING)
    made = Order.objects.get()
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: place_elsewhere(gateway, broker, str(number)), range(1, 500)))
    others = [copy(made) for _ in ids]
    for number, (order, broker_id) in enumerate(zip(others, ids, strict=True), 1):
        order.pk, order.client_order_id, order.broker_order_id = None, f"{gateway.prefix}-{number}", broker_id
    Order.objects.bulk_create(others)
    RiskRow.objects.filter(pk="account:main").update(reserved_cash=500 * 90, cash=1_000_000, equity=1_000_000)


@pytest.mark.timeout(180)
def test_five_hundred_open_orders_are_gone_soon_and_posts_meanwhile_are_denied(gateway, broker, capsys):
    five_hundred_open(gateway, broker)
    done = []

    def keep_posting(poster):
        codes = []
        while not done:
            gateway.tick()
            codes.append(gateway.order(f"{poster}-{len(codes)}-during", qty="1").json())
        return codes

    began = time.monotonic()
    answer = pull(gateway, "account:main", reason="five hundred")
    open_there = [s for s in statuses(broker, gateway).values() if s == "new"]
    at_the_broker = time.monotonic() - began
    with ThreadPoolExecutor(2) as pool:
        posters = [pool.submit(keep_posting, poster) for poster in range(2)]
        run = finish(gateway, answer)
        in_the_books = time.monotonic() - began
        done.append(True)
        posted = [answer for poster in posters for answer in poster.result()]
    assert (run["stage"], len(run["orders"]), open_there) == ("done", 500, [])
    assert {o["status"] for o in run["orders"]} == {"canceled"}
    assert posted and {p["code"] for p in posted} == {"order_denied"}
    assert not any(name.endswith("during") for name in broker.ids())
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 0
    with capsys.disabled():
        print(f"\nkill switch, 500 open: {at_the_broker:.2f} s at the broker, {in_the_books:.2f} s in the books")


def test_many_orders_that_ended_at_once_are_read_by_a_listing(gateway, broker, monkeypatch):
    gateway.tick()
    for number in range(25):
        gateway.order(str(number), **RESTING)
    requests.delete(f"{broker.url}/v2/orders", headers=BROKER_HEADERS, timeout=10).raise_for_status()
    asked = []
    monkeypatch.setattr(AlpacaClient, "get_order", lambda self, broker_id: asked.append(broker_id))
    fills.poll_account(Account.objects.get(code="main"), clock=SYSTEM_CLOCK)
    assert set(Order.objects.values_list("status", flat=True)) == {"canceled"}
    assert asked == []


def test_the_shadow_book_ends_with_the_switch(gateway, broker):
    StrategyBuild.objects.update(mode="shadow")
    gateway.tick()
    placed = gateway.order("shadowed", **RESTING)
    assert (placed.status_code, placed.json()["mode"]) == (201, "shadow")
    answer = pull(gateway, "account:main")
    assert outcomes(answer.json(), gateway) == {"shadowed": ("simulated", "canceled")}
    assert finish(gateway, answer)["stage"] == "done"
    assert ShadowOrder.objects.get().status == "canceled"
    assert f"{gateway.prefix}-shadowed" not in broker.ids()


def test_cancel_all_ends_the_shadow_book_as_well(gateway, broker):
    gateway.tick()
    gateway.order("live", **RESTING)
    StrategyBuild.objects.update(mode="shadow")
    gateway.order("shadowed", **RESTING)
    answer = gateway.call("POST", "orders/cancel-all", {"account": "main"}).json()["orders"]
    assert {(o["client_order_id"].removeprefix(f"{gateway.prefix}-"), o["outcome"], o["status"]) for o in answer} == {
        ("live", "cancel_requested", "pending_cancel"),
        ("shadowed", "simulated", "canceled"),
    }


@pytest.mark.parametrize(("scope", "all_at_once"), [("symbol:MSFT", False), ("strategy:mean", False), ("firm", True)])
def test_one_request_for_all_is_made_only_where_nothing_of_anothers_can_come_in_between(
    gateway, broker, monkeypatch, scope, all_at_once
):
    gateway.tick("MSFT")
    gateway.order("theirs", **RESTING, symbol="MSFT")
    real = cancel_pass.mass_cancel.ask_for_all
    asked = []

    def ask_for_all(client):
        asked.append(scope)
        return real(client)

    def after_the_listing(run, listed):
        place_elsewhere(gateway, broker, "between")  # of another symbol, and of nobody's strategy
        return strangers(run, listed)

    strangers = cancel_pass._strangers
    monkeypatch.setattr(cancel_pass.mass_cancel, "ask_for_all", ask_for_all)
    monkeypatch.setattr(cancel_pass, "_strangers", after_the_listing)
    run = kill_switch.pull(scope, flattening=False, reason="test", actor="test", clock=SYSTEM_CLOCK)
    kill_switch.advance(run.token, clock=SYSTEM_CLOCK, settling=False)
    assert statuses(broker, gateway)["theirs"] == "canceled"
    assert (statuses(broker, gateway)["between"], bool(asked)) == (("canceled" if all_at_once else "new"), all_at_once)


def test_an_order_that_was_given_up_is_cancelled_should_it_arrive_after_the_switch(gateway, broker):
    gateway.tick()
    broker.fault("drop_before")
    assert gateway.order("late", **RESTING).status_code == 202
    clock = FixedClock(datetime.now(UTC) + timedelta(seconds=1))
    for _ in range(3):
        recovery.recover(clock=clock)
        clock.advance(60)
    assert gateway.read("late")["status"] == "never_arrived"
    assert finish(gateway, pull(gateway, "account:main"))["stage"] == "done"
    place_elsewhere(gateway, broker, "late")
    fills.poll_account(Account.objects.get(code="main"), clock=SYSTEM_CLOCK)
    assert gateway.read("late")["status"] == "accepted"
    assert cancels.send_wished_cancels(clock=SYSTEM_CLOCK) == 1
    assert statuses(broker, gateway)["late"] == "canceled"
