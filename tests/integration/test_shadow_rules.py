"""The rules of the shadow book where they meet a real one: which part goes out first, what each part is judged by, and
what a stop does to what is only simulated."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from backend.tradingbot.models import Account, AccountExposure, Order, Position, RiskRow, ShadowName, ShadowOrder
from backend.tradingbot.services.accounts import create_strategy
from backend.tradingbot.services.keys import create_key
from tests.integration.conftest import Broker, Gateway
from tests.integration.test_modes import book_fills, meet, set_mode

pytestmark = pytest.mark.django_db(transaction=True)


def ids(gateway: Gateway, broker: Broker) -> set[str]:
    return {name.removeprefix(f"{gateway.prefix}-") for name in broker.ids() if name.startswith(gateway.prefix)}


def hold_both(gateway: Gateway, real: str = "4", simulated: str = "6") -> None:
    """A strategy in shadow that still holds something real from before, and something simulated."""
    set_mode("live")
    gateway.tick()
    assert gateway.order("real", qty=real).json()["placed_qty"] == real
    book_fills(gateway)
    set_mode("shadow")
    assert gateway.order("simulated", qty=simulated).json()["placed_qty"] == "0"
    assert meet("100.00") == 1


def test_a_sale_takes_off_what_is_real_first_and_what_is_simulated_next(gateway: Gateway, broker: Broker) -> None:
    hold_both(gateway)
    out = gateway.order("out", qty="9", side="sell").json()
    assert (out["placed_qty"], out["shadow"]["qty"]) == ("4", "5")
    book_fills(gateway)
    meet("100.00")
    assert (Position.objects.get().qty, ShadowName.objects.get().position) == (0, 1)
    more = gateway.order("more", qty="2", side="sell")  # one is left, and it is only simulated
    assert (more.status_code, ids(gateway, broker)) == (422, {"real", "out"})


def test_a_shadow_position_is_no_reason_to_sell_anything_real(gateway: Gateway, broker: Broker) -> None:
    set_mode("shadow")
    gateway.tick()
    gateway.order("in", qty="6")
    meet("100.00")
    out = gateway.order("out", qty="6", side="sell").json()
    assert (out["placed_qty"], out["shadow"]["qty"], ids(gateway, broker)) == ("0", "6", set())


def test_two_strategies_do_not_sell_each_others_position(gateway: Gateway, broker: Broker) -> None:
    """What the account holds is not what the strategy holds: its sale is judged, and simulated, on its own book."""
    hold_both(gateway, real="4", simulated="1")
    other = create_strategy(code="other", mode="shadow")
    _, token = create_key(name="other", role="trader", account=Account.objects.get(), strategy=other)
    answer = gateway.call("POST", "orders", gateway.body("theirs", strategy="other", qty="4", side="sell"), token)
    assert (answer.status_code, answer.json()["placed_qty"]) == (201, "0")
    assert ids(gateway, broker) == {"real"}


def test_a_simulated_order_takes_no_cash_and_no_room_from_real_ones(gateway: Gateway, broker: Broker) -> None:
    set_mode("shadow")
    gateway.tick()
    assert gateway.order("in", qty="40", type="limit", limit_price="99.50").status_code == 201
    assert (RiskRow.objects.get(pk="account:main").reserved_cash, ShadowName.objects.get().reserved) == (0, 3980)
    assert AccountExposure.objects.get().gross == 0
    assert gateway.order("again", qty="40").status_code == 422  # its own shadow book has no room for it
    set_mode("live")
    assert gateway.order("real", qty="40").json()["placed_qty"] == "40"  # live is judged on what is real alone


def test_a_canary_part_that_the_real_book_has_no_room_for_is_simulated_and_says_why(
    gateway: Gateway, broker: Broker
) -> None:
    set_mode("canary", allocation=Decimal("0.5"))
    gateway.tick()
    assert gateway.order("first", qty="8").json()["placed_qty"] == "4"
    RiskRow.objects.filter(pk="account:main").update(cash=Decimal(410))
    ShadowName.objects.update(spent=Decimal(-10_000))  # what was simulated has brought in enough for the whole
    second = gateway.order("second", qty="8", type="limit", limit_price="100.00")
    assert (second.status_code, second.json()["placed_qty"]) == (201, "0")
    order = Order.objects.get(client_order_id=f"{gateway.prefix}-second")
    assert order.evidence["not_placed"] == ["insufficient"]
    assert ids(gateway, broker) == {"first"}


@pytest.mark.parametrize("scope", ["firm", "account:main", "strategy:mean"])
def test_the_kill_switch_ends_what_is_simulated_and_lets_nothing_new_be(
    gateway: Gateway, broker: Broker, scope: str
) -> None:
    set_mode("shadow")
    gateway.tick()
    gateway.order("rests", qty="6", type="limit", limit_price="99.00")
    body: dict[str, Any] = {"scope": scope, "reason": "look", "flatten": True}
    assert gateway.call("POST", "kill-switch", body, gateway.risk).status_code in (200, 201, 202)
    assert ShadowOrder.objects.get().status == "canceled"
    assert gateway.order("more", qty="1").status_code == 422
    assert ids(gateway, broker) == set()
