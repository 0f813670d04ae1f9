"""A strategy walks from shadow to canary to live and back over generated days, and is refused whatever it lacks.

A day passes by moving everything that was written a day into the past, so that orders, fills and ticks of each day go
through the real doors.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from backend.tradingbot.core.clock import SYSTEM_CLOCK, FixedClock
from backend.tradingbot.models import (
    Account,
    Break,
    Breaker,
    DataStop,
    ModeChange,
    Order,
    Position,
    PromotionRequest,
    StrategyBuild,
)
from backend.tradingbot.risk.promotion import Bar
from backend.tradingbot.services import breakers, mode_watch, promotion_bars
from backend.tradingbot.services.breaks import open_break
from backend.tradingbot.services.keys import create_key
from backend.tradingbot.services.locks import account_scope, locked_risk
from tests.integration.conftest import Broker, Gateway
from tests.integration.test_modes import book_fills, meet

pytestmark = pytest.mark.django_db(transaction=True)

CANARY = Bar(3, 6, None, None, second_person=False)
LIVE = Bar(4, 20, 10.0, 0.2, second_person=True)
MOVED = {
    "order": ("created_at", "updated_at"),
    "execution": ("occurred_at", "recorded_at"),
    "shadowexecution": ("occurred_at", "recorded_at"),
    "shadoworder": ("first_fill_at",),
    "strategybuild": ("mode_since",),
    "promotionrequest": ("requested_at", "expires_at"),
    "datastop": ("since",),
}


def a_day_passes() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for table, columns in MOVED.items():
            moves = ", ".join(f"{column} = {column} - interval '1 day'" for column in columns)
            cursor.execute(f"UPDATE tradingbot_{table} SET {moves}")
        cursor.execute("SET session_replication_role = origin")


class Walk:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.number = gateway, 0
        _, self.second = create_key(name="second", role="risk")
        for to_mode, bar in (("canary", CANARY), ("live", LIVE)):
            made = promotion_bars.set_bar(
                "walk", to_mode, vars(bar), actor="key:risk", reason="a short walk", clock=SYSTEM_CLOCK
            )
            promotion_bars.decide_bar(made.pk, approve=True, actor="key:second", reason="agreed", clock=SYSTEM_CLOCK)
        build = StrategyBuild.objects.select_related("strategy").get()
        build.mode, build.strategy.promotion_profile = "shadow", "walk"
        build.strategy.canary_allocation, build.strategy.canary_max_orders = Decimal("0.5"), 100
        build.save()
        build.strategy.save()

    @property
    def mode(self) -> str:
        return StrategyBuild.objects.get().mode

    def day(self, orders: int) -> list[dict[str, Any]]:
        """Buys and sells in turn, each filled for real and in simulation before the next; then the day is over."""
        placed = []
        for _ in range(orders):
            self.number += 1
            self.gateway.tick()
            answer = self.gateway.order(f"w{self.number}", qty="4", side="buy" if self.number % 2 else "sell")
            assert answer.status_code == 201, answer.text
            placed.append(answer.json())
            book_fills(self.gateway)
            meet("100.00")
        a_day_passes()
        return placed

    def ask(self, token: str | None = None, **body: Any) -> Any:
        return self.gateway.call("POST", "strategies/mean/promote", {"reason": "steady", **body}, token)

    def lacks(self) -> set[str]:
        """The conditions that a promotion is refused for now."""
        answer = self.ask(self.gateway.risk)
        assert (answer.status_code, answer.json()["code"]) == (409, "promotion_refused"), answer.text
        _, _, told = answer.json()["detail"].partition("is not enough: ")
        return {one.partition(":")[0] for one in told.split("; ")}

    def decide(self, token: str, approve: bool = True) -> Any:
        return self.gateway.call("POST", "strategies/mean/decide", {"approve": approve}, token)


@pytest.fixture
def walk(gateway: Gateway, broker: Broker) -> Walk:
    return Walk(gateway)


def refused_while_something_is_wrong(walk: Walk) -> None:
    """Each of the conditions of today, alone: a hard stop of data, an open break, an open breaker."""
    stop = DataStop.objects.create(
        symbol="AAPL", check_name="stale", source="ticks", since=datetime.now(UTC), evidence={}, build_id="b",
        trace_id="t",
    )  # fmt: skip
    assert walk.lacks() == {"hard_verdicts"}
    DataStop.objects.filter(pk=stop.pk).delete()
    clock = FixedClock(datetime.now(UTC))
    with locked_risk(account_scope("main")) as row:
        open_break(row, kind="qty", severity="warning", subject="walk", cause="test", clock=clock)
    assert walk.lacks() == {"open_breaks"}
    Break.objects.all().delete()
    for scope in ("firm", "account:main", "strategy:mean"):
        breakers.trip(scope, actor="test", reason="look", clock=clock)
        assert walk.lacks() == {"open_breakers"}
        breakers.reset(scope, actor="test", reason="fine", force=True, clock=clock)
        Breaker.objects.update(reset_at=None)


def test_a_strategy_walks_up_and_back_and_is_refused_whatever_it_lacks(walk: Walk, broker: Broker) -> None:
    gateway = walk.gateway
    assert walk.lacks() == {"days", "orders"}
    walk.day(2)
    walk.day(2)
    assert walk.lacks() == {"days", "orders"}
    walk.day(1)
    assert walk.lacks() == {"orders"}  # five orders on three days
    walk.day(1)
    refused_while_something_is_wrong(walk)
    assert walk.ask().status_code == 403  # the strategy itself
    assert walk.ask(gateway.risk, reason=" ").status_code == 400
    assert [name for name in broker.ids() if name.startswith(gateway.prefix)] == []
    assert walk.ask(gateway.risk).json()["mode"] == "canary"

    assert walk.lacks() == {
        "days",
        "orders",
        "slippage_bps_difference",
        "fill_rate_difference",
    }  # all is to be shown anew
    placed = [order["placed_qty"] for _ in range(3) for order in walk.day(6)]
    assert set(placed[::2]) == {"2"}  # half of each purchase is real
    assert walk.lacks() == {"days", "orders"}
    walk.day(6)
    refused_while_something_is_wrong(walk)
    waits = walk.ask(gateway.risk)
    assert (waits.status_code, walk.mode) == (202, "canary")
    assert walk.decide(gateway.risk).json()["code"] == "same_person"
    a_day_passes()
    assert walk.decide(walk.second).json()["code"] == "request_expired"
    assert walk.ask(gateway.risk).status_code == 202
    breakers.trip("firm", actor="test", reason="look", clock=SYSTEM_CLOCK)
    assert (
        walk.decide(walk.second).json()["code"] == "promotion_refused"
    )  # what held when it was asked for holds no more
    breakers.reset("firm", actor="test", reason="fine", force=True, clock=SYSTEM_CLOCK)
    Breaker.objects.update(reset_at=None)
    assert walk.decide(walk.second, approve=False).json()["mode"] == "canary"
    assert walk.ask(gateway.risk).status_code == 202
    assert walk.decide(walk.second).json()["mode"] == "live"
    assert walk.ask(gateway.risk).json()["code"] == "already_live"

    walk.number += walk.number % 2  # the next one buys
    live = walk.day(1)
    assert (live[0]["placed_qty"], live[0]["shadow"]) == ("4", None)
    back_down(walk)
    states = list(PromotionRequest.objects.order_by("id").values_list("state", flat=True))
    assert states == ["expired", "refused", "approved"]
    changes = list(ModeChange.objects.order_by("id").values_list("before", "after", "actor", "second"))
    assert changes == [
        ("shadow", "canary", "key:risk", ""),
        ("canary", "live", "key:risk", "key:second"),
        ("live", "shadow", "gateway", ""),
    ]


def back_down(walk: Walk) -> None:
    """Its breaker trips: it is in shadow at once, sells what it holds and no more, and must show everything anew."""
    breakers.trip("strategy:mean", actor="test", reason="runaway", clock=SYSTEM_CLOCK)
    assert mode_watch.watch(clock=SYSTEM_CLOCK) == 1
    build = StrategyBuild.objects.get()
    assert (build.mode, build.demoted) == ("shadow", True)
    held = Position.objects.get(account=Account.objects.get(), symbol="AAPL").qty
    assert held > 0
    walk.gateway.tick()
    out = walk.gateway.order("out", side="sell", qty=str(int(held)))
    assert (out.status_code, out.json()["placed_qty"]) == (201, str(int(held)))
    book_fills(walk.gateway)
    assert Position.objects.get().qty == 0
    breakers.reset("strategy:mean", actor="test", reason="fine", force=True, clock=SYSTEM_CLOCK)
    Breaker.objects.update(reset_at=None)
    mode_watch.watch(clock=SYSTEM_CLOCK)
    assert StrategyBuild.objects.get().demoted is False
    assert walk.gateway.order("again", qty="3").json()["placed_qty"] == "0"
    assert walk.lacks() >= {"days", "orders"}
    assert Order.objects.filter(mode="live").exclude(qty=0).exists()
    assert timedelta(0) < datetime.now(UTC) - build.mode_since < timedelta(hours=1)
