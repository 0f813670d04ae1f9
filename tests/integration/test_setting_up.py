"""Accounts, strategies and keys: what is refused, by which name, and what the firm's journal keeps of it."""

from decimal import Decimal

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError, NotFoundError
from backend.tradingbot.models import Account, ApiKey, Breaker, JournalEntry, RiskRow, Strategy
from backend.tradingbot.selectors.setting_up import key_named
from backend.tradingbot.services import journal
from backend.tradingbot.services.accounts import change_account, change_strategy, create_account, create_strategy
from backend.tradingbot.services.keys import create_key, key_digest, revoke_key

pytestmark = pytest.mark.django_db(transaction=False)


@pytest.fixture
def account():
    return create_account(code="one", cash=Decimal(1_000), broker_account="PA-ONE", symbols=["AAPL"], actor="test")


@pytest.fixture
def strategy():
    return create_strategy(code="mean", mode="live", actor="test")


def firm_entries():
    return list(JournalEntry.objects.filter(chain="firm").values_list("kind", "actor", "subject"))


def fields_of(error):
    return [item.field for item in error.value.errors]


def test_a_new_account_has_its_risk_row_its_breaker_and_an_entry(account):
    assert RiskRow.objects.get(pk="account:one").cash == 1_000
    assert Breaker.objects.filter(scope__in=["firm", "account:one"]).count() == 2
    assert firm_entries() == [("account_created", "test", "account:one")]
    assert journal.verify("firm").intact


def test_a_code_that_is_taken_is_refused_and_nothing_is_left_behind(account):
    with pytest.raises(ConflictError) as error:
        create_account(code="one", cash=None, broker_account="PA-TWO")
    assert error.value.code == "account_code_used"
    assert (Account.objects.count(), Breaker.objects.count(), JournalEntry.objects.count()) == (1, 2, 1)


def test_two_accounts_never_share_one_account_of_the_broker(account):
    with pytest.raises(ConflictError) as error:
        create_account(code="two", cash=None, broker_account="PA-ONE")
    assert error.value.code == "broker_account_used"
    assert not RiskRow.objects.filter(pk="account:two").exists()


def test_every_wrong_field_of_an_account_is_named_at_once():
    with pytest.raises(InvalidInputError) as error:
        create_account(code="a b", cash=None, broker_account="", symbols=["aapl"], max_tick_age_seconds=0)
    assert fields_of(error) == ["broker_account", "code", "symbols", "max_tick_age_seconds"]


def test_a_breaker_without_sense_refuses_the_account():
    with pytest.raises(InvalidInputError) as error:
        create_account(code="one", cash=None, broker_account="PA", breaker={"max_daily_drawdown": 6})
    assert fields_of(error) == ["max_daily_drawdown"]
    assert not Account.objects.exists()


def test_a_strategy_that_is_there_already_is_refused(strategy):
    with pytest.raises(ConflictError) as error:
        create_strategy(code="mean", mode="live")
    assert error.value.code == "strategy_code_used"


def test_a_change_is_journalled_with_before_after_and_why(account):
    change_account("one", {"symbols": ["AAPL", "SPY"], "active": True}, actor="admin:ann", reason="adds SPY")
    entry = JournalEntry.objects.get(kind="account_changed")
    assert entry.actor == "admin:ann"
    assert entry.data == {"reason": "adds SPY", "before": {"symbols": ["AAPL"]}, "after": {"symbols": ["AAPL", "SPY"]}}
    assert Account.objects.get().symbols == ["AAPL", "SPY"]


def test_a_change_to_what_is_so_already_writes_nothing(account):
    change_account("one", {"active": True}, actor="test", reason="no news")
    assert not JournalEntry.objects.filter(kind="account_changed").exists()


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"broker_account": "PA-2"}, "why", "broker_account"),
        ({"active": False}, " ", "reason"),
        ({"market_collar_bps": 0}, "why", "market_collar_bps"),
        ({"max_tick_age_seconds": True}, "why", "max_tick_age_seconds"),
        ({"symbols": ["SPY", "SPY"]}, "why", "symbols"),
    ],
)
def test_a_change_that_may_not_be_is_refused_by_its_field(account, changes, reason, field):
    with pytest.raises(InvalidInputError) as error:
        change_account("one", changes, actor="test", reason=reason)
    assert fields_of(error) == [field]


def test_a_strategy_can_be_switched_off_and_an_unknown_one_is_not_found(strategy):
    change_strategy("mean", {"active": False}, actor="test", reason="over")
    assert Strategy.objects.get().active is False
    with pytest.raises(NotFoundError) as error:
        change_strategy("none", {"active": False}, actor="test", reason="over")
    assert error.value.code == "strategy_not_found"


def test_of_a_key_only_the_digest_is_kept_and_the_token_is_nowhere(account, strategy):
    key, token = create_key(name="bot", role="trader", account=account, strategy=strategy, actor="test")
    assert ApiKey.objects.get().digest == key_digest(token)
    entry = JournalEntry.objects.get(kind="key_created")
    assert (entry.actor, entry.subject) == ("test", "key:bot")
    assert token not in str(entry.data) and key.digest not in str(entry.data)


def test_the_name_of_a_key_is_never_used_twice_not_even_after_revocation():
    key, _ = create_key(name="ops", role="risk")
    assert revoke_key(key, reason="leaver", actor="admin:ann", clock=FixedClock()) is True
    with pytest.raises(ConflictError) as error:
        create_key(name="ops", role="risk")
    assert error.value.code == "key_name_used"


def test_a_key_is_revoked_once_with_who_and_why():
    key, _ = create_key(name="ops", role="risk")
    clock = FixedClock()
    assert revoke_key(key, reason="leaver", actor="admin:ann", clock=clock) is True
    clock.advance(60)
    assert revoke_key(key, reason="again", actor="admin:bob", clock=clock) is False
    entry = JournalEntry.objects.get(kind="key_revoked")
    assert (entry.actor, entry.data, entry.at) == ("admin:ann", {"reason": "leaver"}, key_named("ops").revoked_at)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"role": "trader"}, ["account", "strategy"]),
        ({"role": "boss"}, ["role"]),
        ({"role": "viewer", "capabilities": ["fly"]}, ["capabilities"]),
        ({"role": "admin", "capabilities": ["force_reset"]}, ["capabilities"]),
        ({"role": "viewer", "capabilities": ["feed"]}, ["feed_symbols"]),
        ({"role": "viewer", "feed_symbols": ["AAPL"]}, ["feed_symbols"]),
        ({"role": "viewer", "capabilities": ["feed"], "feed_symbols": ["a"]}, ["feed_symbols"]),
        ({"role": "viewer", "name": " x"}, ["name"]),
    ],
)
def test_a_key_without_sense_is_refused_by_its_field(fields, wrong):
    with pytest.raises(InvalidInputError) as error:
        create_key(**{"name": "k", **fields})
    assert fields_of(error) == wrong
    assert not ApiKey.objects.exists()
