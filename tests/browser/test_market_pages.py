"""The pages of market data in a browser: a feed and a symbol, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from django.urls import reverse

from backend.tradingbot.core.clock import SYSTEM_CLOCK, FixedClock
from backend.tradingbot.data import calendar
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.models import Feed
from backend.tradingbot.services import bar_files, corporate_actions, data_checks
from backend.tradingbot.services.bars import post_bars
from backend.tradingbot.services.feeds import declare_feed
from tests.browser.browsing import PHONE
from tests.property.market_data_samples import changed, clean_bars


@pytest.fixture
def market(house, tmp_path) -> Feed:
    """Three sessions of AAPL with a bad print, a gap and a conflict; MSFT without bars; both checked."""
    sessions = calendar.sessions_between(date(2026, 1, 5), date(2026, 1, 7))
    frame = clean_bars(11, sessions)
    for row, factor in ((500, 1.1), (900, 0.001)):
        close = frame["close"][row] * factor
        body = (close, frame["open"][row])
        frame = changed(frame, row, close=close, high=max(body), low=min(body))
    frame = frame.filter(~pl.int_range(pl.len()).is_between(700, 702))
    frame.write_parquet(tmp_path / "AAPL.parquet")
    clock = FixedClock(datetime(2026, 1, 7, 21, 30, tzinfo=UTC))
    bar_files.ingest_file(tmp_path / "AAPL.parquet", Reading(interval="1m"), actor="t", clock=clock)
    feed = declare_feed(
        code="equities", symbols=["AAPL", "MSFT"], max_silence_seconds=30, bar_intervals=["1m"], actor="t",
        reason="test", session_calendar="XNYS", clock=clock,
    )  # fmt: skip
    bar = {"symbol": "AAPL", "interval": "1m", "time": frame["time"][20].isoformat(), "open": "1", "high": "2"}
    bar |= {"low": "1", "close": "1.5", "volume": "3"}
    post_bars({"bars": [bar, {**bar, "close": "0"}]}, may_feed=frozenset({"AAPL"}), clock=clock, actor="key:vendor")
    entry = {"symbol": "MSFT", "ex_date": "2026-01-06", "ratio": "4", "source": "exchange notice 7", "reason": "split"}
    corporate_actions.enter(entry, actor="ann", clock=clock)
    data_checks.run_full(feed, sessions[-1].date, "post_close", clock=clock)
    Feed.objects.update(last_seen_at=SYSTEM_CLOCK.now() - timedelta(seconds=3), watched_since=clock.now())
    return feed


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("options", [{}, {"viewport": PHONE}], ids=["desk", "phone"])
def test_a_feed_and_a_symbol_are_readable_for_everybody(sign_in, market, dark, options):
    visitor = sign_in("risk", **options)
    if dark:
        visitor.dark()
    page = visitor.open(reverse("admin:tradingbot_feed_change", args=[market.pk]))
    visitor.need_accessible()
    visitor.need_no_sideways_scroll()
    page.get_by_role("link", name="AAPL", exact=True).first.click()
    chart = page.get_by_role("img", name="closes from")
    chart.wait_for()
    assert page.locator(".flagH").count() >= 2
    visitor.need_accessible()
    visitor.need_no_sideways_scroll()


def test_from_the_feed_to_the_symbol_to_the_stop_by_keyboard(sign_in, market):
    visitor = sign_in("risk")
    page = visitor.open(reverse("admin:tradingbot_feed_change", args=[market.pk]))
    row = page.get_by_role("row", name="AAPL").first
    assert "stopped" in row.inner_text()
    row.get_by_role("link", name="AAPL").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/feed/symbol/AAPL/")
    page.get_by_role("link", name="Release missing_bars").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/release/")
    page.locator("#id_reason:focus").wait_for()  # the page puts the keys there, once it is there itself
    page.evaluate("document.activeElement.blur(), window.dispatchEvent(new Event('load'))")
    assert page.locator("#id_reason:focus").count() == 1  # also where the browser left out `autofocus`
    page.evaluate("document.querySelector('#main a').focus(), window.dispatchEvent(new Event('load'))")
    assert page.locator("#id_reason:focus").count() == 0  # where one has gone elsewhere, nothing is taken away
    page.locator("#id_reason").focus()
    page.keyboard.type("the vendor sent them")
    page.keyboard.press("Enter")
    page.get_by_text("AAPL is released from missing_bars").wait_for()
    visitor.open("/admin/tradingbot/feed/symbol/AAPL/")
    assert page.get_by_text("released").count() >= 1
