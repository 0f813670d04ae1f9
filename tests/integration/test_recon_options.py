"""Options by Greek over two real runs: the vector of the design's facts to four decimals, and what is not known."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Account
from backend.tradingbot.risk.greeks import black_scholes
from tests.integration.market_broker import Market
from tests.integration.recon_house import D

pytestmark = pytest.mark.django_db(transaction=True)
FIRST, SECOND = date(2026, 6, 1), date(2026, 6, 2)
CALL = "XYZ261019C00050000"  # 140 days after the first session, at the same hour of New York


def worth(spot: float, vol: float, days: int):
    return D(repr(float(black_scholes(spot, 50.0, 0.05, vol, days / 365, True).price))).quantize(D("1e-9"))


@pytest.fixture
def house(settings) -> Market:
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"risk_free_rate": 0.05})
    hot_state()._redis.flushdb()
    found = Market("greeks")
    found.clock.at = datetime(2026, 6, 1, 13, 0, tzinfo=UTC)
    Account.objects.filter(pk=found.account.pk).update(created_at=found.clock.at)
    found.account.refresh_from_db()
    return found


def tick(house: Market, day: date, spot: str, mark) -> None:
    as_of = datetime(day.year, day.month, day.day, 20, 0, tzinfo=UTC).isoformat()
    hot_state().store([("XYZ", {"price": spot, "bid": None, "ask": None, "as_of": as_of})])
    house.marks[CALL] = mark


def closed(house: Market, day: date):
    run = house.close(day)
    assert (run.state, run.proofs["unexplained"]) in (("completed", "0"), ("completed", None))
    return run.pnl["options"]


def test_the_vector_comes_out_of_the_runs_to_four_decimals(house):
    tick(house, FIRST, "49", worth(49.0, 0.20, 140))
    house.both(FIRST, CALL, "buy", 10)
    (first,) = closed(house, FIRST)
    assert (first["qty"], first["actual"], first["delta"]) == ("0", "0", "0")
    tick(house, SECOND, "50", worth(50.0, 0.21, 139))
    (line,) = closed(house, SECOND)
    assert line == {
        "symbol": CALL, "qty": "10", "actual": "661.8973", "delta": "521.3971", "gamma": "32.8179",
        "vega": "120.8923", "theta": "-11.8067", "residual": "-1.4033", "traded": "0",
        "total": "661.8973",
    }  # fmt: skip


def test_what_was_traded_since_is_a_line_of_its_own_and_the_sum_is_the_symbols_profit(house):
    tick(house, FIRST, "49", worth(49.0, 0.20, 140))
    house.both(FIRST, CALL, "buy", 10)
    closed(house, FIRST)
    tick(house, SECOND, "50", worth(50.0, 0.21, 139))
    house.both(SECOND, CALL, "sell", 4)
    run = house.close(SECOND)
    (line,) = run.pnl["options"]
    assert line["actual"] == "661.8973"
    (whole,) = [row for row in run.pnl["lines"] if row["symbol"] == CALL]
    assert D(line["actual"]) + D(line["traded"]) == D(line["total"]) == D(whole["total"]).quantize(D("0.0001"))
    parts = sum(D(line[name]) for name in ("delta", "gamma", "vega", "theta", "residual"))
    assert parts == D(line["actual"])


def test_a_day_that_is_run_again_is_valued_at_the_prices_it_was_closed_with(house):
    tick(house, FIRST, "49", worth(49.0, 0.20, 140))
    house.both(FIRST, CALL, "buy", 10)
    run = house.close(FIRST)
    tick(house, FIRST, "55", worth(49.0, 0.20, 140))
    again = house.run(FIRST)
    assert again.closing["options"][CALL]["underlying"] == "49"
    assert again.result_digest == run.result_digest


def test_without_a_price_of_the_underlying_the_line_is_unknown_and_not_zero(house):
    tick(house, FIRST, "49", worth(49.0, 0.20, 140))
    house.both(FIRST, CALL, "buy", 10)
    closed(house, FIRST)
    hot_state()._redis.flushdb()
    house.marks[CALL] = worth(50.0, 0.21, 139)
    (line,) = closed(house, SECOND)
    assert (line["delta"], line["actual"], line["residual"]) == ("unknown", "unknown", "unknown")


def test_an_option_that_expires_is_worth_what_exercising_it_is(house):
    contract = f"XYZ{SECOND:%y%m%d}C00050000"
    tick(house, FIRST, "52", D("0"))
    house.marks[contract] = D("2.40")
    house.both(FIRST, contract, "buy", 1)
    closed(house, FIRST)
    tick(house, SECOND, "53", D("0"))
    house.marks[contract] = D("3")
    (line,) = closed(house, SECOND)
    assert (line["actual"], line["vega"]) == ("60", "0")
    assert timedelta(days=1) == datetime(2026, 6, 2, 20, tzinfo=UTC) - datetime(2026, 6, 1, 20, tzinfo=UTC)
    assert sum(D(line[name]) for name in ("delta", "gamma", "vega", "theta", "residual")) == D(60)
