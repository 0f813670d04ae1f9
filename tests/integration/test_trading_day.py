"""When an account's day begins, what it begins with, and what cash flows and realised losses do to it."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from backend.tradingbot.brokers.answers import BrokerAccount, BrokerQueryError
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Breaker, BreakerEvent, CashFlow, JournalEntry, Position, RiskRow
from backend.tradingbot.services import journal, trading_day
from backend.tradingbot.services.accounts import create_account
from backend.tradingbot.services.cash_flows import record_cash_flow
from backend.tradingbot.services.marking import mark_account, mark_holders
from backend.tradingbot.services.trading_day import PreviousClose, ask_previous_close, mark_realized

pytestmark = pytest.mark.django_db(transaction=False)
SCOPE = "account:day"
TUESDAY = date(2026, 1, 6)


@pytest.fixture
def clock():
    """Monday 5 January 2026, 10:00 in New York."""
    return FixedClock(datetime(2026, 1, 5, 15, 0, tzinfo=UTC))


@pytest.fixture
def account(clock):
    return create_account(code="day", cash=Decimal(100_000), broker_account="PA-DAY", symbols=["DAYS"], clock=clock)


def to(clock, *parts):
    clock.advance((datetime(*parts, tzinfo=UTC) - clock.now()).total_seconds())


def breaker():
    return Breaker.objects.get(scope=SCOPE)


def start():
    return Decimal(breaker().state["start_equity"])


def hold(account, price, clock, qty=400, cash=60_000):
    Position.objects.update_or_create(account=account, symbol="DAYS", defaults={"qty": qty, "avg_price": 100})
    RiskRow.objects.filter(pk=SCOPE).update(cash=cash)
    row = {"price": str(price), "bid": None, "ask": None, "as_of": clock.now().isoformat()}
    hot_state().store([("DAYS", row)])


class SaysEquity:
    """A broker that values its account at ``equity`` at the close of ``day``; None: it does not answer."""

    def __init__(self, monkeypatch, equity="98000", day=date(2026, 1, 5), number="PA-DAY"):
        self.equity, self.day, self.number, self.asked = equity, day, number, 0
        monkeypatch.setattr(trading_day, "execution_client", lambda config: self)

    def account(self):
        self.asked += 1
        if self.equity is None:
            raise BrokerQueryError("no answer")
        now = {"cash": Decimal(1), "equity": Decimal(1), "buying_power": Decimal(1), "raw": {}}
        return BrokerAccount(self.number, "ACTIVE", last_equity=Decimal(self.equity), last_equity_on=self.day, **now)


def test_a_day_begins_with_the_brokers_equity_at_the_previous_close(account, clock, monkeypatch):
    broker = SaysEquity(monkeypatch)
    to(clock, 2026, 1, 6, 14, 0)
    hold(account, "90.5", clock)
    assert mark_account(account, clock=clock, close=ask_previous_close(account, clock=clock)) == Decimal(96_200)
    row = breaker()
    assert (row.session, row.start_source, start()) == (TUESDAY, "previous_close", Decimal(98_000))
    assert row.tripped_at is None
    hold(account, "80.3", clock)  # 92120: 6 % below 98000, and 4.2 % below the first reading
    mark_account(account, clock=clock, close=ask_previous_close(account, clock=clock))
    assert (breaker().reason, broker.asked) == ("daily-dd-0.060", 1)


def test_a_day_begins_with_the_first_reading_when_the_broker_does_not_say(account, clock, monkeypatch):
    SaysEquity(monkeypatch, day=date(2026, 1, 2))  # its books are not closed yet
    to(clock, 2026, 1, 6, 5, 0)
    hold(account, 99, clock)
    mark_account(account, clock=clock, close=ask_previous_close(account, clock=clock))
    assert (breaker().session, breaker().start_source, start()) == (TUESDAY, "first_reading", Decimal(99_600))


def test_the_start_is_corrected_once_the_broker_has_closed_its_books(account, clock, monkeypatch):
    broker = SaysEquity(monkeypatch, day=date(2026, 1, 2))
    to(clock, 2026, 1, 6, 5, 0)
    hold(account, 99, clock)
    mark_account(account, clock=clock, close=ask_previous_close(account, clock=clock))
    broker.day = date(2026, 1, 5)
    clock.advance(299)
    assert ask_previous_close(account, clock=clock) is None
    clock.advance(1)
    hold(account, 99, clock)
    mark_account(account, clock=clock, close=ask_previous_close(account, clock=clock))
    assert (breaker().start_source, start(), broker.asked) == ("previous_close", Decimal(98_000), 2)
    clock.advance(3600)
    assert ask_previous_close(account, clock=clock) is None
    kinds = list(JournalEntry.objects.filter(chain=SCOPE).order_by("seq").values_list("kind", "data__start_equity"))
    assert kinds == [("day_started", "99600"), ("day_start_corrected", "98000")]
    assert journal.verify(SCOPE).intact


@pytest.mark.parametrize(
    "said", [{"number": "PA-OTHER"}, {"day": None}, {"equity": "0"}, {"equity": "-5"}, {"day": date(2026, 1, 6)}]
)
def test_a_figure_that_is_not_this_accounts_previous_close_is_not_used(account, clock, monkeypatch, said):
    SaysEquity(monkeypatch, **said)
    to(clock, 2026, 1, 6, 14, 0)
    assert ask_previous_close(account, clock=clock) == PreviousClose(TUESDAY, None)


def test_without_an_answer_of_the_broker_no_new_day_begins_and_nothing_is_evaluated(account, clock, monkeypatch):
    SaysEquity(monkeypatch, equity=None)
    seen = breaker().evaluated_at
    to(clock, 2026, 1, 6, 14, 0)
    hold(account, 50, clock)
    close = ask_previous_close(account, clock=clock)
    assert close is None
    assert mark_account(account, clock=clock, close=close) == Decimal(80_000)
    row = breaker()
    assert (row.session, row.evaluated_at, row.tripped_at) == (date(2026, 1, 5), seen, None)


def test_a_tick_does_not_begin_a_day(account, clock):
    to(clock, 2026, 1, 6, 14, 0)
    hold(account, 90, clock)
    mark_holders(["DAYS"], clock=clock)
    assert RiskRow.objects.get(pk=SCOPE).equity == Decimal(96_000)
    assert (breaker().session, start()) == (date(2026, 1, 5), Decimal(100_000))


def test_an_answer_for_another_day_is_not_used(account, clock):
    to(clock, 2026, 1, 6, 14, 0)
    mark_account(account, clock=clock, close=PreviousClose(date(2026, 1, 5), Decimal(98_000)))
    assert breaker().session == date(2026, 1, 5)


def test_a_round_the_clock_day_begins_at_17_in_new_york(clock):
    account = create_account(
        code="day", cash=Decimal(100_000), broker_account="PA-1", session_calendar="24/7", clock=clock
    )
    assert breaker().session == date(2026, 1, 5)
    to(clock, 2026, 1, 5, 21, 59, 59)
    hold(account, 99, clock)
    mark_account(account, clock=clock)
    assert (breaker().session, start()) == (date(2026, 1, 5), Decimal(100_000))
    clock.advance(1)
    mark_account(account, clock=clock)
    assert (breaker().session, start()) == (TUESDAY, Decimal(99_600))


def test_an_open_breaker_stays_open_over_the_night(account, clock):
    hold(account, 80, clock)
    mark_account(account, clock=clock)
    to(clock, 2026, 1, 6, 15, 0)
    hold(account, 80, clock)
    mark_account(account, clock=clock)
    assert (breaker().session, breaker().reason) == (TUESDAY, "daily-dd-0.080")
    assert BreakerEvent.objects.filter(breaker__scope=SCOPE).count() == 1


def test_a_mark_of_the_close_holds_while_the_market_is_closed(account, clock):
    to(clock, 2026, 1, 5, 20, 59, 50)
    hold(account, 98, clock)
    to(clock, 2026, 1, 6, 14, 30, 50)  # 10 s of the old session and 50 s of the new one
    assert mark_account(account, clock=clock) == Decimal(99_200)
    clock.advance(1)
    assert mark_account(account, clock=clock) is None


def test_a_tick_from_the_future_is_no_mark(account, clock):
    hold(account, 98, clock)
    clock.step_wall(-2)
    assert mark_account(account, clock=clock) == Decimal(99_200)
    clock.step_wall(-1)
    assert mark_account(account, clock=clock) is None


def test_a_round_the_clock_mark_ages_at_any_hour(clock):
    account = create_account(
        code="day", cash=Decimal(100_000), broker_account="PA-1", session_calendar="24/7", clock=clock
    )
    hold(account, 98, clock)
    clock.advance(61)
    assert mark_account(account, clock=clock) is None


def flow(account, amount, clock, at=None, activity_id="20260105000000000::1", kind="CSW"):
    return record_cash_flow(
        account,
        activity_id=activity_id,
        kind=kind,
        amount=Decimal(amount),
        occurred_at=at or clock.now(),
        reason="told by the broker",
        actor="broker",
        clock=clock,
    )


def test_a_withdrawal_is_no_loss_and_a_deposit_hides_none(account, clock):
    hold(account, "92.5", clock)  # 97000 of 100000
    mark_account(account, clock=clock)
    assert flow(account, -40_000, clock) is True
    row = RiskRow.objects.get(pk=SCOPE)
    assert (row.cash, row.equity, row.equity_floor) == (Decimal(20_000), Decimal(57_000), Decimal(57_000))
    mark_account(account, clock=clock)
    assert (start(), breaker().reason) == (Decimal(60_000), "")
    flow(account, 30_000, clock, activity_id="2", kind="CSD")
    hold(account, "86.5", clock, cash=50_000)  # 84600: 6 % below 90000
    mark_account(account, clock=clock)
    assert (start(), breaker().reason) == (Decimal(90_000), "daily-dd-0.060")


def test_a_cash_flow_counts_once_and_is_in_the_journal(account, clock):
    flow(account, -40_000, clock)
    assert flow(account, -40_000, clock) is False
    assert (RiskRow.objects.get(pk=SCOPE).cash, start()) == (Decimal(60_000), Decimal(60_000))
    entry = JournalEntry.objects.get(chain=SCOPE, kind="cash_flow")
    assert (entry.actor, entry.subject) == ("broker", "20260105000000000::1")
    assert entry.data == {
        "kind": "CSW",
        "amount": "-40000",
        "occurred_at": "2026-01-05T15:00:00.000000Z",
        "session": "2026-01-05",
        "moved_start": True,
        "cash": "60000",
        "reason": "told by the broker",
    }


def test_the_same_activity_with_another_amount_is_a_conflict_and_changes_nothing(account, clock):
    flow(account, -40_000, clock)
    with pytest.raises(ConflictError) as caught:
        flow(account, -40_001, clock)
    assert caught.value.code == "cash_flow_conflict"
    assert CashFlow.objects.get().amount == Decimal(-40_000)
    assert RiskRow.objects.get(pk=SCOPE).cash == Decimal(60_000)


def test_a_flow_before_the_brokers_close_is_in_its_figure_and_one_after_it_is_not(account, clock, monkeypatch):
    SaysEquity(monkeypatch)
    to(clock, 2026, 1, 6, 5, 0)
    flow(account, 1_000, clock, at=datetime(2026, 1, 5, 22, 0, tzinfo=UTC), activity_id="evening", kind="CSD")
    mark_account(account, clock=clock, close=ask_previous_close(account, clock=clock))
    assert start() == Decimal(99_000)  # 98000 at the close, and the evening's deposit
    flow(account, 500, clock, at=datetime(2026, 1, 5, 20, 0, tzinfo=UTC), activity_id="afternoon", kind="CSD")
    assert start() == Decimal(99_000)
    flow(account, 250, clock, activity_id="night", kind="CSD")
    assert start() == Decimal(99_250)
    moved = dict(CashFlow.objects.values_list("activity_id", "moved_start"))
    assert moved == {"evening": True, "afternoon": False, "night": True}
    assert RiskRow.objects.get(pk=SCOPE).cash == Decimal(101_750)


def test_an_emptied_account_has_no_day_and_is_not_evaluated(account, clock):
    flow(account, -100_000, clock)
    row = breaker()
    assert (row.session, row.evaluated_at, row.tripped_at) == (None, None, None)
    assert mark_account(account, clock=clock) == 0
    assert breaker().evaluated_at is None
    flow(account, 5_000, clock, activity_id="again", kind="CSD")
    mark_account(account, clock=clock)
    assert (breaker().session, start()) == (date(2026, 1, 5), Decimal(5_000))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", Decimal(0)),
        ("amount", Decimal("NaN")),
        ("amount", Decimal("0.0000000001")),
        ("amount", 5.0),
        ("activity_id", ""),
        ("kind", "TOO-LONG-A-WORD"),
        ("reason", "two\nlines"),
        ("occurred_at", datetime(2026, 1, 5)),  # noqa: DTZ001  what is refused
        ("occurred_at", datetime(2026, 1, 8, tzinfo=UTC)),
    ],
)
def test_a_cash_flow_that_makes_no_sense_is_refused_by_field(account, clock, name, value):
    good = {"activity_id": "1", "kind": "CSD", "amount": Decimal(1), "occurred_at": clock.now(), "reason": "why"}
    with pytest.raises(InvalidInputError) as caught:
        record_cash_flow(account, **{**good, name: value}, actor="ann", clock=clock)
    assert [error.field for error in caught.value.errors] == [name]
    assert CashFlow.objects.count() == 0


def test_a_realised_loss_trips_as_soon_as_it_is_booked(account, clock):
    Position.objects.create(account=account, symbol="OLD", realized_pnl=Decimal("-5999.99"))
    mark_realized(account, clock=clock)
    assert breaker().reason == ""
    Position.objects.filter(symbol="OLD").update(realized_pnl=-6_000)
    mark_realized(account, clock=clock)
    assert breaker().reason == "realized-loss-0.060"


def test_a_realised_loss_trips_on_a_mark_although_the_rest_has_gained(account, clock):
    Position.objects.create(account=account, symbol="OLD", realized_pnl=-7_000)
    hold(account, 150, clock)
    assert mark_account(account, clock=clock) == Decimal(120_000)
    assert breaker().reason == "realized-loss-0.070"


def test_what_was_realised_on_earlier_days_does_not_count(account, clock):
    Position.objects.create(account=account, symbol="OLD", realized_pnl=-5_000)
    to(clock, 2026, 1, 6, 15, 0)
    mark_account(account, clock=clock)
    assert breaker().realized_before == Decimal(-5_000)
    Position.objects.filter(symbol="OLD").update(realized_pnl=-10_000)
    mark_realized(account, clock=clock)
    assert (breaker().reason, breaker().state["last_realized"]) == ("", "-5000")
    mark_account(account, clock=clock)
    assert (breaker().reason, breaker().state["last_realized"]) == ("", "-5000")


def test_a_realised_figure_waits_until_the_day_has_begun(account, clock):
    Position.objects.create(account=account, symbol="OLD", realized_pnl=-50_000)
    to(clock, 2026, 1, 6, 15, 0)
    mark_realized(account, clock=clock)
    assert breaker().tripped_at is None


def test_an_option_is_worth_a_hundred_times_its_price(account, clock):
    symbol = "AAPL260116C00200000"
    Position.objects.create(account=account, symbol=symbol, qty=-2, avg_price=3)
    row = {"price": "4.5", "bid": None, "ask": None, "as_of": clock.now().isoformat()}
    hot_state().store([(symbol, row)])
    assert mark_account(account, clock=clock) == Decimal(99_100)


def test_a_holding_that_is_booked_between_the_reading_and_the_lock_is_read_again(account, clock):
    hold(account, 90, clock)
    assert mark_account(account, clock=clock, quotes={}) == Decimal(96_000)


def test_equity_is_exact_to_the_ninth_decimal(account, clock):
    hold(account, "33.333333333", clock, qty=3, cash=Decimal("99999.999999999"))
    assert mark_account(account, clock=clock) == Decimal("100099.999999998")
    assert Decimal(breaker().state["last_equity"]) == Decimal("100099.999999998")


def test_the_day_that_began_is_told_to_the_journal(account, clock):
    to(clock, 2026, 1, 6, 15, 0)
    mark_account(account, clock=clock)
    entry = JournalEntry.objects.get(chain=SCOPE, kind="day_started")
    assert entry.data == {
        "session": "2026-01-06",
        "start_equity": "100000",
        "source": "first_reading",
        "realized_before": "0",
    }
    clock.advance(timedelta(minutes=1).total_seconds())
    mark_account(account, clock=clock)
    assert JournalEntry.objects.filter(chain=SCOPE, kind="day_started").count() == 1
