"""What a statement tells twice about one order, and accounts that fail in a pass over all of them."""

from __future__ import annotations

import pytest

from backend.tradingbot.models import Account, Break
from backend.tradingbot.services import cash_flows, recon_intraday
from tests.integration.recon_house import MONDAY, House, noon, standing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("second", ["filled", "canceled"])
def test_an_order_that_stands_twice_on_a_statement_is_one_break_at_most(house, second):
    house.trade(MONDAY)
    order = house.order(at=noon(MONDAY))
    house.tell_order(order, "canceled", filled=0)
    house.tell_order(order, "canceled", filled=0)
    house.orders.append({**house.orders[0], "status": second})
    run = house.close(MONDAY)
    assert run.state == "completed"
    assert ("order_status", f"order {order.client_order_id}") in standing()
    told_otherwise = [("duplicate", "order main-c1")] if second == "canceled" else []
    assert [key for key in standing() if "main-c1" in key[1]] == told_otherwise
    house.run(MONDAY)
    assert Break.objects.count() == len(standing())


@pytest.mark.parametrize("module, each, all_of", [
    (recon_intraday, "compare_account", "compare_all"), (cash_flows, "read_cash_flows", "read_all"),
])  # fmt: skip
def test_one_account_that_breaks_does_not_keep_the_others_from_being_looked_at(
    house, monkeypatch, module, each, all_of
):
    House(code="second")
    seen = []

    def breaks(account: Account, *, clock: object) -> int:
        seen.append(account.code)
        raise ZeroDivisionError

    monkeypatch.setattr(module, each, breaks)
    with pytest.raises(ZeroDivisionError):
        getattr(module, all_of)(clock=house.clock)
    assert seen == ["main", "second"]
