"""Options at the paper broker: what a contract is, and that money counts a hundred times its price."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backend.paperbroker.desk import Desk
from backend.paperbroker.instruments import is_option, is_tradable, multiplier
from backend.paperbroker.ledger import Ledger
from backend.paperbroker.matching import Quote
from backend.paperbroker.refusals import Refused
from backend.paperbroker.shapes import account_json, positions_json
from backend.paperbroker.stream import Hub

CALL = "AAPL301220C00100000"


@pytest.fixture
def desk(tmp_path):
    ledger = Ledger(str(tmp_path / "ledger.sqlite3"), Decimal(10_000))
    yield Desk(ledger, Hub())
    ledger.close()


def body(**changes):
    order = {"symbol": CALL, "qty": "2", "side": "buy", "type": "limit", "limit_price": "25.00"}
    return {**order, "time_in_force": "day", "client_order_id": "a", **changes}


def quote(desk, price):
    desk.quote(Quote(CALL, Decimal(price), Decimal(price), None, None, Decimal(price)))


@pytest.mark.parametrize(
    ("symbol", "option", "tradable"),
    [
        (CALL, True, True),
        ("BRK.B", False, True),
        ("AAPL301320C00100000", False, False),  # no thirteenth month
        ("AAPL301220C00000000", False, False),  # no strike
        ("AAPL1301220C00100000", False, False),  # adjusted: nobody knows what it delivers
        ("AAPL301220X00100000", False, False),
        (None, False, False),
    ],
)
def test_a_symbol_is_a_contract_a_share_or_nothing(symbol, option, tradable):
    assert is_tradable(symbol) is tradable
    assert symbol is None or (is_option(symbol), multiplier(symbol)) == (option, 100 if option else 1)


def test_a_contract_bought_and_sold_moves_a_hundred_times_its_price(desk):
    desk.accept(body())
    assert desk.buying_power() == 5_000  # reserved while it works
    quote(desk, "24.00")
    assert Decimal(desk.ledger.account()["cash"]) == 5_200
    quote(desk, "26.50")
    held = positions_json(desk.ledger)[0]
    figures = (held["qty"], held["avg_entry_price"], held["market_value"], held["cost_basis"], held["unrealized_pl"])
    assert (*figures, held["asset_class"]) == ("2", "24", "5300", "4800", "500", "us_option")
    shown = account_json(desk.ledger, Decimal(0), ("2026-01-01", Decimal(0)))
    assert (shown["equity"], shown["long_market_value"]) == ("10500.00", "5300.00")
    desk.accept(body(side="sell", client_order_id="b", limit_price="26.00"))
    quote(desk, "26.50")
    assert Decimal(desk.ledger.account()["cash"]) == 10_500
    assert positions_json(desk.ledger) == []


def test_a_bust_takes_back_a_hundred_times_the_price(desk):
    desk.accept(body(qty="1"))
    quote(desk, "25.00")
    execution = desk.ledger.rows("select id from executions")[0]["id"]
    desk.bust(execution, None, None)
    assert Decimal(desk.ledger.account()["cash"]) == 10_000


def test_the_fees_of_a_sold_contract_are_by_contract_and_by_proceeds(desk):
    desk.accept(body(qty="1"))
    quote(desk, "25.00")
    desk.accept(body(qty="1", side="sell", client_order_id="b"))
    quote(desk, "25.00")
    assert desk.fees.post(datetime.now(UTC), before=datetime(2999, 1, 1, tzinfo=UTC).date()) == 2
    amounts = sorted(row["net_amount"] for row in desk.books.activities(["FEE"]))
    assert amounts == ["-0.01", "-0.07"]  # 1 x 0.00279, and 2,500 x 0.0000278, each rounded up to the cent


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qty": "1.5"}, "integer qty"),
        ({"time_in_force": "gtc"}, "time_in_force"),
        ({"limit_price": "0.1234"}, "sub-penny"),
        ({"qty": "5"}, "insufficient buying power"),
    ],
)
def test_what_no_option_order_may_ask_is_refused(desk, changes, message):
    with pytest.raises(Refused, match=message):
        desk.accept(body(**changes))
