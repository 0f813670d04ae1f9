"""Each check of ticks and quotes, of silence and of two sources: clean passes, the smallest corruption fails."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.core.values import Severity
from backend.tradingbot.data import checks
from backend.tradingbot.data.checks import CATALOGUE, Context, Sessions
from backend.tradingbot.data.frames import micros
from tests.property.market_data_samples import changed, clean_bars, clean_ticks, some_sessions

HARD, WARN = Severity.HARD, Severity.WARN
seeds = st.integers(0, 1_000_000)
quick = settings(max_examples=25, deadline=None)
FRAME_CHECKS = [checks.bad_tick, checks.crossed_quote, checks.locked_quote, checks.wide_spread]


def sample(seed):
    return clean_ticks(seed, some_sessions(seed)[0]), 30 + seed % 300


def found(verdicts):
    return [(v.check, v.severity, v.symbol, v.rows) for v in verdicts]


@quick
@given(seeds)
def test_clean_ticks_raise_no_verdict(seed):
    ticks, _ = sample(seed)
    last = micros(ticks["time"][-1])
    assert [verdict for check in FRAME_CHECKS for verdict in check(ticks)] == []
    assert checks.tick_time(ticks, last) == []


@quick
@given(seeds, st.sampled_from(["price", "bid", "ask"]), st.sampled_from([0.0, -0.01, np.inf]))
def test_one_price_that_is_none_is_found(seed, column, value):
    ticks, row = sample(seed)
    assert found(checks.bad_tick(changed(ticks, row, **{column: value}))) == [("bad_tick", HARD, "AAPL", 1)]


@quick
@given(seeds)
def test_a_quote_is_locked_at_the_bid_and_crossed_by_the_least_amount_below(seed):
    ticks, row = sample(seed)
    bid = ticks["bid"][row]
    locked, crossed = changed(ticks, row, ask=bid), changed(ticks, row, ask=np.nextafter(bid, 0))
    assert found(checks.locked_quote(locked)) == [("locked_quote", WARN, "AAPL", 1)]
    assert checks.crossed_quote(locked) == []
    assert found(checks.crossed_quote(crossed)) == [("crossed_quote", HARD, "AAPL", 1)]


@quick
@given(seeds)
def test_a_spread_is_wide_beyond_fifty_medians_of_the_day_so_far_and_not_at_it(seed):
    ticks, row = sample(seed)
    typical = float(np.median((ticks["ask"] - ticks["bid"]).to_numpy()[:row]))
    for factor, expected in ((1 - 1e-9, []), (1 + 1e-9, [("wide_spread", HARD, "AAPL", 1)])):
        wide = changed(ticks, row, bid=50.0, ask=50.0 + 50 * typical * factor)
        assert found(checks.wide_spread(wide)) == expected


@quick
@given(seeds)
def test_what_is_wide_is_not_told_by_later_quotes(seed):
    ticks, row = sample(seed)
    later = pl.int_range(pl.len()) > row
    wider = ticks.with_columns(ask=pl.when(later).then(pl.col("bid") + 100).otherwise(pl.col("ask")))
    assert checks.wide_spread(wider[: row + 1]) == []
    (verdict,) = checks.wide_spread(wider)
    assert verdict.evidence["at"][0] == wider["time"][row + 1].strftime("%Y-%m-%dT%H:%M:%SZ")


@quick
@given(seeds)
def test_a_tick_goes_back_or_ahead_in_time_beyond_the_skew_and_not_at_it(seed):
    ticks, row = sample(seed)
    before, last = ticks["time"][row - 1], micros(ticks["time"][-1])
    for extra, expected in ((0, []), (1, [("time_reversed", HARD, "AAPL", 1)])):
        late = ticks.with_columns(
            time=pl.when(pl.int_range(pl.len()) == row)
            .then(pl.lit(before) - pl.duration(microseconds=2_000_000 + extra))
            .otherwise(pl.col("time"))
        )
        assert found(checks.tick_time(late, last)) == expected
    assert checks.tick_time(ticks, last - 2_000_000) == []
    assert found(checks.tick_time(ticks, last - 2_000_001)) == [("future_time", HARD, "AAPL", 1)]


@quick
@given(seeds)
def test_a_quote_is_stale_beyond_its_age_in_session_and_never_outside_it(seed):
    session = some_sessions(seed)[0]
    opens, closes = micros(session.opens_at), micros(session.closes_at)
    sessions = Sessions.between(opens, closes)
    now = opens + 60_000_000
    seen = {"AAPL": now - 20_000_000, "MSFT": now - 20_000_001, "SPY": None}
    assert [v.symbol for v in checks.stale_quote(seen, Context(sessions=sessions, as_of=now))] == ["MSFT", "SPY"]
    assert checks.stale_quote(seen, Context(sessions=sessions, as_of=closes)) == []


@quick
@given(seeds)
def test_a_feed_is_silent_when_all_its_symbols_are_and_not_when_one_speaks(seed):
    session = some_sessions(seed)[0]
    opens, closes = micros(session.opens_at), micros(session.closes_at)
    now = opens + 60_000_000
    context = Context(sessions=Sessions.between(opens, closes), as_of=now)
    at, beyond = now - 30_000_000, now - 30_000_001
    assert checks.feed_silent("demo", {"AAPL": beyond, "MSFT": at}, context) == []
    (verdict,) = checks.feed_silent("demo", {"AAPL": beyond, "MSFT": None}, context)
    assert (verdict.check, verdict.severity, verdict.symbol, verdict.rows) == ("feed_silent", HARD, "*", 2)
    assert verdict.evidence == {
        "feed": "demo",
        "last": session.opens_at.replace(second=29, microsecond=999_999).isoformat().replace("+00:00", "Z"),
        "age_seconds": 30.000001,
        "limit_seconds": 30.0,
    }
    outside = Context(sessions=context.sessions, as_of=closes)
    assert checks.feed_silent("demo", {"AAPL": beyond}, outside) == []


@quick
@given(seeds, st.booleans())
def test_two_sources_differ_beyond_the_greater_of_bps_and_two_ticks(seed, cheap):
    bars = clean_bars(seed, some_sessions(seed))
    if cheap:  # at 1 dollar 50 bps are less than two ticks
        bars = bars.with_columns(pl.lit(1.0).alias(name) for name in ("open", "high", "low", "close"))
    row = 30 + seed % 200
    close = bars["close"][row]
    allowed = max(0.005 * close, 0.02)
    assert checks.source_disagreement(bars, bars) == []
    assert checks.source_disagreement(bars, changed(bars, row, close=close + allowed * (1 - 1e-9))) == []
    (verdict,) = checks.source_disagreement(bars, changed(bars, row, close=close + allowed * (1 + 1e-9)))
    assert (verdict.severity, verdict.symbol, verdict.rows) == (HARD, "AAPL", 1)
    assert verdict.evidence["at"] == [bars["time"][row].strftime("%Y-%m-%dT%H:%M:%SZ")]


@pytest.mark.parametrize("change", [{"price": "101.5"}, {"time": None}])
def test_a_frame_of_ticks_that_cannot_be_read_names_the_column(change):
    ticks, _ = sample(1)
    (name,) = change
    with pytest.raises(InvalidInputError, match=f"^{name}: "):
        checks.crossed_quote(ticks.with_columns(pl.lit(change[name]).alias(name)))


def test_every_hard_check_says_what_releases_it_and_no_warning_does():
    for name, described in CATALOGUE.items():
        assert bool(described.released_by) is (described.severity is HARD), name
        assert described.severity is WARN or described.released_by[-1] == "an operator with a reason"
