"""The scheduled checks on stored bars: what stops, what releases, what is due, and what a run leaves behind."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from io import StringIO

import polars as pl
import pytest
from django.core.management import CommandError, call_command

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.data import calendar
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.data.frames import VALUES
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import BarConflict, CheckRun, DataStop, Feed, JournalEntry, Quarantine
from backend.tradingbot.services import bar_cache, bar_files, data_checks
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.bars import post_bars
from backend.tradingbot.services.data_stops import release_symbol
from backend.tradingbot.services.feeds import declare_feed
from tests.property.market_data_samples import changed, clean_bars

pytestmark = pytest.mark.django_db
MONDAY = date(2026, 1, 5)
SYMBOLS = ["AAPL", "MSFT"]


@pytest.fixture(autouse=True)
def empty_store():
    ensure_firm()
    hot_state()._redis.flushdb()


def at(text):
    return FixedClock(datetime.fromisoformat(f"2026-01-{text}+00:00"))


@pytest.fixture
def feed():
    return declare_feed(
        code="equities", symbols=SYMBOLS, max_silence_seconds=30, bar_intervals=["1m"], actor="t", reason="test",
        clock=at("01 00:00:00"),
    )  # fmt: skip


def sessions(count=7):
    """The sessions before Monday, and Monday."""
    return calendar.sessions_between(MONDAY - timedelta(days=20), MONDAY)[-count:]


def history(symbol="AAPL", until=None):
    """A week of clean bars up to ``until``, which may be in the middle of Monday."""
    frame = clean_bars(11 if symbol == "AAPL" else 12, sessions(), symbol=symbol)
    return frame if until is None else frame.filter(pl.col("time") < until)


def keep(tmp_path, frame, name="bars"):
    path = tmp_path / f"{name}.parquet"
    frame.write_parquet(path)
    clock = FixedClock(datetime(2027, 1, 1, tzinfo=UTC))
    return bar_files.ingest_file(path, Reading(interval="1m"), actor="t", clock=clock)


def stops():
    return {(row.symbol, row.check_name) for row in DataStop.objects.filter(released_at__isnull=True)}


NOON = "05 17:00:00"  # 12:00 in New York


@pytest.fixture
def whole(tmp_path, feed):
    """Both symbols complete until noon of Monday."""
    clock = at(NOON)
    for symbol in SYMBOLS:
        keep(tmp_path, history(symbol, clock.now()), symbol)
    return clock


def test_a_live_run_over_clean_bars_stops_nothing_and_says_what_it_looked_at(whole, feed):
    run = data_checks.run_live(feed, clock=whole)
    assert [v for v in run.verdicts if v["check"] not in ("stale_quote", "feed_silent")] == []
    assert (run.kind, run.subject, run.symbols, run.problem) == ("live", "equities", 2, "")
    assert run.rows > 2 * 150 and run.seconds > 0
    assert stops() == set()


def test_quotes_are_told_by_age_and_silence_and_stop_nothing_themselves(whole, feed):
    run = data_checks.run_live(feed, clock=whole)
    assert [(v["check"], v["symbol"], v["rows"]) for v in run.verdicts] == [("feed_silent", "*", 2)]
    row = {"price": "1", "bid": None, "ask": None, "as_of": whole.now().isoformat()}
    hot_state().store([("AAPL", row)])
    run = data_checks.run_live(feed, clock=whole)
    assert [(v["check"], v["symbol"]) for v in run.verdicts] == [("stale_quote", "MSFT")]
    assert stops() == set()


def test_a_missing_bar_stops_its_symbol_until_it_is_there(tmp_path, feed):
    clock = at(NOON)
    frame = history(until=clock.now())
    gap = frame["time"][-30]
    keep(tmp_path, frame.filter(pl.col("time") != gap), "gap")
    keep(tmp_path, history("MSFT", clock.now()), "msft")
    run = data_checks.run_live(feed, clock=clock)
    assert stops() == {("AAPL", "missing_bars")}
    assert run.hard >= 1
    stop = DataStop.objects.get()
    assert (stop.source, stop.evidence["at"], stop.evidence["rows"]) == (
        "bars",
        [gap.strftime("%Y-%m-%dT%H:%M:%SZ")],
        1,
    )
    data_checks.run_live(feed, clock=clock)
    assert DataStop.objects.count() == 1
    keep(tmp_path, frame.filter(pl.col("time") == gap), "late")
    clock.advance(60)
    late = history(until=clock.now()).filter(pl.col("time") >= frame["time"][-1])
    keep(tmp_path, late, "next")
    keep(tmp_path, history("MSFT", clock.now()).tail(2), "next-msft")
    data_checks.run_live(feed, clock=clock)
    assert stops() == set()
    stop.refresh_from_db()
    assert (stop.released_by, stop.reason) == ("checks:equities", "a clean check")
    assert set(JournalEntry.objects.values_list("kind", flat=True)) >= {"data_stop", "data_stop_released"}


def test_a_declared_symbol_without_a_single_bar_is_stopped(tmp_path, feed):
    clock = at(NOON)
    keep(tmp_path, history(until=clock.now()))
    data_checks.run_live(feed, clock=clock)
    assert stops() == {("MSFT", "missing_bars")}


@pytest.mark.parametrize("seconds, missing", [(29, False), (31, True)])
def test_a_bar_may_be_late_by_the_grace(tmp_path, feed, seconds, missing):
    clock = at("05 17:01:00")
    for symbol in SYMBOLS:
        keep(tmp_path, history(symbol, clock.now() - timedelta(minutes=1)), symbol)
    clock.advance(seconds)
    data_checks.run_live(feed, clock=clock)
    assert bool(stops()) is missing


def test_a_live_run_does_not_release_what_it_did_not_look_at(tmp_path, feed):
    clock = at("05 14:00:00")
    frame = history(until=clock.now())
    old = frame["time"][500]
    keep(tmp_path, frame.filter(pl.col("time") != old))
    keep(tmp_path, history("MSFT", clock.now()), "msft")
    data_checks.run_full(feed, MONDAY, "pre_open", clock=clock)
    assert stops() == {("AAPL", "missing_bars")}
    noon = at(NOON)
    for symbol in SYMBOLS:
        keep(tmp_path, history(symbol, noon.now()).filter(pl.col("time") >= clock.now()), f"{symbol}-today")
    data_checks.run_live(feed, clock=noon)
    assert stops() == {("AAPL", "missing_bars")}
    keep(tmp_path, frame.filter(pl.col("time") == old), "late")
    evening = at("05 21:30:00")
    for symbol in SYMBOLS:
        keep(tmp_path, history(symbol), f"{symbol}-whole")
    data_checks.run_full(feed, MONDAY, "post_close", clock=evening)
    assert stops() == set()


def test_what_an_operator_released_does_not_stop_again_for_the_same_bars(tmp_path, feed):
    clock = at(NOON)
    frame = history(until=clock.now())
    keep(tmp_path, changed(frame, len(frame) - 30, close=frame["close"][-30] * 1.2, high=frame["close"][-30] * 1.3))
    keep(tmp_path, history("MSFT", clock.now()), "msft")
    data_checks.run_live(feed, clock=clock)
    assert stops() == {("AAPL", "return_outlier")}
    clock.advance(1)
    release_symbol("AAPL", check=None, actor="key:risk", reason="auction print, confirmed by the exchange", clock=clock)
    clock.advance(1)
    run = data_checks.run_live(feed, clock=clock)
    assert stops() == set()
    assert "return_outlier" in {v["check"] for v in run.verdicts}  # told all the same
    keep(
        tmp_path,
        frame[-1:].with_columns(time=pl.col("time") + pl.duration(minutes=1), close=pl.lit(1.0), low=pl.lit(0.5)),
        "x",
    )
    clock.advance(60)
    data_checks.run_live(feed, clock=clock)
    assert ("AAPL", "return_outlier") in stops()  # another bar is another matter


def test_an_undecided_conflict_keeps_its_symbol_stopped_until_somebody_decides(whole, feed):
    last = history(until=whole.now())[-1]
    row = {name: str(last[name][0]) for name in VALUES} | {"volume": "1"}
    bar = {"symbol": "AAPL", "interval": "1m", "time": last["time"][0].isoformat(), **row}
    post_bars({"bars": [bar]}, may_feed=frozenset(SYMBOLS), clock=whole, actor="feed")
    whole.advance(1)
    data_checks.run_live(feed, clock=whole)
    assert stops() == {("AAPL", "conflicting_rows")}
    BarConflict.objects.update(resolution="kept", resolved_at=whole.now(), resolved_by="anna", reason="old values")
    whole.advance(1)
    data_checks.run_live(feed, clock=whole)
    assert stops() == set()


def test_a_feed_that_declares_no_bars_is_only_asked_for_its_quotes(feed):
    Feed.objects.update(bar_intervals=[])
    run = data_checks.run_live(Feed.objects.get(), clock=at(NOON))
    assert ({v["check"] for v in run.verdicts}, run.rows, stops()) == ({"feed_silent"}, 0, set())


def test_a_store_that_does_not_answer_is_the_problem_of_the_run_and_releases_nothing(whole, feed, settings):
    from pydantic import SecretStr

    changes = {"redis_url": SecretStr("redis://127.0.0.1:1/0")}
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update=changes)
    run = data_checks.run_live(feed, clock=whole)
    assert "does not answer" in run.problem and run.rows > 0


@pytest.mark.parametrize(
    "now, expected",
    [
        ("05 13:29:59", []),
        ("05 13:30:00", [(MONDAY, "pre_open")]),
        ("05 14:29:59", [(MONDAY, "pre_open")]),
        ("05 14:30:00", []),
        ("05 21:14:59", []),
        ("05 21:15:00", [(MONDAY, "post_close")]),
        ("06 02:59:59", [(MONDAY, "post_close")]),
        ("06 03:00:00", []),
        ("03 17:00:00", []),
    ],
)
def test_a_full_run_is_due_in_the_hour_before_the_open_and_from_15_minutes_after_the_close(feed, now, expected):
    assert data_checks.due(feed, at(now).now()) == expected


def test_each_full_run_happens_once_and_again_when_it_failed(feed, monkeypatch):
    clock = at("05 21:30:00")
    first = data_checks.check_market_data(clock=clock)
    assert [(run.kind, run.phase) for run in first] == [("full", "post_close")]
    assert data_checks.check_market_data(clock=clock) == []
    CheckRun.objects.update(problem="it broke")
    again = data_checks.check_market_data(clock=clock)
    assert [(run.kind, run.phase, run.problem) for run in again] == [("full", "post_close", "")]


def test_beat_runs_live_checks_in_session_only(feed):
    assert [run.kind for run in data_checks.check_market_data(clock=at(NOON))] == ["live"]
    assert data_checks.check_market_data(clock=at("05 03:30:00")) == []
    Feed.objects.update(active=False)
    assert data_checks.check_market_data(clock=at(NOON)) == []


def test_clean_live_runs_are_not_kept_for_ever_and_those_with_verdicts_are(feed):
    clock = at(NOON)
    hard, clean = data_checks.run_live(feed, clock=clock), data_checks.run_live(feed, clock=clock)
    CheckRun.objects.filter(pk=clean.pk).update(hard=0)
    clock.advance(15 * 86_400)
    data_checks.check_market_data(clock=clock)
    assert hard.hard == 3
    assert CheckRun.objects.filter(pk=hard.pk).exists() and not CheckRun.objects.filter(pk=clean.pk).exists()


# -- the cache


@pytest.fixture
def cached(whole, settings, tmp_path):
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"state_dir": tmp_path})
    since, until = datetime(2025, 1, 1, tzinfo=UTC), whole.now()
    return bar_cache.cache_bars("AAPL", "1m", since, until, clock=whole)


def test_a_cached_file_that_was_touched_is_quarantined_and_stops_its_symbol(cached, whole):
    assert bar_cache.check_cache(actor="t", clock=whole).hard == 0
    path = bar_cache.cache_folder() / cached.file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    run = bar_cache.check_cache(actor="t", clock=whole)
    assert (run.kind, run.hard, run.verdicts[0]["evidence"]["problem"]) == ("cache", 1, "the SHA-256 differs")
    row = Quarantine.objects.get()
    assert (row.kind, row.name, row.symbols) == ("file", "AAPL-1m", ["AAPL"])
    assert stops() == {("AAPL", "cache_mismatch")}
    assert DataStop.objects.get().source == "cache"
    assert bar_cache.check_cache(actor="t", clock=whole).hard == 0  # gone from the cache
    assert stops() == {("AAPL", "cache_mismatch")}  # and a person must say so


def test_a_crash_between_the_record_and_the_move_leaves_the_stop_standing(cached, whole, monkeypatch):
    path = bar_cache.cache_folder() / cached.file
    path.write_bytes(b"")

    def dies(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("backend.tradingbot.data.cache.BarCache.set_aside", dies)
    with pytest.raises(KeyboardInterrupt):
        bar_cache.check_cache(actor="t", clock=whole)
    assert (stops(), path.exists()) == ({("AAPL", "cache_mismatch")}, True)


def test_bars_that_a_hard_check_refuses_are_not_cached(tmp_path, whole, cached):
    frame = history(until=whole.now())
    more = frame[-1:].with_columns(time=pl.col("time") + pl.duration(minutes=2))
    keep(tmp_path, more, "gap")
    with pytest.raises(InvalidInputError, match="missing_bars"):
        bar_cache.cache_bars("AAPL", "1m", datetime(2025, 1, 1, tzinfo=UTC), whole.now() + timedelta(1), clock=whole)


def test_the_commands_say_what_they_did(cached):
    out = StringIO()
    call_command("cache_bars", "MSFT", stdout=out)
    assert out.getvalue().rstrip().endswith("bars")
    call_command("check_cache", stdout=out)
    assert "2 file(s) checked" in out.getvalue() and "every file is what its manifest says" in out.getvalue()
    (bar_cache.cache_folder() / cached.file).write_bytes(b"PAR1")
    with pytest.raises(CommandError, match=r"AAPL-1m \(AAPL\): the SHA-256 differs"):
        call_command("check_cache", stdout=out)
    with pytest.raises(CommandError, match="no 1m bars of NONE"):
        call_command("cache_bars", "NONE", stdout=out)


def test_the_metrics_tell_stops_feeds_and_runs(whole, feed):
    from backend.tradingbot.selectors.metrics import market_data

    DataStop.objects.create(symbol="AAPL", check_name="missing_bars", source="bars", since=whole.now(), build_id="x")
    data_checks.run_live(feed, clock=whole)
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in market_data(whole.now()) for sample in family.samples
    }  # fmt: skip
    assert told[("tradingbot_data_stops", "missing_bars")] == 1
    assert told[("tradingbot_feed_max_silence_seconds", "equities")] == 30
    assert told[("tradingbot_feed_in_session", "equities")] == 1
    assert told[("tradingbot_feed_age_seconds", "equities")] == (whole.now() - feed.watched_since).total_seconds()
    assert told[("tradingbot_data_check_age_seconds", "equities", "live")] == 0
