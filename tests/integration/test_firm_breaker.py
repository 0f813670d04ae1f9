"""The firm's breaker: the drawdown of all active accounts together, and what makes it unknown."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Account, Breaker, BreakerEvent, JournalEntry, Position, RiskRow
from backend.tradingbot.services import journal, marking
from backend.tradingbot.services.accounts import create_account
from backend.tradingbot.services.cash_flows import record_cash_flow

pytestmark = pytest.mark.django_db(transaction=False)


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 1, 5, 15, 0, tzinfo=UTC))


@pytest.fixture
def accounts(clock, monkeypatch):
    monkeypatch.setattr(marking, "ask_previous_close", lambda account, clock: None)
    breaker = {"max_daily_drawdown": 0.5}
    return [
        create_account(code=code, cash=Decimal(cash), broker_account=f"PA-{code}", breaker=breaker, clock=clock)
        for code, cash in (("big", 80_000), ("small", 20_000))
    ]


def firm():
    return Breaker.objects.get(scope="firm")


def hold(account, symbol, qty, price, clock, cash):
    Position.objects.update_or_create(account=account, symbol=symbol, defaults={"qty": qty, "avg_price": 100})
    RiskRow.objects.filter(account=account).update(cash=cash)
    tick(symbol, price, clock)


def tick(symbol, price, clock):
    row = {"price": str(price), "bid": None, "ask": None, "as_of": clock.now().isoformat()}
    hot_state().store([(symbol, row)])


def test_the_firm_is_evaluated_with_its_first_accounts(accounts, clock):
    row = firm()
    assert (row.evaluated_at, row.start_source, row.state["start_equity"]) == (clock.now(), "accounts", "100000")


def test_the_firms_drawdown_is_that_of_its_accounts_together(accounts, clock):
    big, small = accounts
    hold(big, "BIG", 100, 50, clock, cash=70_000)  # 75000: 6.25 % of its own 80000
    marking.mark_all(clock=clock)
    assert (firm().reason, firm().state["last_equity"]) == ("", "95000")
    hold(small, "SML", 100, 90, clock, cash=10_000)  # 19000: 6000 of 100000 together
    marking.mark_all(clock=clock)
    assert firm().reason == "daily-dd-0.060"
    assert set(Breaker.objects.exclude(scope="firm").values_list("reason", flat=True)) == {""}


def test_the_firms_realised_loss_is_that_of_its_accounts_together(accounts, clock):
    for account, lost in zip(accounts, (-4_000, -2_000), strict=True):
        Position.objects.create(account=account, symbol="OLD", realized_pnl=lost)
    marking.mark_all(clock=clock)
    assert firm().reason == "realized-loss-0.060"


def test_a_withdrawal_from_one_account_is_no_loss_of_the_firm(accounts, clock):
    record_cash_flow(
        accounts[0], activity_id="1", kind="CSW", amount=Decimal(-30_000), occurred_at=clock.now(), reason="out",
        actor="broker", clock=clock,
    )  # fmt: skip
    marking.mark_all(clock=clock)
    assert (firm().reason, firm().state["start_equity"], firm().state["last_equity"]) == ("", "70000", "70000")


def test_an_account_that_was_not_marked_of_late_leaves_the_firm_unevaluated(accounts, clock):
    before = firm().evaluated_at
    clock.advance(16)
    marking.mark_account(accounts[0], clock=clock)
    marking.mark_firm(clock=clock)
    assert firm().evaluated_at == before
    marking.mark_account(accounts[1], clock=clock)
    marking.mark_firm(clock=clock)
    assert firm().evaluated_at == clock.now()


def test_a_small_holding_without_a_mark_does_not_stop_the_firm_and_a_large_one_does(accounts, clock):
    hold(accounts[1], "SML", 100, 50, clock, cash=15_000)
    clock.advance(61)  # worthless, it would cost the firm 5 %
    marking.mark_all(clock=clock)
    assert RiskRow.objects.get(account=accounts[1]).equity is None
    assert RiskRow.objects.get(account=accounts[1]).equity_floor == Decimal(15_000)
    assert firm().evaluated_at == clock.now()
    hold(accounts[1], "SML", 120, 50, clock, cash=14_000)
    before = firm().evaluated_at
    clock.advance(61)  # worthless, it would cost 6 %: the answer is not known, and nothing trips
    marking.mark_all(clock=clock)
    assert (firm().evaluated_at, firm().reason) == (before, "")


def test_a_short_without_a_mark_may_cost_anything_and_leaves_the_firm_unevaluated(accounts, clock):
    hold(accounts[1], "SHRT", -1, 1, clock, cash=20_001)
    before = firm().evaluated_at
    clock.advance(61)
    marking.mark_all(clock=clock)
    assert RiskRow.objects.get(account=accounts[1]).equity_floor is None
    assert firm().evaluated_at == before


def test_an_account_that_is_switched_off_is_not_part_of_the_firm(accounts, clock):
    Account.objects.filter(code="small").update(active=False)
    clock.advance(60)
    marking.mark_all(clock=clock)
    assert (firm().evaluated_at, firm().state["start_equity"]) == (clock.now(), "80000")


def test_an_account_with_unknown_cash_was_never_valued_and_does_not_stop_the_others(accounts, clock):
    create_account(code="new", cash=None, broker_account="PA-NEW", clock=clock)
    clock.advance(60)
    marking.mark_all(clock=clock)
    assert (firm().evaluated_at, firm().state["start_equity"]) == (clock.now(), "100000")
    assert Breaker.objects.get(scope="account:new").evaluated_at is None


def test_a_mark_that_crashes_leaves_its_account_and_then_the_firm_unevaluated_and_marks_the_others(
    accounts, clock, monkeypatch
):
    honest = marking.holdings
    broken = accounts[0].pk

    def crash(account):
        if account.pk == broken:
            raise ZeroDivisionError
        return honest(account)

    monkeypatch.setattr(marking, "holdings", crash)
    before = clock.now()
    clock.advance(16)
    marking.mark_all(clock=clock)
    looks = dict(Breaker.objects.values_list("scope", "evaluated_at"))
    assert looks == {"account:big": before, "account:small": clock.now(), "firm": before}


def test_a_trip_of_the_firm_is_one_event_in_the_firms_journal(accounts, clock):
    hold(accounts[0], "BIG", 100, 1, clock, cash=60_000)
    marking.mark_all(clock=clock)
    marking.mark_all(clock=clock)
    assert BreakerEvent.objects.filter(breaker__scope="firm").count() == 1
    entry = JournalEntry.objects.get(chain="firm", subject="firm", kind="breaker_trip")
    assert (entry.actor, entry.data["reason"]) == ("marking", "daily-dd-0.199")
    assert journal.verify("firm").intact
