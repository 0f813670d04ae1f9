"""Two feeds of one symbol: the second is kept apart, compared every minute, and stops its symbol when it disagrees."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import polars as pl
import pytest
from django.core.management import call_command

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import InvalidInputError, NotFoundError
from backend.tradingbot.data import calendar
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import Bar, BarConflict, DataStop, Feed, Quarantine, SecondSourceBar
from backend.tradingbot.selectors import metrics, overview_parts
from backend.tradingbot.services import bar_files, data_checks
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.bars import post_bars
from backend.tradingbot.services.data_stops import release_symbol
from backend.tradingbot.services.feeds import change_feed, declare_feed, watched
from backend.tradingbot.services.keys import create_key
from tests.property.market_data_samples import changed, clean_bars

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
MAY = frozenset({"AAPL", "MSFT"})


@pytest.fixture(autouse=True)
def firm():
    ensure_firm()
    hot_state()._redis.flushdb()


@pytest.fixture
def clock():
    return FixedClock(MONDAY + timedelta(hours=17))


def declare(code, clock, symbols=("AAPL",), **options):
    return declare_feed(
        code=code, symbols=symbols, max_silence_seconds=30, bar_intervals=["1m"], actor="t", reason="test",
        clock=clock, **options,
    )  # fmt: skip


@pytest.fixture
def frame(clock):
    session = calendar.session_on(MONDAY.date())
    return clean_bars(11, [session]).filter(pl.col("time") < clock.now())


@pytest.fixture
def keep(tmp_path, clock):
    def ingest(frame, feed=None):
        path = tmp_path / f"{feed}-{len(list(tmp_path.iterdir()))}.parquet"
        frame.write_parquet(path)
        return bar_files.ingest_file(path, Reading(interval="1m"), actor="t", clock=clock, feed=feed)

    return ingest


@pytest.fixture
def feeds(clock):
    return declare("main", clock), declare("backup", clock, second_source=True)


def stops():
    return {(row.symbol, row.check_name) for row in DataStop.objects.filter(released_at__isnull=True)}


def apart(frame, row, bps):
    close = frame["close"][row] * (1 + bps / 10_000)
    return changed(frame, row, close=close, high=max(close, frame["high"][row]))


@pytest.mark.parametrize("bps, stopped", [(49, set()), (51, {("AAPL", "source_disagreement")})])
def test_the_symbol_stops_when_the_closes_are_apart_by_more_than_fifty_bps(frame, keep, feeds, clock, bps, stopped):
    keep(frame)
    keep(apart(frame, len(frame) - 30, bps), "backup")
    runs = [run for run in data_checks.check_market_data(clock=clock) if run.subject == "backup"]
    assert [run.problem for run in runs] == [""] and runs[0].rows > 100
    assert stops() == stopped
    if stopped:
        stop = DataStop.objects.get()
        at = frame["time"][len(frame) - 30].strftime("%Y-%m-%dT%H:%M:%SZ")
        assert (stop.evidence["feed"], stop.evidence["at"], stop.evidence["rows"]) == ("backup", [at], 1)


def test_the_stop_stands_through_clean_runs_of_the_other_checks_until_a_person_releases_it(frame, keep, feeds, clock):
    keep(frame)
    keep(apart(frame, len(frame) - 30, 80), "backup")
    data_checks.check_market_data(clock=clock)
    clock.advance(1)
    data_checks.run_live(feeds[0], clock=clock)
    assert stops() == {("AAPL", "source_disagreement")}
    release_symbol("AAPL", check=None, actor="key:risk", reason="the vendor corrected it", clock=clock)
    clock.advance(1)
    data_checks.check_market_data(clock=clock)
    assert stops() == set()  # released bars do not stop again


def test_a_clean_comparison_releases_nothing_of_the_other_checks(frame, keep, feeds, clock):
    keep(frame.filter(pl.col("time") != frame["time"][-30]))
    keep(frame, "backup")
    data_checks.check_market_data(clock=clock)
    assert stops() == {("AAPL", "missing_bars")}
    clock.advance(1)
    data_checks.run_live(feeds[1], clock=clock)
    assert stops() == {("AAPL", "missing_bars")}


def test_a_second_comparison_of_another_feed_does_not_release_what_the_first_found(frame, keep, feeds, clock):
    third = declare("third", clock, second_source=True)
    keep(frame)
    keep(apart(frame, len(frame) - 30, 80), "backup")
    keep(frame, "third")
    data_checks.run_live(feeds[1], clock=clock)
    clock.advance(1)
    data_checks.run_live(third, clock=clock)
    assert stops() == {("AAPL", "source_disagreement")}


def test_bars_that_the_second_source_does_not_bring_are_a_warning(frame, keep, feeds, clock):
    keep(frame)
    run = data_checks.run_live(feeds[1], clock=clock)
    (verdict,) = run.verdicts
    assert (verdict["check"], verdict["severity"], verdict["symbol"]) == ("no_second_source", "W", "AAPL")
    assert (verdict["rows"], run.hard, run.warned, stops()) == (119, 0, 1, set())  # the newest may still come
    keep(frame, "backup")
    assert data_checks.run_live(feeds[1], clock=clock).verdicts == []


def test_what_a_second_source_says_is_kept_apart_and_stops_nothing_by_itself(feeds, clock):
    bar = {"symbol": "AAPL", "interval": "1m", "time": "2026-01-05T14:30:00Z", "volume": "7"}
    bar |= {"open": "100", "high": "101", "low": "99", "close": "100"}
    post_bars({"bars": [bar]}, may_feed=MAY, clock=clock, actor="feed")
    other = {**bar, "close": "100.5"}
    answer = post_bars({"bars": [other]}, may_feed=MAY, clock=clock, actor="feed", feed="backup")
    assert (answer["stored"], answer["conflicts"], answer["stopped"]) == (1, [], [])
    again = post_bars({"bars": [{**bar, "close": "99.5"}]}, may_feed=MAY, clock=clock, actor="feed", feed="backup")
    (conflict,) = again["conflicts"]
    assert (conflict["stored"]["close"], conflict["offered"]["close"], again["stopped"]) == ("100.5", "99.5", [])
    bad = post_bars({"bars": [{**bar, "close": "0"}]}, may_feed=MAY, clock=clock, actor="feed", feed="backup")
    assert (len(bad["refused"]), bad["stopped"], Quarantine.objects.get().rows) == (1, [], 1)
    assert ([str(row.close) for row in Bar.objects.all()], BarConflict.objects.count(), stops()) == (
        ["100.000000000"], 0, set(),
    )  # fmt: skip
    assert [(row.feed, str(row.close)) for row in SecondSourceBar.objects.all()] == [("backup", "100.500000000")]
    foreign = post_bars({"bars": [{**bar, "symbol": "MSFT"}]}, may_feed=MAY, clock=clock, actor="feed", feed="backup")
    assert foreign["refused"][0]["errors"][0]["field"] == "bars[0].symbol"


def test_only_a_declared_second_source_may_be_named(feeds, clock):
    for name, error in (("none", NotFoundError), ("a\x00b", NotFoundError), ("main", InvalidInputError)):
        with pytest.raises(error):
            post_bars({"bars": [{}]}, may_feed=MAY, clock=clock, actor="feed", feed=name)


def test_over_the_api_the_feed_is_named_in_the_address(client, feeds, settings):
    bar = {"symbol": "AAPL", "interval": "1m", "time": "2026-01-05T14:30:00Z", "volume": "7"}
    bar |= {"open": "100", "high": "101", "low": "99", "close": "100"}
    _, token = create_key(name="vendor", role="viewer", capabilities=["feed"], feed_symbols=["AAPL"])
    headers = {"Authorization": f"Bearer {token}"}

    def post(path):
        body = json.dumps({"bars": [bar]})
        return client.post(path, body, content_type="application/json", headers=headers)

    assert post("/api/v1/market-data/bars?feed=backup").json()["stored"] == 1
    assert post("/api/v1/market-data/bars?feed=nobody").status_code == 404
    assert (SecondSourceBar.objects.count(), Bar.objects.count()) == (1, 0)


def test_a_second_source_brings_bars_and_its_silence_trips_nothing_and_alarms_nobody(feeds, clock):
    assert [feed.code for feed in watched()] == ["main"]
    assert [line.code for line in overview_parts.feeds(clock.now())] == ["main"]
    told = {
        sample.labels["feed"]
        for family in metrics.market_data(clock.now()) for sample in family.samples if "feed" in sample.labels
    }  # fmt: skip
    assert told == {"main"}
    with pytest.raises(InvalidInputError, match="bar_intervals"):
        declare_feed(
            code="third", symbols=["AAPL"], max_silence_seconds=30, second_source=True, actor="t", reason="test",
            clock=clock,
        )  # fmt: skip
    with pytest.raises(InvalidInputError, match="bar_intervals"):
        change_feed("backup", {"bar_intervals": []}, actor="t", reason="test", clock=clock)
    with pytest.raises(InvalidInputError, match="second_source"):
        change_feed("backup", {"second_source": 1}, actor="t", reason="test", clock=clock)


def test_the_command_declares_one_with_its_bars():
    out = StringIO()
    options = ["--symbols", "AAPL", "--max-silence", "30", "--reason", "test"]
    call_command("feed", "declare", "backup", *options, "--bars", "1m,1d", "--second-source", stdout=out)
    feed = Feed.objects.get()
    assert (feed.second_source, feed.bar_intervals) == (True, ["1m", "1d"])
    call_command("feed", "change", "backup", "--bars", "1m", "--reason", "fewer", stdout=out)
    call_command("feed", "list", stdout=out)
    assert "second source" in out.getvalue()
    assert Feed.objects.get().bar_intervals == ["1m"]
