"""The commands that set a gateway up, as an operator types them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO

import pytest
import requests
from django.core.management import CommandError, call_command
from pydantic import SecretStr

from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.values import OrderRequest
from backend.tradingbot.models import Account, ApiKey, Breaker, Execution, Feed, JournalEntry, RiskRow
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.fills import poll_account
from tests.integration.conftest import BROKER_HEADERS, KEY, SECRET

pytestmark = pytest.mark.django_db(transaction=False)


def run(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as error:
        run(*arguments)
    return str(error.value)


class TestFeed:
    DECLARE = ("feed", "declare", "sip", "--symbols", "aapl, msft", "--max-silence", "60", "--reason", "we trade on it")

    def test_declare_change_and_list_tell_what_is_watched(self):
        ensure_firm()
        assert run(*self.DECLARE)[0].strip() == "feed sip is watched"
        out, _ = run("feed", "change", "sip", "--max-silence", "30", "--calendar", "24/7", "--reason", "stricter")
        assert out.strip() == "feed sip is changed"
        feed = Feed.objects.get()
        assert (feed.symbols, feed.max_silence_seconds, feed.session_calendar) == (["AAPL", "MSFT"], 30, "24/7")
        run("feed", "change", "sip", "--off", "--reason", "the vendor is gone")
        listed = run("feed", "list")[0].splitlines()[1].split()
        assert listed == ["sip", "off", "24/7", "30", "s", "never", "-", "AAPL,", "MSFT"]
        assert list(JournalEntry.objects.filter(subject="feed:sip").values_list("kind", flat=True)) == [
            "feed_declared", "feed_changed", "feed_changed",
        ]  # fmt: skip

    def test_what_makes_no_sense_is_refused_and_nothing_is_written(self):
        ensure_firm()
        assert "max_silence_seconds must be a whole number" in refused(*self.DECLARE[:-3], "0", *self.DECLARE[-2:])
        assert "nothing to change" in refused("feed", "change", "sip", "--reason", "why")
        assert "contradict" in refused("feed", "change", "sip", "--on", "--off", "--reason", "why")
        assert "[feed_not_found]" in refused("feed", "change", "sip", "--off", "--reason", "why")
        assert Feed.objects.count() == 0


class TestAccount:
    def test_create_sets_up_the_account_its_risk_row_and_its_breaker(self):
        options = ["--broker-account", "PA-9", "--cash", "2500.75", "--symbols", "aapl, msft", "--cooldown-sec", "60"]
        out, err = run("account", "create", "main", *options, "--max-tick-age-seconds", "10")
        assert (out, err) == ("account main is set up\n", "")
        account = Account.objects.get()
        assert (account.code, account.broker_account, account.symbols) == ("main", "PA-9", ["AAPL", "MSFT"])
        assert account.max_tick_age_seconds == 10
        assert RiskRow.objects.get(pk="account:main").cash == Decimal("2500.75")
        assert Breaker.objects.get(scope="account:main").cooldown_sec == 60
        assert JournalEntry.objects.get(kind="account_created").actor.startswith("operator:")

    def test_what_is_left_out_is_said(self):
        _, err = run("account", "create", "main", "--broker-account", "PA-9")
        assert err == "it may trade nothing yet: name --symbols, or set them in the admin\n" + (
            "its cash is unknown, so every purchase is denied\n"
        )

    def test_without_a_number_at_the_broker_it_says_how_to_get_one(self):
        assert refused("account", "create", "main") == "name --broker-account, or let --from-broker read it"

    def test_every_wrong_field_is_named_with_what_was_typed(self):
        text = refused(
            "account", "create", "a b", "--broker-account", "PA", "--symbols", "a$", "--market-collar-bps", "0"
        )
        assert [line.split(" ")[0] for line in text.splitlines()] == ["code", "symbols", "market_collar_bps"]
        assert "'a b'" in text

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "1,000", "much"])
    def test_cash_that_is_no_amount_is_refused(self, text):
        assert "argument --cash" in refused("account", "create", "main", "--broker-account", "PA", "--cash", text)

    def test_a_taken_number_is_refused_by_its_code(self):
        run("account", "create", "main", "--broker-account", "PA-9")
        assert refused("account", "create", "two", "--broker-account", "PA-9").endswith("[broker_account_used]")

    def test_list_and_show_say_what_is_there(self):
        run("account", "create", "main", "--broker-account", "PA-9", "--cash", "100", "--symbols", "AAPL")
        lines = run("account", "list")[0].splitlines()
        assert [line.split() for line in lines] == [
            ["CODE", "AT", "THE", "BROKER", "STATE", "CASH", "MAY", "TRADE"],
            ["main", "PA-9", "active", "100", "AAPL"],
        ]
        shown = dict(line.split(None, 1) for line in run("account", "show", "main")[0].splitlines())
        assert (shown["code"], shown["cash"], shown["breaker"], shown["keys"]) == ("main", "100", "closed", "none")

    def test_an_unknown_account_is_told_with_those_that_there_are(self):
        run("account", "create", "main", "--broker-account", "PA-9")
        assert refused("account", "show", "mian") == "there is no account mian. there are: main. [account_not_found]"


class TestFromBroker:
    @pytest.fixture
    def own_broker(self, tmp_path, settings) -> Iterator[str]:
        """A broker that no other test trades with."""
        command = [sys.executable, "-m", "backend.paperbroker", "--port", "0", "--ledger", str(tmp_path / "p.sqlite3")]
        environment = {"ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": SECRET}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = next(line for line in process.stdout if "ready on" in line).split()[-1]
            secrets = {"alpaca_api_key": SecretStr(KEY), "alpaca_secret_key": SecretStr(SECRET)}
            settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"alpaca_base_url": url, **secrets})
            quote = {"symbol": "AAPL", "last": "10", "bid": "10", "ask": "10"}
            requests.post(f"{url}/paper/quotes", json={"quotes": [quote]}, headers=BROKER_HEADERS, timeout=5)
            yield url
            process.kill()

    def trade(self, settings, side: str, kind: str = "market", limit: Decimal | None = None) -> None:
        client = execution_client(settings.TRADINGBOT)
        client.place_order(OrderRequest(f"{side}-{kind}", "AAPL", Decimal(5), side, kind, "day", limit))

    def test_the_number_and_the_cash_are_the_broker_s(self, own_broker, settings):
        found = execution_client(settings.TRADINGBOT).account()
        out, _ = run("account", "create", "main", "--from-broker", "--symbols", "AAPL")
        assert out.splitlines()[0].endswith(f"account {found.account_number}, cash 1000000")
        account = Account.objects.get()
        assert (account.broker_account, account.risk.cash) == (found.account_number, Decimal(1_000_000))

    def test_executions_from_before_are_not_booked_on_top_of_the_cash(self, own_broker, settings):
        self.trade(settings, "buy")
        self.trade(settings, "sell")
        assert len(execution_client(settings.TRADINGBOT).fills()) == 2
        run("account", "create", "main", "--from-broker")
        assert poll_account(Account.objects.get(), clock=SYSTEM_CLOCK) == 0
        assert not Execution.objects.exists()
        assert RiskRow.objects.get(pk="account:main").cash == Decimal(1_000_000)

    def test_an_account_that_holds_something_is_not_taken_over(self, own_broker, settings):
        self.trade(settings, "buy")
        text = refused("account", "create", "main", "--from-broker")
        assert "positions: 5 AAPL" in text and text.endswith("[broker_account_not_flat]")
        assert not Account.objects.exists()

    def test_an_account_with_an_open_order_is_not_taken_over(self, own_broker, settings):
        self.trade(settings, "buy", "limit", Decimal(1))
        assert "open orders: buy AAPL" in refused("account", "create", "main", "--from-broker")

    def test_a_broker_that_does_not_answer_leaves_nothing_behind(self, settings):
        secrets = {"alpaca_api_key": SecretStr(KEY), "alpaca_secret_key": SecretStr(SECRET)}
        dead = {"alpaca_base_url": "http://127.0.0.1:9", **secrets}
        settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=dead)
        assert refused("account", "create", "main", "--from-broker").endswith("[broker_query_failed]")
        assert not Account.objects.exists()

    def test_without_keys_of_the_broker_it_says_which_settings_are_missing(self, settings):
        settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"alpaca_api_key": SecretStr("")})
        text = refused("account", "create", "main", "--from-broker")
        assert text == (
            "there are no keys for the broker paper. Set ALPACA_API_KEY and ALPACA_SECRET_KEY. [broker_keys_missing]"
        )

    def test_what_the_broker_says_cannot_be_typed_as_well(self):
        assert "leave --broker-account and --cash out" in refused(
            "account", "create", "main", "--from-broker", "--cash", "5"
        )


class TestKeyAndStrategy:
    def test_a_new_key_prints_nothing_but_its_secret_and_it_works(self, client):
        run("strategy", "create", "mean", "--name", "Mean reversion")
        run("account", "create", "main", "--broker-account", "PA-9")
        options = ["--role", "trader", "--account", "main", "--strategy", "mean", "--capability", "feed"]
        out, err = run("key", "create", "bot", *options, "--feed", "AAPL")
        assert client.get("/api/v1/build", headers={"Authorization": f"Bearer {out.strip()}"}).status_code == 200
        assert len(out.splitlines()) == 1 and out.strip() not in err
        assert ApiKey.objects.get().feed_symbols == ["AAPL"]

    def test_revoke_asks_for_a_reason_and_shuts_the_key_out(self, client):
        token = run("key", "create", "ops", "--role", "risk")[0].strip()
        assert "--reason" in refused("key", "revoke", "ops")
        assert refused("key", "revoke", "ops", "--reason", " ").startswith("reason must be")
        assert run("key", "revoke", "ops", "--reason", "lost")[0] == "key ops is revoked\n"
        assert client.get("/api/v1/build", headers={"Authorization": f"Bearer {token}"}).status_code == 401
        assert run("key", "revoke", "ops", "--reason", "lost")[0] == "key ops was revoked before\n"

    def test_the_list_of_keys_has_no_secret_in_it(self):
        token = run("key", "create", "ops", "--role", "risk", "--capability", "force_reset")[0].strip()
        out, _ = run("key", "list")
        assert out.splitlines()[1].split() == ["ops", "risk", "-", "-", "force_reset", "-", "live"]
        assert token not in out and ApiKey.objects.get().digest not in out

    def test_a_trader_s_key_without_account_says_what_is_missing(self):
        text = refused("key", "create", "bot", "--role", "trader")
        assert [line.split(" ")[0] for line in text.splitlines()] == ["account", "strategy"]

    def test_a_strategy_that_is_not_there_is_told_with_those_that_are(self):
        run("strategy", "create", "mean")
        text = refused("key", "create", "bot", "--role", "risk", "--strategy", "maen")
        assert text == "there is no strategy maen. there are: mean. [strategy_not_found]"

    def test_strategies_are_listed(self):
        run("strategy", "create", "mean", "--name", "Mean")
        assert run("strategy", "list")[0].splitlines()[1].split()[:3] == ["mean", "Mean", "active"]
