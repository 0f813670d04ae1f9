"""The shadow client places nothing; the canary places its exact share and no more than its daily orders."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.execution import shadow_client
from backend.tradingbot.execution.interfaces import ExecutionClient, OrderAck, OrderRequest
from backend.tradingbot.execution.shadow_client import CanaryExecutionClient, ShadowExecutionClient, canary_share

ORDER = OrderRequest("s-1", "AAPL", Decimal(25), "buy", "limit", "day", Decimal("190.10"))


class Desk(ExecutionClient):
    """A real client that remembers what it was asked."""

    def __init__(self) -> None:
        self.placed: list[OrderRequest] = []
        self.cancelled: list[str] = []
        self.answers = True

    def validate_connection(self) -> bool:
        if not self.answers:
            raise TimeoutError("no answer")
        return True

    def place_order(self, req: OrderRequest) -> OrderAck:
        if not self.answers:
            raise TimeoutError("no answer")
        self.placed.append(req)
        return OrderAck(req.client_order_id, f"b-{req.client_order_id}", True)

    def cancel_order(self, broker_order_id: str) -> bool:
        self.cancelled.append(broker_order_id)
        return True

    def list_open_orders(self) -> list[str]:
        return [f"b-{order.client_order_id}" for order in self.placed]


def test_a_shadow_order_is_accepted_and_never_reaches_the_real_client() -> None:
    desk = Desk()
    shadow = ShadowExecutionClient(desk)
    assert shadow.place_order(ORDER) == OrderAck("s-1", None, True, "shadow_mode")
    assert (shadow.get_order("b-1"), shadow.list_open_orders(), shadow.cancel_order("b-1")) == ({}, [], True)
    assert (desk.placed, desk.cancelled) == ([], [])


def test_the_log_holds_every_field_of_the_order_and_is_a_copy() -> None:
    shadow = ShadowExecutionClient(Desk(), clock=FixedClock(datetime(2026, 3, 2, 15, tzinfo=UTC)))
    shadow.place_order(ORDER)
    entry = shadow.get_order_log()[0]
    assert entry == {
        "timestamp": "2026-03-02T15:00:00.000000Z",
        "action": "place_order",
        "client_order_id": "s-1",
        "symbol": "AAPL",
        "side": "buy",
        "quantity": Decimal(25),
        "order_type": "limit",
        "price": Decimal("190.10"),
        "time_in_force": "day",
    }
    entry["symbol"] = "changed"
    shadow.get_order_log().clear()
    assert shadow.get_order_log()[0]["symbol"] == "AAPL"


def test_the_log_is_bounded_while_the_count_goes_on() -> None:
    shadow = ShadowExecutionClient(Desk(), log_all_orders=False)
    for number in range(shadow_client.LOG_LENGTH + 5):
        shadow.place_order(replace(ORDER, client_order_id=f"s-{number}"))
    assert len(shadow.get_order_log()) == shadow_client.LOG_LENGTH == 10_000
    assert shadow.get_order_log()[0]["client_order_id"] == "s-5"
    assert shadow.get_order_count() == 10_005
    shadow.clear_order_log()
    assert (shadow.get_order_count(), shadow.get_order_log()) == (0, [])


def test_an_order_is_logged_once_and_only_when_wished(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=shadow_client.__name__):
        ShadowExecutionClient(Desk(), log_all_orders=False).place_order(ORDER)
        assert caplog.messages == []
        ShadowExecutionClient(Desk()).place_order(ORDER)
    assert caplog.messages == ["shadow_order client_order_id=s-1 symbol=AAPL"]


def test_the_status_tells_the_mode_and_whether_the_real_client_answers() -> None:
    desk = Desk()
    shadow = ShadowExecutionClient(desk)
    assert shadow.status() == {
        "mode": "shadow",
        "real_client_connected": True,
        "orders_logged": 0,
        "log_all_orders": True,
    }
    desk.answers = False
    assert shadow.status()["real_client_connected"] is False


def test_a_canary_that_is_not_live_shadows_and_refuses_above_its_daily_limit() -> None:
    desk = Desk()
    canary = CanaryExecutionClient(desk, canary_allocation_pct=0.1, max_daily_orders=2)
    answers = [canary.place_order(replace(ORDER, client_order_id=f"c-{n}")) for n in range(3)]
    assert [answer.accepted for answer in answers] == [True, True, False]
    assert answers[2] == OrderAck("c-2", None, False, "canary_daily_limit_exceeded")
    assert canary.status()["daily_order_count"] == 2
    assert desk.placed == []


def test_the_daily_count_starts_again_with_new_yorks_day() -> None:
    clock = FixedClock(datetime(2026, 3, 3, 4, 30, tzinfo=UTC))  # 23:30 of 2 March in New York
    canary = CanaryExecutionClient(Desk(), max_daily_orders=1, clock=clock)
    assert canary.status()["last_reset_date"] == "2026-03-02"
    assert canary.place_order(ORDER).accepted
    assert not canary.place_order(ORDER).accepted
    clock.advance(3600)
    assert canary.place_order(ORDER).accepted
    assert canary.status()["last_reset_date"] == "2026-03-03"


def test_a_live_canary_places_its_share_and_shadows_what_rounds_to_nothing() -> None:
    desk = Desk()
    canary = CanaryExecutionClient(desk, canary_allocation_pct=0.1, live=True)
    assert canary.place_order(ORDER) == OrderAck("s-1", "b-s-1", True)
    assert canary.place_order(replace(ORDER, client_order_id="s-2", qty=Decimal(9))).reason == "shadow_mode"
    assert [(order.client_order_id, order.qty) for order in desk.placed] == [("s-1", Decimal(2))]
    assert canary.get_order_count() == 2
    assert canary.cancel_order("b-s-1") and desk.cancelled == ["b-s-1"]


def test_a_lost_answer_is_the_callers_and_still_counts() -> None:
    desk = Desk()
    desk.answers = False
    canary = CanaryExecutionClient(desk, max_daily_orders=1, live=True)
    with pytest.raises(TimeoutError):
        canary.place_order(ORDER)
    assert canary.place_order(ORDER).reason == "canary_daily_limit_exceeded"


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), float("inf")])
def test_an_allocation_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="canary_allocation_pct must be in"):
        CanaryExecutionClient(Desk(), canary_allocation_pct=share)


@pytest.mark.parametrize("count", [-1, True, 1.5])
def test_a_daily_limit_that_is_not_a_whole_number_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="max_daily_orders"):
        CanaryExecutionClient(Desk(), max_daily_orders=count)


@given(
    st.integers(1, 10**6).map(Decimal),
    st.integers(1, 1000).map(lambda n: Decimal(n) / 1000),
    st.sampled_from([Decimal(1), Decimal(5), Decimal(100), Decimal("0.001")]),
    st.booleans(),
)
def test_the_share_is_a_multiple_of_the_lot_within_the_allocation(
    qty: Decimal, allocation: Decimal, lot: Decimal, at_least_one: bool
) -> None:
    share = canary_share(qty, allocation, lot=lot, at_least_one=at_least_one)
    assert share % lot == 0
    assert 0 <= share <= qty
    exact = qty * allocation
    assert exact - lot < share <= exact or (at_least_one and share in (lot, 0))
    assert share == canary_share(qty, allocation, lot=lot, at_least_one=at_least_one)
