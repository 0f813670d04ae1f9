"""A canary's caps where they are tight: races at the cap, a cap at exactly the lot, and days as the exchange has
them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from backend.tradingbot.core.parsing import parse_order
from backend.tradingbot.models import Account, CanaryDay, Order, Position, RiskRow, ShadowName, Strategy
from backend.tradingbot.selectors.risk import risk_snapshot
from backend.tradingbot.selectors.risk_parts import MarketReading
from backend.tradingbot.services.routing import split_by_mode
from tests.integration.conftest import Broker, Gateway
from tests.integration.test_modes import book_fills, set_mode

pytestmark = pytest.mark.django_db(transaction=True)
CLIENTS = 16


def at_once(gateway: Gateway, **order: Any) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda number: gateway.order(f"r{number}", **order), range(CLIENTS)))
    assert {answer.status_code for answer in answers} <= {201, 422}
    return [answer.json() for answer in answers if answer.status_code == 201]


def sent(gateway: Gateway, broker: Broker) -> list[Decimal]:
    orders = broker.ledger()["orders"]
    return [Decimal(row["qty"]) for row in orders if row["client_order_id"].startswith(f"{gateway.prefix}-r")]


@pytest.mark.parametrize("cap", [{"max_orders": 5}, {"max_notional": Decimal(500)}])
def test_sixteen_clients_at_the_cap_place_what_it_allows_and_not_one_more(
    gateway: Gateway, broker: Broker, cap: dict[str, Any]
) -> None:
    set_mode("canary", allocation=Decimal("0.5"), **{"max_orders": 1_000, "max_notional": Decimal(10**6), **cap})
    gateway.tick(price="10.00")
    made = at_once(gateway, qty="20", type="limit", limit_price="10.00")  # ten placed are worth a hundred
    assert len(made) == CLIENTS
    assert sorted(order["placed_qty"] for order in made) == ["0"] * 11 + ["10"] * 5
    assert sent(gateway, broker) == [10] * 5
    day = CanaryDay.objects.get()
    assert (day.orders, day.notional) == (5, 500)
    assert Order.objects.exclude(qty=0).count() == 5
    assert ShadowName.objects.get().buys + ShadowName.objects.get().position == 11 * 20 + 5 * 10


def test_sixteen_clients_that_sell_what_a_demoted_strategy_holds_sell_it_once(gateway: Gateway, broker: Broker) -> None:
    gateway.tick()
    gateway.order("in", qty="10")
    book_fills(gateway)
    body = {"to": "shadow", "reason": "look"}
    assert gateway.call("POST", "strategies/mean/demote", body, gateway.risk).status_code == 200
    gateway.tick()
    made = at_once(gateway, qty="3", side="sell", type="limit", limit_price="100.00")
    assert sum(Decimal(order["placed_qty"]) for order in made) == sum(sent(gateway, broker)) <= 10
    assert len(made) >= 3
    book_fills(gateway)
    assert Position.objects.get().qty == 10 - sum(sent(gateway, broker))


@pytest.mark.parametrize(
    ("cap", "placed"),
    [("99.99", ["0", "0"]), ("100", ["2", "0"]), ("199.99", ["2", "0"]), ("200", ["2", "2"]), ("0", ["0", "0"])],
)
def test_a_cap_on_notional_holds_to_the_cent(gateway: Gateway, broker: Broker, cap: str, placed: list[str]) -> None:
    set_mode("canary", allocation=Decimal("0.1"), max_notional=Decimal(cap))
    gateway.tick(price="50.00")
    asked: dict[str, Any] = {"qty": "20", "type": "limit", "limit_price": "50.00"}
    assert [gateway.order(f"r{number}", **asked).json()["placed_qty"] for number in range(2)] == placed


@pytest.mark.parametrize(
    ("rule", "asked", "placed"),
    [
        ({"lot": 10}, ["99", "100", "199", "200"], ["0", "10", "10", "20"]),
        ({"lot": 10, "at_least_one_lot": True}, ["9", "10", "99", "100"], ["0", "10", "10", "10"]),
        ({"lot": 1, "at_least_one_lot": True}, ["1", "9", "10", "19"], ["1", "1", "1", "1"]),
        ({"lot": 1}, ["1", "9", "10", "19"], ["0", "0", "1", "1"]),
    ],
)
def test_a_share_is_rounded_down_to_the_lot_and_up_to_one_lot_only_where_that_is_set(
    gateway: Gateway, broker: Broker, rule: dict[str, Any], asked: list[str], placed: list[str]
) -> None:
    set_mode("canary", allocation=Decimal("0.1"), **rule)
    gateway.tick(price="1.00")
    made = [gateway.order(f"r{number}", qty=qty).json() for number, qty in enumerate(asked)]
    assert [order["placed_qty"] for order in made] == placed
    assert [Decimal(qty) for qty in placed if qty != "0"] == sent(gateway, broker)


def judged_at(gateway: Gateway, moment: str, calendar: str) -> Any:
    """What an order of this moment would be judged by."""
    Account.objects.update(session_calendar=calendar)
    account, strategy = Account.objects.get(), Strategy.objects.get()
    row, nothing = RiskRow.objects.get(pk="account:main"), MarketReading(None, None, None, None)
    return risk_snapshot(
        parse_order(gateway.body("x")), account, strategy, row, nothing, datetime.fromisoformat(moment), False
    )


@pytest.mark.parametrize(
    ("calendar", "session", "last", "next_begins", "next_session"),
    [
        # 27 November 2026 closes at 13:00: until midnight in New York it is that day, and then Monday's
        ("XNYS", "2026-11-27", "2026-11-28T04:59:59+00:00", "2026-11-28T05:00:00+00:00", "2026-11-30"),
        # clocks go forward on Sunday 8 March 2026: Friday ends at 05:00 UTC, Monday at 04:00
        ("XNYS", "2026-03-06", "2026-03-07T04:59:59+00:00", "2026-03-07T05:00:00+00:00", "2026-03-09"),
        ("XNYS", "2026-03-09", "2026-03-10T03:59:59+00:00", "2026-03-10T04:00:00+00:00", "2026-03-10"),
        # and back on Sunday 1 November
        ("XNYS", "2026-11-02", "2026-11-03T04:59:59+00:00", "2026-11-03T05:00:00+00:00", "2026-11-03"),
        # round the clock it rolls at 17:00 in New York, an hour earlier in UTC while clocks are forward
        ("24/7", "2026-03-07", "2026-03-07T21:59:59+00:00", "2026-03-07T22:00:00+00:00", "2026-03-08"),
        ("24/7", "2026-03-08", "2026-03-08T20:59:59+00:00", "2026-03-08T21:00:00+00:00", "2026-03-09"),
    ],
)
def test_a_days_counters_are_its_sessions_and_midnight_utc_is_nothing(
    gateway: Gateway, broker: Broker, calendar: str, session: str, last: str, next_begins: str, next_session: str
) -> None:
    set_mode("canary", allocation=Decimal("0.5"), max_orders=2)
    CanaryDay.objects.create(
        account=Account.objects.get(), strategy=Strategy.objects.get(), session=session, orders=2, notional=7
    )
    evening = judged_at(gateway, last[:11] + "00:00:00+00:00" if calendar == "XNYS" else last, calendar)
    for judged in (evening, judged_at(gateway, last, calendar)):
        assert (judged.session, judged.day.orders) == (date.fromisoformat(session), 2)
        assert judged.snapshot.strategy_mode.cap_reached == "orders"
        assert split_by_mode(parse_order(gateway.body("x", qty="10")), judged).placed is None
    anew = judged_at(gateway, next_begins, calendar)
    assert (anew.session, anew.day.orders) == (date.fromisoformat(next_session), 0)
    assert anew.snapshot.strategy_mode.cap_reached == ""
