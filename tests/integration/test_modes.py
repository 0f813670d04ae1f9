"""Shadow, canary and live over HTTP: what reaches the broker, what is only simulated, and who may change that."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError
from backend.tradingbot.execution.shadow_fill import Touch
from backend.tradingbot.models import (
    Account,
    CanaryDay,
    Execution,
    ModeChange,
    Order,
    Position,
    ShadowExecution,
    ShadowName,
    StrategyBuild,
)
from backend.tradingbot.selectors import evidence
from backend.tradingbot.services import marking, mode_watch, promotion, recovery, shadow
from backend.tradingbot.services.breakers import trip
from backend.tradingbot.services.breaks import open_break
from backend.tradingbot.services.fills import poll_account
from backend.tradingbot.services.keys import create_key
from backend.tradingbot.services.locks import account_scope, locked_risk
from tests.integration.conftest import Broker, Gateway

pytestmark = pytest.mark.django_db(transaction=True)


def set_mode(mode: str, **canary: Any) -> StrategyBuild:
    build = StrategyBuild.objects.select_related("strategy").get(strategy__code="mean", build_id="")
    for name, value in canary.items():
        setattr(build.strategy, f"canary_{name}", value)
    build.strategy.save()
    build.mode, build.mode_since = mode, datetime.now(UTC) - timedelta(seconds=1)
    build.save()
    return build


def book_fills(gateway: Gateway) -> None:
    poll_account(Account.objects.get(code="main"), clock=FixedClock(datetime.now(UTC)))


def meet(price: str, size: str = "1000", symbol: str = "AAPL") -> int:
    """A tick that comes a little later than every order so far."""
    at = datetime.now(UTC) + timedelta(seconds=1)
    figure = Decimal(price)
    return shadow.match({symbol: Touch(at, figure, Decimal(size), figure, figure)}, clock=FixedClock(at))


def test_a_shadow_order_meets_every_gate_and_never_reaches_the_broker(gateway: Gateway, broker: Broker) -> None:
    set_mode("shadow")
    denied = gateway.order("blind")
    assert (denied.status_code, denied.json()["code"]) == (422, "order_denied")
    gateway.tick()
    answer = gateway.order("one", qty="7")
    order = answer.json()
    assert (answer.status_code, order["status"], order["mode"]) == (201, "accepted", "shadow")
    assert (order["qty"], order["placed_qty"], order["broker_order_id"]) == ("7", "0", None)
    assert {c["gate"]: c["code"] for c in order["decision"]["checks"]}["strategy_mode"] == "shadow"
    again = gateway.order("one", qty="7")
    assert (again.status_code, again.json()["created_at"]) == (200, order["created_at"])
    assert meet("100.00", size="4") == 1
    assert gateway.read("one")["shadow"] == {"status": "open", "qty": "7", "filled_qty": "4", "avg_price": "100"}
    assert meet("100.02") == 1
    filled = gateway.read("one")
    assert (filled["status"], filled["shadow"]["filled_qty"], filled["filled_qty"]) == ("filled", "7", "0")
    assert [name for name in broker.ids() if name.startswith(gateway.prefix)] == []
    assert (Execution.objects.count(), Position.objects.exclude(qty=0).count()) == (0, 0)


def test_a_shadow_exit_closes_the_shadow_position(gateway: Gateway, broker: Broker) -> None:
    set_mode("shadow")
    gateway.tick()
    gateway.order("in", qty="7")
    meet("100.00")
    assert gateway.order("out", qty="7", side="sell").status_code == 201
    meet("101.00")
    name = ShadowName.objects.get()
    assert (name.position, name.realized_pnl, name.buys, name.sells, name.reserved) == (0, Decimal(7), 0, 0, 0)
    assert gateway.order("more", qty="1", side="sell").status_code == 422  # a short that no short limit allows


def test_shadow_orders_are_judged_on_the_shadow_book_as_well(gateway: Gateway, broker: Broker) -> None:
    set_mode("shadow")
    gateway.tick()
    assert gateway.order("much", qty="40").status_code == 201
    meet("100.00")
    answer = gateway.order("beyond", qty="40")  # half of 10,000 is what one name may be worth
    failed = {check["gate"] for check in answer.json()["order"]["decision"]["checks"] if not check["passed"]}
    assert (answer.status_code, failed) == (422, {"concentration"})


def test_a_cancelled_shadow_order_ends_and_gives_back_what_it_held(gateway: Gateway, broker: Broker) -> None:
    set_mode("shadow")
    gateway.tick()
    gateway.order("one", qty="7", type="limit", limit_price="99.00")
    name = ShadowName.objects.get()
    assert (name.buys, name.reserved) == (Decimal(7), Decimal(693))
    path = f"orders/{gateway.prefix}-one?account=main"
    assert gateway.call("DELETE", path).json()["status"] == "canceled"
    assert gateway.call("DELETE", path).status_code == 409
    name.refresh_from_db()
    assert (name.buys, name.reserved, name.gross) == (0, 0, 0)


def test_a_canary_places_its_exact_share_and_shadows_the_rest(gateway: Gateway, broker: Broker) -> None:
    set_mode("canary", allocation=Decimal("0.1"))
    gateway.tick(price="50.00")
    placed = []
    for number, qty in enumerate((25, 9, 10, 39)):
        order = gateway.order(f"c{number}", qty=str(qty)).json()
        assert order["qty"] == str(qty)
        placed.append(order["placed_qty"])
        book_fills(gateway)
        meet("50.00")
    assert placed == ["2", "0", "1", "3"]
    orders = {row["client_order_id"]: row["qty"] for row in broker.ledger()["orders"]}
    mine = {name.removeprefix(f"{gateway.prefix}-"): qty for name, qty in orders.items() if gateway.prefix in name}
    assert {name: Decimal(qty) for name, qty in mine.items()} == {"c0": 2, "c2": 1, "c3": 3}
    assert Position.objects.get().qty == 6
    assert ShadowName.objects.get().position == 77
    day = CanaryDay.objects.get()
    assert day.orders == 3


def test_a_canarys_daily_cap_shadows_what_would_pass_it(gateway: Gateway, broker: Broker) -> None:
    set_mode("canary", allocation=Decimal(1), max_orders=1)
    gateway.tick()
    assert gateway.order("one", qty="2").json()["placed_qty"] == "2"
    capped = gateway.order("two", qty="2").json()
    assert capped["placed_qty"] == "0"
    assert {c["gate"]: c["code"] for c in capped["decision"]["checks"]}["strategy_mode"] == "cap_reached"


def test_a_demoted_strategy_really_sells_what_it_holds_and_no_more(gateway: Gateway, broker: Broker) -> None:
    gateway.tick()
    gateway.order("in", qty="10")
    book_fills(gateway)
    assert Position.objects.get().qty == 10
    body = {"to": "shadow", "reason": "slippage looks wrong"}
    assert gateway.call("POST", "strategies/mean/demote", body).status_code == 403
    demoted = gateway.call("POST", "strategies/mean/demote", body, gateway.risk).json()
    assert (demoted["mode"], demoted["demoted"]) == ("shadow", True)
    gateway.tick()
    assert gateway.order("more", qty="3").json()["placed_qty"] == "0"
    out = gateway.order("out", qty="10", side="sell").json()
    assert (out["placed_qty"], out["shadow"]) == ("10", None)
    book_fills(gateway)
    assert Position.objects.get().qty == 0
    mode_watch.watch(clock=FixedClock(datetime.now(UTC)))
    assert StrategyBuild.objects.get().demoted is False


def test_a_tripped_strategy_breaker_demotes_a_live_strategy(gateway: Gateway, broker: Broker) -> None:
    trip("strategy:mean", actor="test", reason="runaway", clock=FixedClock(datetime.now(UTC)))
    assert mode_watch.watch(clock=FixedClock(datetime.now(UTC))) == 1
    change = ModeChange.objects.get()
    assert (change.before, change.after, change.actor) == ("live", "shadow", "gateway")
    assert change.reason == "the breaker strategy:mean is open: runaway"


def test_a_canary_that_loses_its_daily_cap_is_demoted(gateway: Gateway, broker: Broker) -> None:
    set_mode("canary", allocation=Decimal(1), max_loss=Decimal(20))
    gateway.tick()
    gateway.order("in", qty="10")
    book_fills(gateway)
    gateway.tick(price="98.10")
    assert mode_watch.watch(clock=FixedClock(datetime.now(UTC))) == 0
    assert CanaryDay.objects.get().loss == 19
    gateway.tick(price="98.00")
    assert mode_watch.watch(clock=FixedClock(datetime.now(UTC))) == 1
    assert StrategyBuild.objects.get().mode == "shadow"


def test_a_new_build_starts_in_shadow_and_a_withdrawn_one_trades_nothing(gateway: Gateway, broker: Broker) -> None:
    assert gateway.call("POST", "strategies/mean/builds", {"build_id": "v2"}).json()["mode"] == "shadow"
    gateway.tick()

    def post(name: str, build: str) -> Any:
        headers = {"Authorization": f"Bearer {gateway.trader}", "X-Strategy-Build": build}
        return requests.post(f"{gateway.url}/api/v1/orders", json=gateway.body(name), headers=headers, timeout=30)

    order = post("new", "v2").json()
    assert (order["mode"], order["placed_qty"], order["strategy_build"]) == ("shadow", "0", "v2")
    unknown = post("unknown", "v9").json()["order"]["decision"]["checks"]
    assert {c["gate"]: c["code"] for c in unknown}["strategy_mode"] == "mode_unknown"
    body = {"build_id": "v2", "reason": "wrong signal"}
    assert gateway.call("POST", "strategies/mean/withdraw", body, gateway.risk).status_code == 200
    gone = post("gone", "v2").json()["order"]["decision"]["checks"]
    assert {c["gate"]: c["code"] for c in gone}["build_allowed"] == "build_withdrawn"
    assert post("bad", "v 2").status_code == 400


def test_with_known_builds_only_an_order_that_names_none_is_denied(
    gateway: Gateway, broker: Broker, settings: Any
) -> None:
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"known_builds_only": True})
    gateway.tick()
    checks = gateway.order("one").json()["order"]["decision"]["checks"]
    assert {c["gate"]: c["code"] for c in checks if not c["passed"]} == {"build_allowed": "build_unknown"}


def test_a_strategy_walks_up_by_evidence_and_two_people_and_down_at_once(
    gateway: Gateway, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = set_mode("shadow")
    ask = {"reason": "two weeks without a surprise"}
    refused = gateway.call("POST", "strategies/mean/promote", ask, gateway.risk)
    assert (refused.status_code, refused.json()["code"]) == (409, "promotion_refused")
    assert "days: at least 5 wanted, 0 found" in refused.json()["detail"]
    build.strategy.promotion_profile = "demo"
    build.strategy.save()
    monkeypatch.setattr(evidence, "hard_verdicts", lambda symbols, since: 0)
    assert gateway.call("POST", "strategies/mean/promote", ask, gateway.risk).status_code == 409  # no order yet
    gateway.tick()
    gateway.order("one")
    assert gateway.call("POST", "strategies/mean/promote", {}, gateway.risk).status_code == 400  # no reason
    assert gateway.call("POST", "strategies/mean/promote", ask).status_code == 403  # the strategy itself
    assert gateway.call("POST", "strategies/mean/promote", ask, gateway.risk).json()["mode"] == "canary"
    for name in ("two", "three"):
        gateway.order(name)
    waits = gateway.call("POST", "strategies/mean/promote", ask, gateway.risk)
    assert (waits.status_code, waits.json()["mode"]) == (202, "canary")
    assert gateway.call("POST", "strategies/mean/promote", ask, gateway.risk).json()["code"] == "promotion_waits"
    yes = {"approve": True}
    assert gateway.call("POST", "strategies/mean/decide", yes, gateway.risk).json()["code"] == "same_person"
    _, second = create_key(name="second", role="risk")
    assert gateway.call("POST", "strategies/mean/decide", yes, second).json()["mode"] == "live"
    changes = list(ModeChange.objects.order_by("id").values_list("before", "after", "actor", "second"))
    assert changes == [("shadow", "canary", "key:risk", ""), ("canary", "live", "key:risk", "key:second")]
    down = gateway.call("POST", "strategies/mean/demote", {"to": "shadow", "reason": "enough"}, gateway.risk)
    assert down.json()["mode"] == "shadow"
    up = gateway.call("POST", "strategies/mean/demote", {"to": "live", "reason": "no"}, gateway.risk)
    assert up.status_code == 400


def test_an_open_break_and_an_expired_request_stop_a_promotion(
    gateway: Gateway, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = set_mode("canary")
    build.strategy.promotion_profile = "demo"
    build.strategy.save()
    monkeypatch.setattr(evidence, "hard_verdicts", lambda symbols, since: 0)
    gateway.tick()
    for name in ("one", "two"):
        assert gateway.order(name).status_code == 201
    clock = FixedClock(datetime.now(UTC))
    account = Account.objects.get(code="main")
    about = {"actor": "admin:ann", "reason": "steady", "clock": clock}
    promotion.promote(build.strategy, "", **about)
    clock.advance(86_400)
    with pytest.raises(ConflictError, match="the request has expired"):
        promotion.decide(build.strategy, "", approve=True, actor="admin:bob", clock=clock)
    promotion.promote(build.strategy, "", **about)
    with locked_risk(account_scope(account.code)) as row:
        open_break(row, kind="qty", severity="warning", subject="x", cause="test", clock=clock)
    with pytest.raises(ConflictError, match="open_breaks: at most 0 wanted, 1 found"):
        promotion.decide(build.strategy, "", approve=True, actor="admin:bob", clock=clock)
    assert StrategyBuild.objects.get().mode == "canary"


def test_the_divergence_report_names_both_sides_and_what_the_next_step_lacks(gateway: Gateway, broker: Broker) -> None:
    set_mode("canary", allocation=Decimal("0.5"))
    gateway.tick()
    for number in range(3):
        gateway.order(f"d{number}", qty="4")
    book_fills(gateway)
    meet("100.00")
    report = gateway.call("GET", "strategies/mean/divergence").json()
    assert report["divergence"]["live"]["fill_rate"]["n"] == 3
    assert report["divergence"]["shadow"]["fill_rate"] == report["divergence"]["live"]["fill_rate"]
    assert report["next_step"]["to"] == "live"
    assert Order.objects.filter(mode="canary").count() == 3


def many_shadow_orders(gateway: Gateway, broker: Broker, count: int) -> None:
    """Random orders of a shadow strategy; ticks, cancels and all that runs beside them in between: the broker's ledger
    stays as it was to the last order, until the strategy is live and its first order is found there."""
    chance, codes = random.Random(20260302), Counter[int]()
    set_mode("shadow")
    gateway.tick()
    before = broker.ledger()["orders"]
    for number in range(count):
        kind = chance.choice(["market", "limit"])
        changes: dict[str, Any] = {
            "side": chance.choice(["buy", "buy", "sell"]),
            "qty": str(chance.randint(1, 4)),
            "type": kind,
            "time_in_force": chance.choice(["day", "gtc", "ioc"]),
        }
        if kind == "limit":
            changes["limit_price"] = f"{chance.randint(9900, 10100) / 100:.2f}"
        if number % 50 == 0:
            gateway.tick()
        codes[gateway.order(f"s{number}", **changes).status_code] += 1
        if chance.random() < 0.6:
            meet(f"{chance.randint(9950, 10050) / 100:.2f}", size=str(chance.randint(1, 20)))
        if chance.random() < 0.1:
            gateway.call("DELETE", f"orders/{gateway.prefix}-s{chance.randint(0, number)}?account=main")
        if number % 20 == 19:
            what_runs_beside(gateway, cancel_all=number % 40 == 39)
    assert codes[201] > count / 2 and codes[422] and sum(codes.values()) == codes[201] + codes[422] == count
    assert broker.ledger()["orders"] == before
    assert Order.objects.exclude(status="denied").exclude(qty=0).count() == 0
    assert (Execution.objects.count(), Position.objects.exclude(qty=0).count()) == (0, 0)
    booked = Counter(ShadowExecution.objects.values_list("order__side", flat=True))
    assert booked["buy"] > count / 10 and booked["sell"] > count / 20
    gateway.call("POST", "orders/cancel-all", {"account": "main"})
    set_mode("live")
    gateway.tick()
    assert gateway.order("real", qty="1").status_code == 201
    assert [row["client_order_id"] for row in broker.ledger()["orders"][len(before) :]] == [f"{gateway.prefix}-real"]


def what_runs_beside(gateway: Gateway, cancel_all: bool) -> None:
    """What beat does meanwhile, and at times a person who cancels all; a large shadow position makes room again."""
    gateway.tick()
    clock = FixedClock(datetime.now(UTC))
    book_fills(gateway)
    recovery.recover(clock=clock)
    marking.mark_all(clock=clock)  # unmarked for long, an account takes no new risk, not even a simulated one
    mode_watch.watch(clock=clock)
    shadow.expire(clock=clock)
    if cancel_all:
        assert gateway.call("POST", "orders/cancel-all", {"account": "main"}).status_code == 202
    held = ShadowName.objects.get()
    if held.position > 20:  # room for more
        gateway.order(f"out-{held.pk}-{clock.now().timestamp()}", side="sell", qty=str(int(held.position - held.sells)))
        meet("100.00")


def test_nothing_of_sixty_random_shadow_orders_reaches_the_broker(gateway: Gateway, broker: Broker) -> None:
    many_shadow_orders(gateway, broker, 60)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nothing_of_thousands_of_random_shadow_orders_reaches_the_broker(gateway: Gateway, broker: Broker) -> None:
    many_shadow_orders(gateway, broker, 3_000)
