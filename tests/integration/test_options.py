"""An option from the order to its fill, its position, its exposure and back to flat, through the paper broker."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Account, AccountExposure, ApiKey, Execution, NameExposure, Position, RiskRow
from backend.tradingbot.services import fills
from backend.tradingbot.services.marking import mark_account
from backend.tradingbot.services.revaluation import revalue, unproven, unproven_headroom

pytestmark = pytest.mark.django_db(transaction=True)
CALL = "AAPL301220C00100000"
GREEKS = {"symbol": CALL, "delta": "0.5", "gamma": "0.02", "theta": "-0.03", "vega": "0.1", "iv": "0.3"}


def tick(gateway, price):
    now = datetime.now(UTC).isoformat()
    ticks = [{"symbol": "AAPL", "price": "100.00", "bid": "100.00", "ask": "100.00", "time": now}]
    ticks.append({"symbol": CALL, "price": price, "bid": price, "ask": price, "time": now})
    assert gateway.call("POST", "market-data/ticks", {"ticks": ticks}).json()["refused"] == []


def until_filled(gateway, name):
    account = Account.objects.get(code="main")
    for _ in range(200):
        fills.poll_account(account, clock=SYSTEM_CLOCK)
        if gateway.read(name)["status"] == "filled":
            return gateway.read(name)
    raise AssertionError(gateway.read(name))


def cash():
    return RiskRow.objects.get(pk="account:main").cash


def test_an_option_fills_counts_a_hundred_times_and_closes_to_its_profit(gateway, broker):
    Account.objects.update(symbols=["AAPL", CALL])
    ApiKey.objects.filter(name="trader").update(feed_symbols=["AAPL", CALL])
    RiskRow.objects.filter(pk="account:main").update(cash=100_000, equity=100_000)
    before = Decimal(broker.ledger()["cash"])
    tick(gateway, "20.00")
    assert gateway.call("PUT", "accounts/main/greeks", {"greeks": [GREEKS]}).json() == {"accepted": 1}

    order = {"symbol": CALL, "qty": "2", "type": "limit", "limit_price": "20.00"}
    assert gateway.order("open", **order).status_code == 201
    filled = until_filled(gateway, "open")
    assert (filled["filled_qty"], filled["avg_price"]) == ("2", "20")
    assert cash() == 100_000 - 4_000
    assert Decimal(broker.ledger()["cash"]) == before - 4_000
    assert (Position.objects.get().symbol, Position.objects.get().qty) == (CALL, 2)
    row = NameExposure.objects.get(symbol=CALL)
    # two calls on a share of 100: 20,000 of the underlying's value, 100 shares of delta, 4 of gamma, 20 of vega
    assert (row.gross, row.high[1], row.high[2], row.high[4]) == (20_000, 100, 4, 20)
    assert (unproven(Account.objects.get()), unproven_headroom()) == ([], [])

    tick(gateway, "21.00")
    account = Account.objects.get(code="main")
    mark_account(account, clock=SYSTEM_CLOCK)
    assert RiskRow.objects.get(pk="account:main").equity == 100_000 + 200
    revalue(account, clock=SYSTEM_CLOCK)

    assert gateway.order("close", **{**order, "limit_price": "21.00"}, side="sell").status_code == 201
    until_filled(gateway, "close")
    assert cash() == 100_200
    assert Decimal(broker.ledger()["cash"]) == before + 200
    assert (Position.objects.get().qty, Position.objects.get().realized_pnl) == (0, 200)
    assert [execution.symbol for execution in Execution.objects.all()] == [CALL, CALL]
    assert AccountExposure.objects.get().gross == 0
    assert (unproven(account), unproven_headroom()) == ([], [])
