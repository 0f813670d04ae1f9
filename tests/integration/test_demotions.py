"""A demotion acts at once, whatever is under way: orders between decision and send, orders that still work, and a
strategy that only seems to be flat."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Order, Position, RiskRow, Strategy, StrategyBuild
from backend.tradingbot.services import mode_watch, orders, promotion
from tests.integration.conftest import Broker, Gateway
from tests.integration.test_modes import book_fills, set_mode

pytestmark = pytest.mark.django_db(transaction=True)
Arrange = Callable[[Callable[[], Any]], None]
ABOUT: dict[str, Any] = {"actor": "test", "reason": "between", "clock": SYSTEM_CLOCK}


@pytest.fixture
def after_the_decision(monkeypatch: pytest.MonkeyPatch) -> Arrange:
    """Have something happen once, after the next decision is committed and before its order is sent."""
    decide, waiting = orders._decide, []

    def decide_then_act(*args: Any, **options: Any) -> Any:
        judged = decide(*args, **options)
        while waiting:
            waiting.pop()()
        return judged

    monkeypatch.setattr(orders, "_decide", decide_then_act)
    return waiting.append


def demote(to: str) -> None:
    promotion.demote(Strategy.objects.get(), "", to=to, **ABOUT)


def withdraw() -> None:
    promotion.withdraw_build(Strategy.objects.get(), "", **ABOUT)


def hold(gateway: Gateway, qty: str) -> None:
    gateway.tick()
    assert gateway.order("held", qty=qty).json()["placed_qty"] == qty
    book_fills(gateway)


@pytest.mark.parametrize(("before", "after"), [("live", "canary"), ("live", "shadow"), ("canary", "shadow")])
def test_a_demotion_between_the_decision_and_the_send_withholds_new_risk(
    gateway: Gateway, broker: Broker, after_the_decision: Arrange, before: str, after: str
) -> None:
    set_mode(before, allocation=Decimal("0.5"))
    gateway.tick()
    after_the_decision(lambda: demote(after))
    answer = gateway.order("a", qty="4")
    assert (answer.status_code, answer.json()["code"]) == (422, "order_denied")
    assert f"the build was demoted to {after} before the order was sent" in answer.json()["detail"]
    assert f"{gateway.prefix}-a" not in broker.ids()
    order = Order.objects.get()
    assert (order.status, order.evidence["deny"]["failed"], order.mode) == ("denied", ["demoted"], before)
    assert RiskRow.objects.get(pk="account:main").reserved_cash == 0


def test_without_the_last_look_a_demotion_comes_too_late(
    gateway: Gateway, broker: Broker, after_the_decision: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same demotion, and nobody looks again."""
    gateway.tick()
    monkeypatch.setattr(orders, "with_stops_of_now", lambda i, a, s, snapshot: (snapshot, SYSTEM_CLOCK.now()))
    after_the_decision(lambda: demote("shadow"))
    assert gateway.order("a").status_code == 201
    assert f"{gateway.prefix}-a" in broker.ids()


def test_a_reduction_is_still_sent_after_a_demotion_and_not_after_a_withdrawal(
    gateway: Gateway, broker: Broker, after_the_decision: Arrange
) -> None:
    hold(gateway, "5")
    gateway.tick()
    after_the_decision(lambda: demote("shadow"))
    out = gateway.order("out", side="sell", qty="2")
    assert (out.status_code, f"{gateway.prefix}-out" in broker.ids()) == (201, True)
    gateway.tick()
    after_the_decision(withdraw)
    gone = gateway.order("gone", side="sell", qty="2")
    assert (gone.status_code, f"{gateway.prefix}-gone" in broker.ids()) == (422, False)
    assert "was withdrawn" in gone.json()["detail"]


def test_a_strategy_whose_order_still_works_is_not_flat(gateway: Gateway, broker: Broker) -> None:
    """It holds nothing at the moment of its demotion, but a purchase of before may fill at any time."""
    set_mode("live", allocation=Decimal(1))
    gateway.tick()
    assert gateway.order("rests", qty="3", type="limit", limit_price="99.00").status_code == 201
    demote("canary")
    mode_watch.watch(clock=SYSTEM_CLOCK)
    assert (Position.objects.exclude(qty=0).count(), StrategyBuild.objects.get().demoted) == (0, True)
    assert gateway.order("more", qty="3").json()["placed_qty"] == "0"
    gateway.call("DELETE", f"orders/{gateway.prefix}-rests?account=main")
    book_fills(gateway)
    gateway.tick()
    assert gateway.order("shares", qty="3").json()["placed_qty"] == "3"  # by its own book, before any watch came by
    mode_watch.watch(clock=SYSTEM_CLOCK)
    assert StrategyBuild.objects.get().demoted is True  # that very order works now
    book_fills(gateway)
    gateway.tick()
    assert gateway.order("next", qty="3").json()["placed_qty"] == "0"
