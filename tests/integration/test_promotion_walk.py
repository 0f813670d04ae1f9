"""A strategy walks from shadow to canary to live and back over generated days, and is refused whatever it lacks.

Down it goes by each bound that demotes: from live by its divergence, from canary by its loss, and once more by its
breaker; then its build is withdrawn, and the next one begins where the first began. A day passes by moving everything
that was written a day into the past, so that orders, fills and ticks of each day go through the real doors.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests
from django.db import connection

from backend.tradingbot.core.clock import SYSTEM_CLOCK, FixedClock
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import (
    Break,
    Breaker,
    CanaryDay,
    DataStop,
    ModeChange,
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
    "modechange": ("at",),
    "promotionrequest": ("requested_at", "expires_at"),
    "datastop": ("since",),
}


def a_day_passes() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for table, columns in MOVED.items():
            moves = ", ".join(f"{column} = {column} - interval '1 day'" for column in columns)
            cursor.execute(f"UPDATE tradingbot_{table} SET {moves}")
        for days in (-10_000, 9_999):  # a session must not meet the one before it on the way
            cursor.execute("UPDATE tradingbot_canaryday SET session = session + %s", [days])
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
        build.strategy.canary_max_loss = Decimal(3)
        build.save()
        build.strategy.save()

    @property
    def mode(self) -> str:
        return StrategyBuild.objects.get().mode

    def day(self, orders: int, touch: str | None = "100.00") -> list[dict[str, Any]]:
        """Buys and sells in turn, each filled for real, and simulated at ``touch``, before the next; then it is over.
        Without a touch it only buys, and what is simulated stays open."""
        placed = []
        for _ in range(orders):
            self.number += 1
            self.gateway.tick()
            answer = self.gateway.order(
                f"w{self.number}", qty="4", side="buy" if self.number % 2 or not touch else "sell"
            )
            assert answer.status_code == 201, answer.text
            placed.append(answer.json())
            book_fills(self.gateway)
            if touch:
                meet(touch)
        a_day_passes()
        return placed

    def begin_at(self, price: str) -> None:
        """A price of which nothing that was seen before says that it is odd."""
        hot_state()._redis.flushdb()
        self.gateway.tick(price=price)

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
    walk.day(6, touch=None)
    assert walk.lacks() == {"fill_rate_difference"}  # what was simulated lies open, what was real is filled
    meet("100.00")
    refused_while_something_is_wrong(walk)
    assert walk.ask(gateway.risk, reason="").status_code == 400
    waits = walk.ask(gateway.risk)
    assert (waits.status_code, walk.mode) == (202, "canary")
    assert walk.ask(gateway.risk).json()["code"] == "promotion_waits"  # nobody is two people by asking twice
    assert walk.decide(gateway.risk).json()["code"] == "same_person"
    assert (walk.decide(gateway.trader).status_code, walk.mode) == (403, "canary")  # nor is the strategy the second
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
    report = gateway.call("GET", "strategies/mean/divergence").json()["divergence"]
    assert report["shadow"]["fill_rate"]["n"] == 24  # the canary's: what live orders are held against
    assert report["live"]["fill_rate"]["n"] == 25
    down_from_live_by_divergence(walk)
    down_from_canary_by_its_loss(walk)
    down_by_the_breaker(walk)
    another_build(walk, broker)
    states = list(PromotionRequest.objects.order_by("id").values_list("state", flat=True))
    assert states == ["expired", "refused", "approved"]
    changes = list(ModeChange.objects.order_by("id").values_list("before", "after", "actor", "second"))
    assert changes == [
        ("shadow", "canary", "key:risk", ""),
        ("canary", "live", "key:risk", "key:second"),
        ("live", "canary", "gateway", ""),
        ("canary", "shadow", "gateway", ""),
        ("shadow", "canary", "key:risk", ""),
        ("canary", "shadow", "gateway", ""),
    ]


def flat_again(walk: Walk, name: str) -> None:
    """What is held goes out for real, whatever the mode; nothing new comes in until then, and not a share too much."""
    build, held = StrategyBuild.objects.get(), Position.objects.get().qty
    assert build.demoted is True and held > 0
    walk.gateway.tick()
    assert walk.gateway.order(f"{name}-in", qty="4").json()["placed_qty"] == "0"
    out = walk.gateway.order(f"{name}-out", side="sell", qty=str(int(held) + 1))
    assert (out.status_code, out.json()["placed_qty"]) == (201, str(int(held)))
    book_fills(walk.gateway)
    meet("100.00")
    assert Position.objects.get().qty == 0
    mode_watch.watch(clock=SYSTEM_CLOCK)
    assert StrategyBuild.objects.get().demoted is False


def down_from_live_by_divergence(walk: Walk) -> None:
    """Live, its orders are not filled as the canary's simulated ones were: certain after twenty, and not before."""
    gateway = walk.gateway
    gateway.tick()
    for number in range(19):
        if number == 18:
            assert mode_watch.watch(clock=SYSTEM_CLOCK) == 0  # nineteen orders say nothing yet
        name = f"far-{number}"
        answer = gateway.order(name, qty="1", type="limit", limit_price="99.00")
        assert (answer.status_code, answer.json()["placed_qty"]) == (201, "1"), answer.text
        gateway.call("DELETE", f"orders/{gateway.prefix}-{name}?account=main")
    book_fills(gateway)
    assert mode_watch.watch(clock=SYSTEM_CLOCK) == 1
    change = ModeChange.objects.first()
    assert change is not None and change.reason.startswith("fill_rate of shadow and real orders differ by at least 0.")
    assert change.reason.endswith("the bound is 0.2") and walk.mode == "canary"
    assert mode_watch.watch(clock=SYSTEM_CLOCK) == 0  # it must show everything anew, and is not demoted twice for it
    flat_again(walk, "diverged")


