"""A strategy that promised signs of life and falls silent may only reduce, until a person says otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError, NotFoundError
from backend.tradingbot.models import JournalEntry, Notification, Order, StrategyHeartbeat, TradingState
from backend.tradingbot.risk.trading_state import Trading
from backend.tradingbot.services import dead_mans_switch, mass_cancel
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.trading_states import set_state

pytestmark = pytest.mark.django_db
SCOPE = "strategy:mean"


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 3, 2, 15, 0, tzinfo=UTC))


@pytest.fixture
def account():
    return create_account(code="main", cash=Decimal(1000), broker_account="silent-1", symbols=["AAPL"])


@pytest.fixture
def strategy(account):
    return create_strategy(code="mean", mode="live")


def beat(strategy, clock, **terms):
    return dead_mans_switch.beat(strategy, terms or None, actor="key:mean-bot", clock=clock)


def state():
    return TradingState.objects.get(scope=SCOPE).state


def open_order(account, strategy, clock):
    now = clock.now()
    return Order.objects.create(
        account=account, strategy=strategy, client_order_id="rest-1", body_digest="0" * 64, symbol="AAPL", side="buy",
        qty=5, type="limit", limit_price=90, time_in_force="day", status="accepted", broker_order_id="b-1",
        build_id="b", trace_id="t", created_at=now, updated_at=now,
    )  # fmt: skip


def test_silence_of_exactly_the_interval_is_none_and_more_is(strategy, clock):
    beat(strategy, clock, interval=10)
    clock.advance(10)
    assert (dead_mans_switch.watch(clock=clock), state()) == (0, "active")
    clock.advance(0.001)
    assert (dead_mans_switch.watch(clock=clock), state()) == (1, "reducing")
    assert dead_mans_switch.watch(clock=clock) == 0
    assert StrategyHeartbeat.objects.get().lost_at == clock.now()
    entry = JournalEntry.objects.get(kind="heartbeat_lost")
    assert (entry.subject, entry.actor, entry.data["interval"]) == (SCOPE, "dead-mans-switch", 10)
    row = Notification.objects.get(kind="heartbeat")
    assert row.title == "HEARTBEAT LOST strategy:mean"
    assert "was silent for 10 s: it may only reduce now." in row.text


def test_signs_of_life_keep_it_active(strategy, clock):
    beat(strategy, clock, interval=10)
    for _ in range(5):
        clock.advance(9)
        assert dead_mans_switch.watch(clock=clock) == 0
        beat(strategy, clock)
    assert JournalEntry.objects.filter(subject=SCOPE, kind__startswith="heartbeat").count() == 1


def test_a_heartbeat_that_comes_back_re_arms_nothing_and_a_person_does(strategy, clock):
    beat(strategy, clock, interval=10)
    clock.advance(11)
    dead_mans_switch.watch(clock=clock)
    assert beat(strategy, clock).lost_at is not None
    assert state() == "reducing"
    set_state(SCOPE, Trading.ACTIVE, actor="admin:ann", reason="restarted", clock=clock)
    assert beat(strategy, clock).lost_at is None
    assert JournalEntry.objects.filter(kind="heartbeat_rearmed").count() == 1
    clock.advance(11)
    assert (dead_mans_switch.watch(clock=clock), state()) == (1, "reducing")


def test_a_strategy_that_is_halted_stays_halted(strategy, clock):
    beat(strategy, clock, interval=10)
    set_state(SCOPE, Trading.HALTED, actor="admin:ann", reason="look", clock=clock)
    clock.advance(11)
    assert (dead_mans_switch.watch(clock=clock), state()) == (1, "halted")


def test_with_the_action_cancel_its_open_orders_are_wished_away(account, strategy, clock):
    order = open_order(account, strategy, clock)
    beat(strategy, clock, interval=10, action="cancel")
    clock.advance(11)
    dead_mans_switch.watch(clock=clock)
    order.refresh_from_db()
    assert order.cancel_requested_at == clock.now()
    assert StrategyHeartbeat.objects.get().cancelled_at == clock.now()


def test_cancels_that_could_not_be_wished_are_wished_at_the_next_look(account, strategy, clock, monkeypatch):
    order = open_order(account, strategy, clock)
    beat(strategy, clock, interval=10, action="cancel")
    clock.advance(11)
    store = mass_cancel.store_wishes

    def killed(*_, **__):
        raise SystemExit

    monkeypatch.setattr(mass_cancel, "store_wishes", killed)
    with pytest.raises(SystemExit):
        dead_mans_switch.watch(clock=clock)
    assert state() == "reducing"
    monkeypatch.setattr(mass_cancel, "store_wishes", store)
    assert dead_mans_switch.watch(clock=clock) == 0
    order.refresh_from_db()
    assert order.cancel_requested_at is not None


def test_with_the_action_reduce_they_stay(account, strategy, clock, settings):
    assert settings.TRADINGBOT.heartbeat_action == "reduce"
    order = open_order(account, strategy, clock)
    beat(strategy, clock, interval=10)
    clock.advance(11)
    dead_mans_switch.watch(clock=clock)
    order.refresh_from_db()
    assert order.cancel_requested_at is None


def test_a_watch_is_ended_on_purpose_and_not_once_it_is_lost(strategy, clock):
    with pytest.raises(NotFoundError):
        dead_mans_switch.end(strategy, actor="key:mean-bot", reason="night", clock=clock)
    beat(strategy, clock, interval=10)
    dead_mans_switch.end(strategy, actor="key:mean-bot", reason="night", clock=clock)
    clock.advance(100)
    assert dead_mans_switch.watch(clock=clock) == 0
    beat(strategy, clock, interval=5)
    clock.advance(6)
    dead_mans_switch.watch(clock=clock)
    with pytest.raises(ConflictError, match="is lost"):
        dead_mans_switch.end(strategy, actor="key:mean-bot", reason="night", clock=clock)


@pytest.mark.parametrize(
    ("terms", "field"),
    [({"action": "cancel"}, "interval"), ({"interval": 0}, "interval"), ({"interval": 3601}, "interval"),
     ({"interval": "1.5"}, "interval"), ({"interval": True}, "interval"), ({"interval": 5, "action": "buy"}, "action"),
     ({"interval": 5, "often": 1}, "often")],
)  # fmt: skip
def test_terms_that_make_no_sense_are_refused_by_name(strategy, clock, terms, field):
    with pytest.raises(InvalidInputError) as caught:
        beat(strategy, clock, **terms)
    assert [error.field for error in caught.value.errors] == [field]
    assert not StrategyHeartbeat.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_over_http_a_strategy_speaks_for_itself_only(gateway):
    create_strategy(code="other", mode="live")
    assert gateway.call("GET", "strategies/mean/heartbeat").status_code == 404
    first = gateway.call("POST", "strategies/mean/heartbeat", {"interval": 60, "action": "cancel"})
    assert (first.status_code, first.json()["state"], first.json()["action"]) == (200, "watched", "cancel")
    assert gateway.call("POST", "strategies/mean/heartbeat").status_code == 200
    assert gateway.call("POST", "strategies/other/heartbeat", {"interval": 60}).status_code == 403
    assert gateway.call("POST", "strategies/mean/heartbeat", {"interval": 60}, gateway.risk).status_code == 403
    assert gateway.call("GET", "strategies/mean/heartbeat", token=gateway.risk).json()["trading_state"] == "active"
    assert gateway.call("DELETE", "strategies/mean/heartbeat", {"reason": "night"}).json()["state"] == "ended"
