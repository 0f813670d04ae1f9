"""The admin as people use it: what each may see and do, and what is left in the evidence afterwards."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.urls import reverse

from backend.tradingbot.admin.others import may_have_a_page
from backend.tradingbot.admin.rendering import facts
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import (
    Account,
    ApiKey,
    Breaker,
    BreakerEvent,
    Execution,
    JournalEntry,
    Order,
    Strategy,
    TradingState,
)
from backend.tradingbot.services import breakers
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.keys import create_key

pytestmark = pytest.mark.django_db(transaction=False)
SCOPE = "account:main"
VIEWS = [f"view_{name}" for name in ("breaker", "breakerevent", "order", "apikey", "account", "strategy")]


@pytest.fixture
def account():
    strategy = create_strategy(code="mean", mode="live")
    account = create_account(code="main", cash=Decimal(10_000), broker_account="PA-1", symbols=["AAPL"])
    create_key(name="bot", role="trader", account=account, strategy=strategy)
    return account


@pytest.fixture
def sign_in(client):
    """Sign in as somebody of the staff with exactly these permissions, or as the superuser with ``None``."""

    def as_user(*permissions, username="ann"):
        user = User.objects.create_user(username, is_staff=True)
        found = Permission.objects.filter(codename__in=[*VIEWS, *permissions], content_type__app_label="tradingbot")
        user.user_permissions.set(found)
        client.force_login(user)
        return client

    return as_user


@pytest.fixture
def boss(client):
    client.force_login(User.objects.create_superuser("boss"))
    return client


def page(name, *arguments):
    return reverse(f"admin:tradingbot_{name}", args=arguments)


def breaker_page(act):
    return page(f"breaker_{act}_breaker", Breaker.objects.get(scope=SCOPE).pk)


def trip(reason="look"):
    breakers.trip(SCOPE, actor="test", reason=reason, clock=SYSTEM_CLOCK)


def make_order(account):
    now = datetime.now(UTC)
    names = {"value": None, "limit": None, "headroom": None}
    checks = [
        {"gate": "replay_guard", "passed": True, "code": "first_use", "message": "never used", "remedy": "", **names},
        {
            "gate": "buying_power",
            "passed": False,
            "code": "insufficient",
            "message": "the order needs <b>900</b>",
            "remedy": "mend it and send a new id",
            "value": "900",
            "limit": "100",
            "headroom": "-800",
        },
    ]
    order = Order.objects.create(
        account=account, strategy=Strategy.objects.get(), client_order_id="o-1", body_digest="d", symbol="AAPL",
        side="buy", qty=5, type="market", time_in_force="day", status="denied", build_id="b", trace_id="t",
        decision={"allowed": False, "checks": checks}, created_at=now, updated_at=now,
    )  # fmt: skip
    Execution.objects.create(
        account=account, order=order, execution_id="x-1", symbol="AAPL", side="buy", qty=Decimal("2.5"), price=10,
        occurred_at=now, recorded_at=now, build_id="b",
    )  # fmt: skip
    return order


def test_every_page_of_the_admin_opens(boss, account):
    make_order(account)
    trip()
    opened = []
    for model, pages in admin.site._registry.items():
        options = model._meta
        prefix = f"admin:{options.app_label}_{options.model_name}"
        addresses = [reverse(f"{prefix}_changelist")]
        row = model._default_manager.first()
        if row is not None:
            addresses.append(reverse(f"{prefix}_change", args=[row.pk]))
        request = boss.get("/admin/").wsgi_request
        if pages.has_add_permission(request):
            addresses.append(reverse(f"{prefix}_add"))
        for address in addresses:
            assert boss.get(address).status_code == 200, address
        opened += addresses
    assert len(opened) >= 25


@pytest.mark.parametrize(
    "name", ["order", "execution", "position", "breaker", "breakerevent", "journalentry", "riskrow"]
)
def test_evidence_can_be_neither_added_nor_changed_nor_deleted(boss, account, name):
    make_order(account)
    trip()
    assert boss.get(page(f"{name}_add")).status_code == 403
    model = next(model for model in admin.site._registry if model._meta.model_name == name)
    row = model._default_manager.first()
    if row is not None:
        assert boss.post(page(f"{name}_change", row.pk), {"reason": "x"}).status_code == 403
        assert boss.post(page(f"{name}_delete", row.pk), {"post": "yes"}).status_code == 403


def test_without_signing_in_there_is_only_the_sign_in(client, account):
    answer = client.get(breaker_page("trip"))
    assert (answer.status_code, answer.url.split("?")[0]) == (302, "/admin/login/")


def test_the_bare_address_leads_to_the_admin(client):
    answer = client.get("/")
    assert (answer.status_code, answer.url) == (302, "/admin/")


class TestBreakers:
    def test_a_trip_asks_for_the_reason_first(self, sign_in, account):
        browser = sign_in("trip_breaker")
        assert b"Trip account:main" in browser.get(breaker_page("trip")).content
        refused = browser.post(breaker_page("trip"), {"reason": "  "})
        assert refused.status_code == 422
        assert Breaker.objects.get(scope=SCOPE).tripped_at is None

    def test_a_trip_is_in_the_events_and_the_journal_with_the_name_of_the_person(self, sign_in, account):
        answer = sign_in("trip_breaker").post(breaker_page("trip"), {"reason": "odd fills"}, follow=True)
        assert b"account:main is open" in answer.content
        event = BreakerEvent.objects.get()
        assert (event.kind, event.actor, event.reason) == ("breaker_trip", "admin:ann", "odd fills")
        assert JournalEntry.objects.get(kind="breaker_trip").actor == "admin:ann"

    def test_a_name_that_is_too_long_for_the_journal_is_told_by_number(self, sign_in, account):
        browser = sign_in("trip_breaker", username="n" * 150)
        browser.post(breaker_page("trip"), {"reason": "odd fills"})
        assert BreakerEvent.objects.get().actor == f"admin:user-{User.objects.get().pk}"

    @pytest.mark.parametrize("act", ["trip", "reset"])
    def test_who_lacks_the_permission_sees_no_button_and_gets_no_page(self, sign_in, account, act):
        trip()
        browser = sign_in("force_reset_breaker")
        assert browser.get(breaker_page(act)).status_code == 403
        assert browser.post(breaker_page(act), {"reason": "why"}).status_code == 403
        row = page("breaker_change", Breaker.objects.get(scope=SCOPE).pk)
        assert breaker_page(act).encode() not in browser.get(row).content
        assert BreakerEvent.objects.count() == 1

    def test_the_page_of_a_reset_says_what_stands_against_it(self, sign_in, account):
        trip()
        content = sign_in("reset_breaker").get(breaker_page("reset")).content.decode()
        assert "Cooldown remaining" in content and "30 min" in content
        assert "Causes that still hold" in content
        assert 'name="force"' not in content

    def test_a_reset_in_the_cooldown_is_refused_with_what_remains(self, sign_in, account):
        trip()
        answer = sign_in("reset_breaker").post(breaker_page("reset"), {"reason": "fine again"})
        assert answer.status_code == 422
        assert b"the cooldown runs for another" in answer.content
        assert Breaker.objects.get(scope=SCOPE).tripped_at is not None

    def test_forcing_without_the_permission_is_forbidden_even_by_hand(self, sign_in, account):
        trip()
        answer = sign_in("reset_breaker").post(breaker_page("reset"), {"reason": "fine again", "force": "on"})
        assert answer.status_code == 403
        assert Breaker.objects.get(scope=SCOPE).tripped_at is not None

    def test_who_may_force_closes_it_and_that_is_on_record(self, sign_in, account):
        trip()
        browser = sign_in("reset_breaker", "force_reset_breaker")
        assert b'name="force"' in browser.get(breaker_page("reset")).content
        answer = browser.post(breaker_page("reset"), {"reason": "checked", "force": "on"}, follow=True)
        assert b"is closed again (forced)" in answer.content
        assert Breaker.objects.get(scope=SCOPE).tripped_at is None
        event = BreakerEvent.objects.first()
        assert (event.kind, event.actor, event.reason) == ("breaker_reset", "admin:ann", "checked (forced)")

    def test_a_reset_after_the_cooldown_needs_no_force(self, sign_in, account):
        Breaker.objects.filter(scope=SCOPE).update(cooldown_sec=0)
        trip()
        sign_in("reset_breaker").post(breaker_page("reset"), {"reason": "mended"})
        assert Breaker.objects.get(scope=SCOPE).tripped_at is None

    def test_a_closed_breaker_offers_no_reset(self, boss, account):
        row = page("breaker_change", Breaker.objects.get(scope=SCOPE).pk)
        assert breaker_page("reset").encode() not in boss.get(row).content
        trip()
        assert breaker_page("reset").encode() in boss.get(row).content

    def test_a_breaker_that_is_not_there_is_not_found(self, boss, account):
        assert boss.get(page("breaker_trip_breaker", 999_999)).status_code == 404
        assert boss.get("/admin/tradingbot/breaker/x/trip/").status_code == 404


class TestKeys:
    def body(self, **changes):
        return {"name": "ops", "role": "risk", "account": "", "strategy": "", "feed_symbols": "", **changes}

    def test_a_key_is_shown_once_and_works_until_it_is_revoked(self, boss, account):
        answer = boss.post(page("apikey_add"), self.body(capabilities=["force_reset"]))
        assert answer.status_code == 201 and "no-store" in answer["Cache-Control"]
        token = answer.context["token"]
        assert token.encode() in answer.content
        assert boss.get("/api/v1/build", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        key = ApiKey.objects.get(name="ops")
        assert token not in str(vars(key)) and token.encode() not in boss.get(page("apikey_change", key.pk)).content
        assert not any(token in str(session.get_decoded()) for session in Session.objects.all())
        assert JournalEntry.objects.get(kind="key_created", subject="key:ops").actor == "admin:boss"

        address = page("apikey_revoke_key", key.pk)
        assert boss.post(address, {"reason": ""}).status_code == 422
        assert boss.post(address, {"reason": "lost"}).status_code == 302
        assert boss.get("/api/v1/build", headers={"Authorization": f"Bearer {token}"}).status_code == 401
        assert JournalEntry.objects.get(kind="key_revoked").data == {"reason": "lost"}

    def test_what_the_service_would_refuse_is_said_at_the_field(self, boss, account):
        answer = boss.post(page("apikey_add"), self.body(role="trader", capabilities=["feed"]))
        errors = answer.context["adminform"].form.errors
        assert (answer.status_code, sorted(errors)) == (200, ["account", "feed_symbols", "strategy"])
        assert ApiKey.objects.count() == 1

    def test_a_name_that_was_used_is_refused(self, boss, account):
        answer = boss.post(page("apikey_add"), self.body(name="bot"))
        assert "name" in answer.context["adminform"].form.errors

    def test_revoking_needs_its_permission(self, sign_in, account):
        browser = sign_in("add_apikey", "change_apikey", "delete_apikey")
        key = ApiKey.objects.get()
        assert browser.post(page("apikey_revoke_key", key.pk), {"reason": "x"}).status_code == 403
        assert browser.post(page("apikey_change", key.pk), {"name": "other"}).status_code == 403
        assert browser.post(page("apikey_delete", key.pk), {"post": "yes"}).status_code == 403
        assert ApiKey.objects.get().revoked_at is None


class TestAccounts:
    def body(self, **changes):
        terms = {"max_tick_age_seconds": 20, "max_mark_age_seconds": 60, "market_collar_bps": 100}
        counts = {f"{name}-{count}_FORMS": 0 for name in ("risk", "positions") for count in ("TOTAL", "INITIAL")}
        return {"name": "", "symbols": "aapl, SPY", **terms, **counts, **changes}

    def test_an_account_is_made_by_the_service(self, boss, account):
        body = self.body(code="two", broker_account="PA-2", cash="5000.50")
        assert boss.post(page("account_add"), body).status_code == 302
        made = Account.objects.get(code="two")
        assert (made.symbols, made.risk.cash) == (["AAPL", "SPY"], Decimal("5000.50"))
        assert Breaker.objects.filter(scope="account:two").exists()
        assert JournalEntry.objects.get(subject="account:two").actor == "admin:boss"

    def test_a_change_needs_a_reason_and_is_journalled(self, boss, account):
        address = page("account_change", account.pk)
        body = self.body(name="Main", active="on")
        assert "reason" in boss.post(address, body).context["adminform"].form.errors
        assert boss.post(address, {**body, "reason": "adds SPY"}).status_code == 302
        entry = JournalEntry.objects.get(kind="account_changed")
        assert (entry.actor, entry.data["reason"], entry.data["after"]) == (
            "admin:boss",
            "adds SPY",
            {"name": "Main", "symbols": ["AAPL", "SPY"]},
        )

    def test_the_code_and_the_account_of_the_broker_stay_what_they_are(self, boss, account):
        body = self.body(active="on", reason="move", code="other", broker_account="PA-9")
        boss.post(page("account_change", account.pk), body)
        account.refresh_from_db()
        assert (account.code, account.broker_account, account.symbols) == ("main", "PA-1", ["AAPL", "SPY"])

    def test_a_wrong_figure_is_refused_at_its_field(self, boss, account):
        answer = boss.post(page("account_change", account.pk), self.body(market_collar_bps=20_000, reason="x"))
        assert list(answer.context["adminform"].form.errors) == ["market_collar_bps"]

    def test_a_strategy_is_made_and_switched_off_with_a_reason(self, boss, account):
        assert boss.post(page("strategy_add"), {"code": "slow", "name": ""}).status_code == 302
        made = Strategy.objects.get(code="slow")
        assert boss.post(page("strategy_change", made.pk), {"name": "", "reason": "over"}).status_code == 302
        made.refresh_from_db()
        assert made.active is False
        assert JournalEntry.objects.get(kind="strategy_changed").data["reason"] == "over"

    def test_nothing_that_the_evidence_names_is_deleted(self, boss, account):
        for name, row in (("account", account), ("strategy", Strategy.objects.get())):
            assert boss.post(page(f"{name}_delete", row.pk), {"post": "yes"}).status_code == 403
        user = User.objects.get()
        assert boss.post(reverse("admin:auth_user_delete", args=[user.pk]), {"post": "yes"}).status_code == 403


def test_every_table_of_the_bot_has_a_page():
    shown = {model for model in admin.site._registry if model._meta.app_label == "tradingbot"}
    assert shown == {model for model in apps.get_app_config("tradingbot").get_models() if may_have_a_page(model)}


class TestTradingStates:
    def address(self, act):
        return page(f"tradingstate_{act}", TradingState.objects.get(scope=SCOPE).pk)

    def test_a_halt_is_set_with_the_name_and_the_reason(self, sign_in, account):
        browser = sign_in("trip_breaker", "view_tradingstate")
        assert browser.post(self.address("halt"), {"reason": ""}).status_code == 422
        assert browser.post(self.address("halt"), {"reason": "odd fills"}).status_code == 302
        row = TradingState.objects.get(scope=SCOPE)
        assert (row.state, row.actor, row.reason) == ("halted", "admin:ann", "odd fills")

    def test_who_may_restrict_may_not_re_activate_by_that(self, sign_in, account):
        browser = sign_in("trip_breaker", "view_tradingstate")
        browser.post(self.address("reduce_only"), {"reason": "calm down"})
        assert browser.post(self.address("activate"), {"reason": "go"}).status_code == 403
        assert TradingState.objects.get(scope=SCOPE).state == "reducing"

    def test_re_activating_has_a_permission_of_its_own(self, sign_in, account):
        browser = sign_in("trip_breaker", "reset_breaker", "view_tradingstate")
        browser.post(self.address("halt"), {"reason": "stop"})
        browser.post(self.address("activate"), {"reason": "go"})
        row = TradingState.objects.get(scope=SCOPE)
        assert (row.state, row.reason) == ("active", "go")


def test_what_lies_deep_is_folded_and_never_markup():
    text = str(facts({"a": {"b": {"c": "<i>"}}, "list": ["x", "y"], "empty": {}, "on": True}))
    assert text.count("<dl") == 2 and "<details" in text and "&lt;i&gt;" in text and "<i>" not in text
    assert "x, y" in text and "yes" in text


def test_an_order_shows_each_gate_with_the_failed_ones_first(boss, account):
    order = make_order(account)
    answer = boss.get(page("order_change", order.pk))
    rows = [[str(cell) for cell in row] for row in answer.context["decision_table"]["rows"]]
    assert "buying_power" in rows[0][0] and "insufficient" in rows[0][1]
    assert rows[0][2:5] == ["900", "100", "-800"]
    assert "the order needs &lt;b&gt;900&lt;/b&gt;" in rows[0][5] and "Mend it and send a new id." in rows[0][5]
    content = answer.content.decode()
    assert "denied" in content and "the order needs &lt;b&gt;900&lt;/b&gt;" in content
    assert "2.5" in content and "2.500000000" not in content


def test_the_list_of_orders_names_the_gates_that_refused(boss, account):
    make_order(account)
    assert b"buying_power" in boss.get(page("order_changelist")).content


def test_the_journal_is_found_by_whole_words_and_by_chain(boss, account):
    trip("odd")
    found = boss.get(page("journalentry_changelist"), {"q": SCOPE, "chain": "firm"}).context["cl"].result_list
    assert sorted(entry.kind for entry in found) == ["account_created", "breaker_trip"]
    assert not boss.get(page("journalentry_changelist"), {"q": SCOPE, "chain": SCOPE}).context["cl"].result_list


def test_an_address_that_somebody_typed_is_no_error_of_ours(boss):
    """`/admin/tradingbot/breaker/firm/change/` is an easy guess, and a 500 is a page in the night."""
    models = [model for model in admin.site._registry if model._meta.app_label == "tradingbot"]
    assert len(models) > 40
    boss.raise_request_exception = False
    answers = {
        model.__name__: boss.get(page(f"{model._meta.model_name}_change", "firm")).status_code for model in models
    }
    assert {name: status for name, status in answers.items() if status not in (200, 302, 404)} == {}
