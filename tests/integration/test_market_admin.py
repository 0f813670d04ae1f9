"""Market data in the admin: what each page shows, and that releasing and deciding need permission and a reason."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.data import calendar
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Bar, BarConflict, CheckRun, DataStop, JournalEntry, Quarantine
from backend.tradingbot.services import bar_files
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.bars import post_bars
from backend.tradingbot.services.feeds import declare_feed
from tests.property.market_data_samples import changed, clean_bars

pytestmark = pytest.mark.django_db
CLOCK = FixedClock(datetime(2026, 1, 5, 22, 0, tzinfo=UTC))


@pytest.fixture(autouse=True)
def firm():
    ensure_firm()
    hot_state()._redis.flushdb()


@pytest.fixture
def sign_in(client):
    def with_permissions(*names):
        user = User.objects.create_user("ann", is_staff=True)
        views = ["view_feed", "view_datastop", "view_barconflict", "view_checkrun", "view_quarantine"]
        user.user_permissions.set(Permission.objects.filter(codename__in=[*views, *names]))
        client.force_login(user)
        return client

    return with_permissions


@pytest.fixture
def stop():
    fields = {"symbol": "AAPL", "check_name": "missing_bars", "source": "bars", "build_id": "x"}
    return DataStop.objects.create(since=CLOCK.now(), evidence={"at": ["2026-01-05T15:00:00Z"], "rows": 1}, **fields)


def feed():
    return declare_feed(
        code="equities", symbols=["AAPL", "MSFT"], max_silence_seconds=30, actor="t", reason="test", clock=CLOCK
    )


def page(name, *arguments):
    return reverse(f"admin:tradingbot_{name}", args=arguments)


def test_thirty_feeds_cost_as_many_statements_as_three_and_each_counts_its_own_stopped_symbols(sign_in, stop):
    def declare(numbers):
        for number in numbers:
            symbols = ["AAPL", f"S{number}"] if number % 2 else [f"S{number}"]
            declare_feed(
                code=f"f{number:02}", symbols=symbols, max_silence_seconds=5, actor="t", reason="r", clock=CLOCK
            )

    def cost():
        with CaptureQueriesContext(connection) as seen:
            text = client.get(page("feed_changelist")).content.decode()
        return len(seen), text.count("1 of 2"), text.count("0 of 1")

    client = sign_in()
    DataStop.objects.create(symbol="AAPL", check_name="z", source="ticks", since=CLOCK.now(), build_id="x")
    DataStop.objects.create(
        symbol="S2", check_name="z", source="ticks", since=CLOCK.now(), build_id="x", released_at=CLOCK.now(),
        released_by="ann", reason="clean",
    )  # fmt: skip
    declare(range(3))
    cost()
    few = cost()
    assert few[1:] == (1, 2)
    declare(range(3, 30))
    assert cost() == (few[0], 15, 15)


def test_a_feed_shows_the_age_of_each_symbol_and_its_last_runs(sign_in, stop):
    row = feed()
    last = {"price": "190.10", "bid": None, "ask": None, "as_of": datetime.now(UTC).isoformat()}
    hot_state().store([("AAPL", last)])
    CheckRun.objects.create(
        kind="live",
        subject="equities",
        started_at=CLOCK.now(),
        seconds=1,
        symbols=2,
        rows=3,
        hard=7,
        warned=0,
        build_id="x",
    )
    text = sign_in().get(page("feed_change", row.pk)).content.decode()
    assert "190.10" in text and "never seen" in text and "missing_bars" in text and " stop" in text
    assert page("feed_symbol", "AAPL") in text


def test_the_page_of_a_symbol_draws_its_bars_with_the_flagged_one_and_its_stops(sign_in, stop, tmp_path):
    frame = clean_bars(11, calendar.sessions_between(CLOCK.now().date(), CLOCK.now().date()))
    bad = changed(frame, 200, close=frame["close"][200] * 1.1, high=frame["close"][200] * 1.1)
    bad.write_parquet(tmp_path / "bars.parquet")
    bar_files.ingest_file(tmp_path / "bars.parquet", Reading(interval="1m"), actor="t", clock=CLOCK)
    Quarantine.objects.create(kind="rows", name="file:odd", symbols=["AAPL"], at=CLOCK.now(), build_id="x")
    answer = sign_in().get(page("feed_symbol", "AAPL"))
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "<polyline" in text and text.count('class="flagH"') == 1 and "return_outlier at 2026-01-05T17:50:00Z" in text
    assert "stopped now" in text and "file:odd" in text


@pytest.mark.parametrize("symbol, status", [("NONE", 200), ("BTC/USD", 200), ("aapl", 404)])
def test_a_symbol_without_anything_has_a_page_and_what_is_no_symbol_has_none(sign_in, symbol, status):
    assert sign_in().get(page("feed_symbol", symbol)).status_code == status


def test_a_stop_is_released_with_permission_and_reason_only(sign_in, stop):
    url = page("datastop_release", stop.pk)
    client = sign_in()
    assert client.post(url, {"reason": "x"}).status_code == 403
    client.logout()
    User.objects.all().delete()
    client = sign_in("release_datastop")
    assert "missing_bars" in client.get(url).content.decode()
    assert client.post(url, {"reason": ""}).status_code == 422
    assert client.post(url, {"reason": "the vendor sent them"}).status_code == 302
    stop.refresh_from_db()
    assert (stop.released_by, stop.reason) == ("admin:ann", "the vendor sent them")
    assert JournalEntry.objects.get(kind="data_stop_released").actor == "admin:ann"


def test_a_conflict_is_decided_with_permission_and_reason(sign_in):
    values = {"open": "100", "high": "101", "low": "99", "volume": "5", "time": "2026-01-05T15:00:00Z"}
    for close in ("100", "100.5"):
        row = {"symbol": "AAPL", "interval": "1m", "close": close, **values}
        post_bars({"bars": [row]}, may_feed=frozenset({"AAPL"}), clock=CLOCK, actor="feed")
    conflict = BarConflict.objects.get()
    client = sign_in("decide_barconflict")
    assert client.post(page("barconflict_replace_bar", conflict.pk), {"reason": "notice 7"}).status_code == 302
    conflict.refresh_from_db()
    assert (conflict.resolution, conflict.resolved_by, Bar.objects.get().close) == (
        "replaced",
        "admin:ann",
        Decimal("100.5"),
    )


@pytest.mark.parametrize("name", ["feed", "datastop", "barconflict", "checkrun", "quarantine"])
def test_every_list_opens(sign_in, stop, name):
    feed()
    assert sign_in().get(page(f"{name}_changelist")).status_code == 200
