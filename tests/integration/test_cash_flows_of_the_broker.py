"""Deposits, withdrawals and realised losses as a real paper broker tells of them."""

from decimal import Decimal

import pytest
import requests

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.data.calendar import previous_session
from backend.tradingbot.models import Account, Breaker, CashFlow, RiskRow
from backend.tradingbot.services import cash_flows
from backend.tradingbot.services.fills import poll_account
from backend.tradingbot.services.trading_day import ask_previous_close
from tests.integration.conftest import BROKER_HEADERS

pytestmark = pytest.mark.django_db(transaction=True)
SCOPE = "account:main"


def move_cash(broker, kind, amount):
    body = {"kind": kind, "amount": amount, "description": "by hand"}
    answer = requests.post(f"{broker.url}/control/cash", json=body, headers=BROKER_HEADERS, timeout=10)
    answer.raise_for_status()
    return answer.json()["id"]


@pytest.fixture
def account(gateway, broker):
    """The gateway's account, as the account that this broker has."""
    said = requests.get(f"{broker.url}/v2/account", headers=BROKER_HEADERS, timeout=10).json()
    Account.objects.filter(code="main").update(broker_account=said["account_number"])
    return Account.objects.get(code="main")


def row():
    return RiskRow.objects.get(pk=SCOPE)


def test_deposits_and_withdrawals_at_the_broker_are_booked_once(account, broker):
    cash_flows.read_all(clock=SYSTEM_CLOCK)  # what other tests moved on this broker before
    cash, start = row().cash, Decimal(Breaker.objects.get(scope=SCOPE).state["start_equity"])
    move_cash(broker, "CSD", "500")
    move_cash(broker, "FEE", "-1")
    out = move_cash(broker, "CSW", "-200")
    assert cash_flows.read_all(clock=SYSTEM_CLOCK) == 3
    assert cash_flows.read_all(clock=SYSTEM_CLOCK) == 0
    begun = Decimal(Breaker.objects.get(scope=SCOPE).state["start_equity"])
    assert (row().cash - cash, begun - start) == (299, 300)  # a fee is a cost of the day, no flow
    flow = CashFlow.objects.get(activity_id=out)
    assert (flow.kind, flow.amount, flow.actor, flow.reason) == ("CSW", Decimal(-200), "broker", "by hand")


def test_what_happened_before_the_account_was_set_up_is_in_its_opening_cash(account, broker):
    move_cash(broker, "CSD", "500")
    Account.objects.filter(code="main").update(created_at=SYSTEM_CLOCK.now())
    assert cash_flows.read_all(clock=SYSTEM_CLOCK) == 0
    assert row().cash == Decimal(10_000)


def test_cash_flows_of_another_account_at_the_broker_are_not_ours(account, broker):
    move_cash(broker, "CSD", "500")
    Account.objects.filter(code="main").update(broker_account="PA-ANOTHER")
    assert cash_flows.read_all(clock=SYSTEM_CLOCK) == 0


def test_a_broker_that_does_not_answer_leaves_the_cash_as_it_was(account, broker):
    move_cash(broker, "CSD", "500")
    broker.fault("error_500", target="read")
    assert cash_flows.read_all(clock=SYSTEM_CLOCK) == 0
    assert cash_flows.read_all(clock=SYSTEM_CLOCK) == 1


def test_the_paper_broker_dates_its_equity_at_the_close(account, broker):
    Breaker.objects.filter(scope=SCOPE).update(session=None)
    close = ask_previous_close(account, clock=SYSTEM_CLOCK)
    assert close is not None and close.session is not None
    said = requests.get(f"{broker.url}/v2/account", headers=BROKER_HEADERS, timeout=10).json()
    before = previous_session(close.session, account.session_calendar).date
    # round the clock no exchange session ended when this account's day began, and a test before this one may have
    # closed the broker's day: a figure of any other day is none
    assert close.equity == (Decimal(said["last_equity"]) if said["balance_asof"] == str(before) else None)


def test_a_loss_trips_as_soon_as_the_sale_that_realises_it_is_booked(gateway, broker):
    Breaker.objects.filter(scope=SCOPE).update(max_daily_drawdown=0.002)
    account = Account.objects.get(code="main")
    gateway.tick(price="100.00")
    assert gateway.order("buy", qty="10").status_code == 201
    assert poll_account(account, clock=SYSTEM_CLOCK) == 1
    assert Breaker.objects.get(scope=SCOPE).tripped_at is None
    falling = {"quotes": [{"symbol": "AAPL", "bid": "97.90", "ask": "98.00", "last": "98.00"}]}
    requests.post(f"{broker.url}/paper/quotes", json=falling, headers=BROKER_HEADERS, timeout=10).raise_for_status()
    assert gateway.order("sell", side="sell", qty="10", type="limit", limit_price="97.90").status_code == 201
    poll_account(account, clock=SYSTEM_CLOCK)
    breaker = Breaker.objects.get(scope=SCOPE)
    assert breaker.reason.startswith("realized-loss-0.002"), breaker.state
