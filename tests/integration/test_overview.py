"""The overview's read: what counts as stopped and as near, and that its cost does not grow with the rows."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backend.tradingbot.admin import overview as pages
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import (
    AccountExposure,
    Breaker,
    DataStop,
    Feed,
    Order,
    ReconciliationBlock,
    RiskRow,
    Strategy,
)
from backend.tradingbot.risk.exposure import DELTA, MEASURES, THETA
from backend.tradingbot.risk.trading_state import Trading
from backend.tradingbot.selectors.overview import overview, use_of
from backend.tradingbot.services import breakers
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.trading_states import set_state

pytestmark = pytest.mark.django_db(transaction=False)
MOST_STATEMENTS = 20


def make_account(code, **changes):
    return create_account(code=code, cash=Decimal(10_000), broker_account=f"PA-{code}", symbols=["AAPL"], **changes)


def make_order(account, name, **changes):
    strategy = Strategy.objects.filter(code="mean").first() or create_strategy(code="mean", mode="live")
    now = datetime.now(UTC)
    fields = {"status": "denied", "qty": 5, "type": "market", "decision": {"allowed": False, "checks": [
        {"gate": "order_size", "passed": False}, {"gate": "replay_guard", "passed": True}]}}  # fmt: skip
    return Order.objects.create(
        account=account, strategy=strategy, client_order_id=name, body_digest="d", symbol="AAPL", side="buy",
        time_in_force="day", build_id="b", trace_id="t", created_at=now, updated_at=now, **{**fields, **changes},
    )  # fmt: skip


def look(now=None):
    return overview(now or datetime.now(UTC), mark_seconds=5)


def test_a_stop_says_why_since_when_until_when_and_who_lifts_it():
    account = make_account("main")
    breakers.trip("account:main", actor="ann", reason="daily loss", clock=SYSTEM_CLOCK)
    set_state("firm", Trading.REDUCING, actor="bob", reason="news", clock=SYSTEM_CLOCK)
    DataStop.objects.create(symbol="AAPL", check_name="z", source="ticks", since=datetime.now(UTC), build_id="b")
    ReconciliationBlock.objects.create(
        account=account, reason="a critical break", placed_by="run", placed_at=datetime.now(UTC)
    )
    stops = {stop.kind: stop for stop in look().stops}
    trip = stops["breaker"]
    assert (trip.scope, trip.why, trip.word, trip.who, trip.act) == (
        "account:main", "daily loss", "breaker open", "the risk role", "Reset")  # fmt: skip
    assert trip.until - trip.since == timedelta(seconds=1800)
    assert (stops["trading_state"].word, stops["trading_state"].level) == ("reduces only", "warning")
    assert stops["data"].scope == "AAPL"
    assert (stops["block"].scope, stops["block"].why) == ("main", "a critical break")


def test_what_is_not_known_is_never_shown_as_normal():
    make_account("dark")
    now = datetime.now(UTC)
    assert not look(now).stops
    late = look(now + timedelta(seconds=60))
    assert [stop.kind for stop in late.stops] == ["unevaluated"]
    RiskRow.objects.filter(scope="account:dark").update(equity=None)
    line = look(now).accounts[0]
    assert (line.equity, line.level, line.uses[0].word) == (None, "danger", "unknown")
    assert [stop.kind for stop in look(now).stops] == ["equity"]


def test_a_firm_that_nobody_marks_is_a_stop_though_ticks_still_mark_the_accounts():
    """Without the worker every purchase is refused, and the page must not say that nothing is stopped."""
    make_account("main")
    now = datetime.now(UTC)
    Breaker.objects.filter(scope="firm").update(evaluated_at=now - timedelta(seconds=60))
    (stop,) = look(now).stops
    assert (stop.kind, stop.scope, stop.since) == ("unevaluated", "firm", now - timedelta(seconds=60))


@pytest.mark.parametrize(
    ("value", "limit", "level", "word"),
    [("79", "100", "normal", ""), ("80", "100", "warning", "near"), ("100", "100", "warning", "near"),
     ("100.01", "100", "danger", "over"), ("1", "0", "danger", "over"), ("0", "0", "normal", "")],
)  # fmt: skip
def test_a_bar_is_near_from_four_fifths_and_over_beyond_the_limit(value, limit, level, word):
    use = use_of("Delta", Decimal(value), Decimal(limit))
    assert (use.level, use.word) == (level, word)


def test_exposure_is_told_at_its_worst_side_and_theta_by_its_decay():
    account = make_account("main")
    low, high = [Decimal(0)] * len(MEASURES), [Decimal(0)] * len(MEASURES)
    low[DELTA], high[DELTA], low[THETA] = Decimal(-900_000), Decimal(10), Decimal(-500)
    AccountExposure.objects.update_or_create(
        account=account, defaults={"low": low, "high": high, "gross": 5, "updated_at": datetime.now(UTC)}
    )
    uses = {use.name: use for use in look().accounts[0].uses}
    assert (uses["Delta"].value, uses["Delta"].word) == (Decimal(900_000), "near")
    assert (uses["Theta"].value, uses["Theta"].used) == (Decimal(500), Decimal("0.5"))
    AccountExposure.objects.update(unknown=2)
    assert look().accounts[0].uses[1].word == "2 unknown"


def test_drawdown_stands_against_the_breakers_limit():
    make_account("main")
    RiskRow.objects.filter(scope="account:main").update(equity=Decimal(9_500))
    use = look().accounts[0].uses[0]
    assert (use.value, use.limit, use.level) == (Decimal("0.05"), Decimal("0.06"), "warning")


def test_the_last_decisions_name_the_gates_that_refused():
    account = make_account("main")
    for number in range(22):
        make_order(account, f"o-{number}")
    doubtful = make_order(account, "lost", status="in_doubt", decision={"allowed": True, "checks": []})
    page = look()
    assert len(page.decisions) == 20
    assert (page.decisions[0].name, page.decisions[0].allowed, page.decisions[0].refused_by) == ("lost", True, "")
    assert (page.decisions[1].name, page.decisions[1].allowed, page.decisions[1].refused_by) == (
        "o-21", False, "order_size")  # fmt: skip
    assert ([line.pk for line in page.doubt], page.doubt_count) == ([doubtful.pk], 1)


def statements(act):
    with CaptureQueriesContext(
        connection,
    ) as seen:
        act()
    return len(seen)


def test_the_cost_does_not_grow_with_the_rows():
    make_account("a-0")
    few = statements(look)
    for number in range(1, 30):
        account = make_account(f"a-{number}")
        make_order(account, f"o-{number}")
        Breaker.objects.create(scope=f"symbol:S{number}", tripped_at=datetime.now(UTC), reason="x")
        Feed.objects.create(
            code=f"f-{number}", symbols=["AAPL"], max_silence_seconds=1, watched_since=datetime(2026, 1, 1, tzinfo=UTC),
            session_calendar="24/7",
        )  # fmt: skip
    page = look()
    assert (len(page.accounts), page.accounts_more, len(page.stops)) == (25, 5, 40)
    assert statements(look) == few <= MOST_STATEMENTS


def test_only_what_changed_is_sent_again_and_nothing_outside_ones_permissions(client):
    make_account("main")
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["view_order", "view_breaker"]))
    client.force_login(clerk)
    page = client.get("/admin/").content.decode()
    assert 'id="cr-decisions"' in page and 'id="cr-breakers"' in page
    assert 'id="cr-accounts"' not in page and 'id="cr-feeds"' not in page
    whole = client.get("/admin/overview/")
    known = dict(re.findall(r'id="cr-(\w+)" class="[^"]*" data-digest="(\w+)"', whole.content.decode()))
    assert set(known) == {"stops", "decisions", "doubt", "breakers"}
    header = ",".join(f"{name}={digest}" for name, digest in known.items())
    assert client.get("/admin/overview/", headers={"X-Known": header}).status_code == 204
    other = client.get("/admin/overview/", headers={"X-Known": header.replace("doubt=", "doubt=0")})
    assert other.content.decode().count("<section") == 1 and 'id="cr-doubt"' in other.content.decode()
    client.logout()
    assert client.get("/admin/overview/").status_code == 302


def test_a_read_that_does_not_come_back_binds_no_other_request(client, monkeypatch):
    monkeypatch.setattr(pages, "SHARED_SECONDS", 0.01)
    monkeypatch.setattr(pages, "PATIENCE_SECONDS", 0.01)
    client.force_login(User.objects.create_superuser("boss"))
    with pages._shared._lock:
        assert client.get("/admin/overview/").status_code == 503
        page = client.get("/admin/").content.decode()
    assert 'id="cr-stops"' in page and "fills itself in" in page
    assert client.get("/admin/overview/").status_code == 200