def down_from_canary_by_its_loss(walk: Walk) -> None:
    gateway = walk.gateway
    gateway.tick()
    assert gateway.order("loses", qty="4").json()["placed_qty"] == "2"
    book_fills(gateway)
    meet("100.00")
    walk.begin_at("98.60")
    assert (mode_watch.watch(clock=SYSTEM_CLOCK), CanaryDay.objects.first().loss) == (0, Decimal("2.8"))
    walk.begin_at("98.50")
    assert mode_watch.watch(clock=SYSTEM_CLOCK) == 1
    assert (walk.mode, ModeChange.objects.first().reason) == ("shadow", "the canary lost 3 in a day; the cap is 3")
    walk.begin_at("100.00")
    flat_again(walk, "lost")
    a_day_passes()
    assert walk.lacks() == {"days", "orders"}


def down_by_the_breaker(walk: Walk) -> None:
    """Up to canary once more, where slippage is what is missing this time; then its breaker trips."""
    walk.number += walk.number % 2
    for _ in range(3):
        walk.day(2)
    assert walk.ask(walk.gateway.risk).json()["mode"] == "canary"
    walk.day(4, touch="100.30")  # thirty basis points from where real orders are filled
    assert walk.lacks() >= {"days", "orders", "slippage_bps_difference"}
    told = walk.ask(walk.gateway.risk).json()["detail"]
    assert re.search(r"slippage_bps_difference: at most 10 wanted, [1-9]", told), told  # known, and too much
    walk.day(1)
    breakers.trip("strategy:mean", actor="test", reason="runaway", clock=SYSTEM_CLOCK)
    assert mode_watch.watch(clock=SYSTEM_CLOCK) == 1
    assert (walk.mode, ModeChange.objects.first().reason) == (
        "shadow",
        "the breaker strategy:mean is open: runaway",
    )
    held = int(Position.objects.get().qty)
    walk.gateway.tick()
    assert walk.gateway.order("blocked", qty="3").status_code == 422
    out = walk.gateway.order("out", side="sell", qty=str(held))
    assert (held, out.status_code, out.json()["placed_qty"]) == (2, 201, "2")  # an open breaker lets people out
    book_fills(walk.gateway)
    breakers.reset("strategy:mean", actor="test", reason="fine", force=True, clock=SYSTEM_CLOCK)
    Breaker.objects.update(reset_at=None)
    mode_watch.watch(clock=SYSTEM_CLOCK)
    assert StrategyBuild.objects.get().demoted is False
    assert walk.gateway.order("again", qty="3").json()["placed_qty"] == "0"


def another_build(walk: Walk, broker: Broker) -> None:
    """The build that walked is withdrawn: nothing of it passes, not even a reduction. The next one begins in shadow and
    has nothing to show."""
    gateway, sent = walk.gateway, len(broker.ids())
    withdrawn = {"build_id": "", "reason": "a wrong signal"}
    assert gateway.call("POST", "strategies/mean/withdraw", withdrawn, gateway.risk).status_code == 200
    gateway.tick()
    refused = gateway.order("gone", side="sell", qty="1")
    failed = {c["gate"]: c["code"] for c in refused.json()["order"]["decision"]["checks"] if not c["passed"]}
    assert (refused.status_code, failed["build_allowed"]) == (422, "build_withdrawn")
    assert walk.ask(gateway.risk).json()["code"] == "build_withdrawn"
    made = gateway.call("POST", "strategies/mean/builds", {"build_id": "v2"}).json()
    assert (made["mode"], made["demoted"]) == ("shadow", False)
    headers = {"Authorization": f"Bearer {gateway.trader}", "X-Strategy-Build": "v2"}
    order = requests.post(f"{gateway.url}/api/v1/orders", json=gateway.body("v2"), headers=headers, timeout=30).json()
    assert (order["mode"], order["placed_qty"], order["strategy_build"]) == ("shadow", "0", "v2")
    answer = walk.ask(gateway.risk, build_id="v2")
    assert answer.json()["code"] == "promotion_refused"
    assert "days: at least 3 wanted, 1 found; orders: at least 6 wanted, 1 found" in answer.json()["detail"]
    assert len(broker.ids()) == sent
