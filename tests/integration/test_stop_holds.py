"""A stop of market data stands until what it was about was looked at, whatever other bars say and a store forgets."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.data import calendar
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.data.frames import VALUES
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Bar, CheckRun, DataStop, Feed, Quarantine
from backend.tradingbot.services import bar_cache, bar_files, corporate_actions, data_checks
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.bars import post_bars
from backend.tradingbot.services.data_stops import release_symbol
from backend.tradingbot.services.feeds import declare_feed
from backend.tradingbot.services.market_data import post_ticks
from tests.integration.test_data_checks import MONDAY, NOON, SYMBOLS, at, history, keep, sessions, stops

pytestmark = pytest.mark.django_db
MAY = frozenset(SYMBOLS)


@pytest.fixture(autouse=True)
def empty_store(settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"broker": "alpaca"})  # nobody fills here
    ensure_firm()
    hot_state()._redis.flushdb()


def declare(code, intervals, symbols=SYMBOLS):
    return declare_feed(
        code=code, symbols=symbols, max_silence_seconds=30, bar_intervals=intervals, actor="t", reason="test",
        clock=at("01 00:00:00"),
    )  # fmt: skip


@pytest.fixture
def feed():
    return declare("equities", ["1m"])


@pytest.fixture
def whole(tmp_path, feed):
    clock = at(NOON)
    for symbol in SYMBOLS:
        keep(tmp_path, history(symbol, clock.now()), symbol)
    return clock


# -- bars


def no_bar(time, **changes):
    values = {"open": "100", "high": "101", "low": "99", "close": "-1", "volume": "1"} | changes
    return {"symbol": "AAPL", "interval": "1m", "time": time.isoformat(), **values}


def test_a_row_that_was_no_bar_is_not_released_by_a_look_at_later_bars(whole, feed):
    old = sessions()[-2].opens_at
    Bar.objects.filter(symbol="AAPL", time=old).delete()
    post_bars({"bars": [no_bar(old)]}, may_feed=MAY, clock=whole, actor="feed")
    assert stops() == {("AAPL", "bad_price")}
    whole.advance(1)
    data_checks.run_live(feed, clock=whole)
    assert stops() == {("AAPL", "bad_price")}
    keep_one(old)
    data_checks.run_full(feed, MONDAY, "pre_open", clock=whole)
    assert stops() == set()


def keep_one(time):
    row = history().filter(pl.col("time") == time)
    good = {name: str(row[name][0]) for name in VALUES} | {"volume": str(int(row["volume"][0]))}
    post_bars({"bars": [no_bar(time, **good)]}, may_feed=MAY, clock=at("05 23:00:00"), actor="feed")


def test_a_second_row_that_was_no_bar_and_is_older_holds_the_stop_too(whole, feed):
    old = sessions()[-2].opens_at
    for time in (whole.now() - timedelta(minutes=20), old):
        post_bars({"bars": [no_bar(time)]}, may_feed=MAY, clock=whole, actor="feed")
        whole.advance(1)
    data_checks.run_live(feed, clock=whole)
    assert stops() == {("AAPL", "bad_price")}


def test_rows_of_a_file_that_were_no_bars_hold_their_stop_until_their_time_is_looked_at(tmp_path, whole, feed):
    frame = history().filter(pl.col("time") == sessions()[-2].opens_at)
    keep(tmp_path, frame.with_columns(low=pl.lit(9_999.0)), "odd")
    later = FixedClock(datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert DataStop.objects.get().evidence["at"] == [f"{sessions()[-2].opens_at:%Y-%m-%dT%H:%M:%SZ}"]
    Feed.objects.update(session_calendar=calendar.ROUND_THE_CLOCK)
    data_checks.run_live(Feed.objects.get(), clock=later)
    assert ("AAPL", "bar_shape") in stops()


def test_a_look_at_minutes_releases_nothing_of_daily_bars(whole, feed):
    daily = declare("daily", ["1d"], ["AAPL"])
    whole.at = datetime(2026, 1, 5, 21, 30, tzinfo=UTC)
    data_checks.run_full(daily, MONDAY, "post_close", clock=whole)
    assert stops() == {("AAPL", "missing_bars")}
    assert DataStop.objects.get().evidence["intervals"] == ["1d"]
    DataStop.objects.update(check_name="bar_shape")  # one that the look at minutes does not find itself
    whole.advance(1)
    data_checks.run_full(feed, MONDAY, "post_close", clock=whole)
    assert ("AAPL", "bar_shape") in stops()
    data_checks.run_full(daily, MONDAY, "pre_open", clock=whole)
    assert ("AAPL", "bar_shape") not in stops()


@pytest.mark.parametrize(
    ("day", "early", "over"),
    [
        (date(2026, 1, 5), "2026-01-05T20:59:57Z", "2026-01-05T21:00:00Z"),
        (date(2025, 11, 28), "2025-11-28T17:59:57Z", "2025-11-28T18:00:00Z"),  # closes at 13:00 New York
        (date(2026, 1, 3), "2026-01-03T23:59:57Z", "2026-01-04T00:00:00Z"),  # a Saturday has no session
    ],
)
def test_a_daily_bar_is_taken_when_its_session_is_over(tmp_path, day, early, over):
    time = datetime(day.year, day.month, day.day, tzinfo=UTC)
    values = {"open": "100", "high": "101", "low": "99", "close": "100", "volume": "1"}
    bar = {"symbol": "AAPL", "interval": "1d", "time": time.isoformat(), **values}
    for moment, stored in ((early, 0), (over, 1)):
        clock = FixedClock(datetime.fromisoformat(moment))
        assert post_bars({"bars": [bar]}, may_feed=MAY, clock=clock, actor="feed")["stored"] == stored
    frame = pl.DataFrame([{"symbol": "MSFT", "time": time, **{name: float(values[name]) for name in VALUES}}])
    path = tmp_path / "daily.parquet"
    frame.write_parquet(path)
    clock = FixedClock(datetime.fromisoformat(early))
    assert bar_files.ingest_file(path, Reading("MSFT", "1d"), actor="t", clock=clock).stored == 0


# -- runs


def test_a_look_that_breaks_is_a_row_and_the_other_feeds_are_looked_at(whole, feed, monkeypatch):
    declare("second", ["1m"], ["MSFT"])
    look = data_checks._look_at_bars

    def breaks(found, feed, *arguments):
        if feed.code == "equities":
            raise ZeroDivisionError("by nothing")
        look(found, feed, *arguments)

    monkeypatch.setattr(data_checks, "_look_at_bars", breaks)
    with pytest.raises(ZeroDivisionError):
        data_checks.check_market_data(clock=whole)
    runs = dict(CheckRun.objects.values_list("subject", "problem"))
    assert runs == {"equities": "ZeroDivisionError: by nothing", "second": ""}


def test_the_silence_that_is_told_is_measured_by_the_feeds_own_limit(whole):
    Feed.objects.update(max_silence_seconds=120)
    row = {"price": "1", "bid": None, "ask": None, "as_of": (whole.now() - timedelta(seconds=100)).isoformat()}
    hot_state().store([(name, row) for name in SYMBOLS])
    told = [v["check"] for v in data_checks.run_live(Feed.objects.get(), clock=whole).verdicts]
    assert (told.count("feed_silent"), told.count("stale_quote")) == (0, 2)
    whole.advance(21)
    run = data_checks.run_live(Feed.objects.get(), clock=whole)
    (verdict,) = [v for v in run.verdicts if v["check"] == "feed_silent"]
    assert verdict["evidence"]["limit_seconds"] == 120.0


# -- the cache


def test_a_cached_file_of_which_nothing_can_be_read_stops_the_symbol_of_its_name(whole, settings, tmp_path):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"state_dir": tmp_path})
    kept = bar_cache.cache_bars("AAPL", "1m", datetime(2025, 1, 1, tzinfo=UTC), whole.now(), clock=whole)
    (bar_cache.cache_folder() / kept.file).write_bytes(b"")
    (bar_cache.cache_folder() / "AAPL-1m.manifest.json").write_text("{")
    bar_cache.check_cache(actor="t", clock=whole)
    assert stops() == {("AAPL", "cache_mismatch")}
    assert Quarantine.objects.get().symbols == ["AAPL"]


@pytest.mark.parametrize(
    ("name", "symbols"),
    [("BTC_USD-1d", ["BTC/USD"]), ("AAPL-1m.0123456789abcdef.parquet", ["AAPL"]), ("notes", []), ("a b-1m", [])],
)
def test_the_symbol_of_a_cached_files_name(name, symbols):
    assert bar_cache.symbols_named(name) == symbols


def test_bars_over_a_split_on_file_are_cached(tmp_path, feed, settings):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"state_dir": tmp_path})
    halved = [(pl.when(pl.col("time") >= sessions()[-2].opens_at).then(pl.col(n) / 2).otherwise(pl.col(n))).alias(n)
              for n in VALUES[:4]]  # fmt: skip
    keep(tmp_path, history().with_columns(halved))
    wanted = ("AAPL", "1m", datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="unexplained_split|return_outlier"):
        bar_cache.cache_bars(*wanted, clock=at(NOON))
    body = {"symbol": "AAPL", "ex_date": str(sessions()[-2].date), "ratio": "2", "source": "x", "reason": "x"}
    corporate_actions.enter(body, actor="t", clock=at(NOON))
    assert bar_cache.cache_bars(*wanted, clock=at(NOON)).rows == len(history())


# -- ticks, and a store that was emptied


def tick(clock, price, second=1):
    clock.advance(second)
    row = {"symbol": "AAPL", "price": str(price), "time": clock.now().isoformat()}
    return post_ticks({"ticks": [row]}, may_feed=MAY, clock=clock)


def wild(clock):
    for n in range(8):
        tick(clock, f"100.0{n % 3}")
    assert tick(clock, "100000")["accepted"] == 0


@pytest.mark.parametrize("lost", ["emptied", "unreadable"])
def test_what_only_an_operator_releases_stands_when_the_store_loses_it(lost):
    clock = at(NOON)
    wild(clock)
    if lost == "emptied":
        hot_state()._redis.flushdb()
    else:
        hot_state()._redis.set("track:AAPL", "0123456789abcdef:{broken")
    assert [tick(clock, price)["accepted"] for price in ("100000", "100001", "100002")] == [0, 0, 0]
    assert stops() == {("AAPL", "price_jump")}
    assert hot_state().quote("AAPL") is None or hot_state().quote("AAPL").stopped_by == "price_jump"
    assert tick(clock, "100.02")["accepted"] == 1
    assert stops() == set()


def test_an_operators_release_holds_although_a_tick_comes_in_between(monkeypatch):
    clock = at(NOON)
    wild(clock)
    forget, calls = hot_state().__class__.forget, []

    def and_a_tick(self, symbol):
        forget(self, symbol)
        calls.append(symbol)
        if len(calls) == 1:
            tick(clock, "100001")

    monkeypatch.setattr(hot_state().__class__, "forget", and_a_tick)
    release_symbol("AAPL", check=None, actor="key:risk", reason="the unit changed", clock=clock)
    assert tick(clock, "100002")["accepted"] == 1
    assert stops() == set()
