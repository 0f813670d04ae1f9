"""Each check of bars: a clean session passes all of them, and the smallest corruption fails exactly the right one."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.tradingbot.core.values import Severity
from backend.tradingbot.data import calendar, checks
from backend.tradingbot.data.checks import CheckLimits, check_bars
from backend.tradingbot.data.frames import MINUTE, micros
from tests.property.market_data_samples import as_utc, changed, clean_bars, context, some_sessions

HARD, WARN = Severity.HARD, Severity.WARN
seeds = st.integers(0, 1_000_000)
quick = settings(max_examples=25, deadline=None)


def sample(seed, count=1):
    frame = clean_bars(seed, some_sessions(seed, count))
    return frame, context(frame), 30 + seed % (len(frame) - 60)


def found(frame, ctx):
    return [(v.check, v.severity, v.rows) for v in check_bars(frame, ctx)]


@quick
@given(seeds, st.integers(1, 4))
def test_clean_sessions_raise_no_verdict_of_any_check(seed, count):
    frame, ctx, _ = sample(seed, count)
    assert check_bars(frame, ctx) == []
    assert check_bars(frame, context(frame, complete_to=micros(some_sessions(seed, count)[-1].closes_at))) == []


@quick
@given(seeds, st.sampled_from(["open", "high", "low", "close"]), st.sampled_from([0.0, -0.01, np.nan, np.inf, -np.inf]))
def test_one_price_that_is_none_is_found(seed, column, value):
    frame, ctx, row = sample(seed)
    verdicts = check_bars(changed(frame, row, **{column: value}), ctx)
    (bad,) = [v for v in verdicts if v.check == "bad_price"]
    assert (bad.severity, bad.symbol, bad.rows) == (HARD, "AAPL", 1)
    assert bad.evidence["at"] == [frame["time"][row].strftime("%Y-%m-%dT%H:%M:%SZ")]


@quick
@given(seeds, st.sampled_from([np.nan, np.inf]))
def test_a_volume_that_is_no_number_is_found(seed, value):
    frame, ctx, row = sample(seed)
    assert found(changed(frame, row, volume=value), ctx) == [("bad_price", HARD, 1)]


@quick
@given(seeds, st.booleans())
def test_a_low_or_high_on_the_wrong_side_by_the_least_amount_is_found(seed, low):
    frame, ctx, row = sample(seed)
    opened, closed = frame["open"][row], frame["close"][row]
    if low:
        edge, beyond = {"low": min(opened, closed)}, {"low": np.nextafter(min(opened, closed), np.inf)}
    else:
        edge, beyond = {"high": max(opened, closed)}, {"high": np.nextafter(max(opened, closed), 0)}
    assert found(changed(frame, row, **edge), ctx) == []
    assert found(changed(frame, row, **beyond), ctx) == [("bar_shape", HARD, 1)]


@quick
@given(seeds)
def test_the_least_volume_below_zero_is_found(seed):
    frame, ctx, row = sample(seed)
    assert found(changed(frame, row, volume=np.nextafter(0, -1)), ctx) == [("negative_volume", HARD, 1)]


@quick
@given(seeds)
def test_two_neighbours_that_changed_places_are_found(seed):
    frame, ctx, row = sample(seed)
    order = list(range(len(frame)))
    order[row], order[row + 1] = order[row + 1], order[row]
    assert ("time_reversed", HARD, 1) in found(frame[order], ctx)


@quick
@given(seeds)
def test_a_bar_is_in_the_future_beyond_the_skew_and_not_at_it(seed):
    frame, _, _ = sample(seed)
    last = micros(frame["time"][-1])
    at, beyond = context(frame, as_of=last - 2_000_000), context(frame, as_of=last - 2_000_001)
    assert "future_time" not in [name for name, _, _ in found(frame, at)]
    assert ("future_time", HARD, 1) in found(frame, beyond)


@quick
@given(seeds, st.sampled_from(["open", "close", "volume"]))
def test_a_second_bar_of_a_time_is_a_conflict_when_it_differs_by_the_least_amount(seed, column):
    frame, ctx, row = sample(seed)
    again = frame[row]
    twice = pl.concat([frame[: row + 1], again, frame[row + 1 :]])
    assert found(twice, ctx) == [("repeated_row", WARN, 1)]
    other = again.with_columns(pl.lit(np.nextafter(again[column][0], 1e9)).alias(column))
    if column == "close":
        other = other.with_columns(high=pl.max_horizontal("high", "close"))
    if column == "open":
        other = other.with_columns(high=pl.max_horizontal("high", "open"))
    verdicts = found(pl.concat([frame[: row + 1], other, frame[row + 1 :]]), ctx)
    assert verdicts == [("conflicting_rows", HARD, 1)]


@quick
@given(seeds)
def test_a_conflict_is_found_however_far_apart_the_two_rows_stand(seed):
    frame, ctx, row = sample(seed)
    other = frame[row].with_columns(volume=pl.col("volume") + 1)
    assert ("conflicting_rows", HARD, 1) in found(pl.concat([frame, other]), ctx)


@quick
@given(seeds, st.integers(1, 3))
def test_one_bar_that_is_not_there_is_found(seed, count):
    frame, ctx, row = sample(seed, count)
    short = frame.filter(pl.int_range(pl.len()) != row)
    (missing,) = [v for v in check_bars(short, ctx) if v.check == "missing_bars"]
    assert (missing.severity, missing.rows) == (HARD, 1)
    assert missing.evidence["at"] == [frame["time"][row].strftime("%Y-%m-%dT%H:%M:%SZ")]


@quick
@given(seeds)
def test_a_missing_bar_at_either_end_is_found_when_the_span_is_given(seed):
    frame, _, _ = sample(seed)
    session = some_sessions(seed)[0]
    span = {"start": micros(session.opens_at), "complete_to": micros(session.closes_at)}
    assert found(frame, context(frame, **span)) == []
    assert found(frame[1:], context(frame, **span)) == [("missing_bars", HARD, 1)]
    assert found(frame[:-1], context(frame, **span)) == [("missing_bars", HARD, 1)]
    building = {**span, "complete_to": span["complete_to"] - 1}
    assert found(frame[:-1], context(frame, **building)) == []  # the last minute had not ended


@quick
@given(seeds)
def test_a_repeated_bar_does_not_hide_a_missing_one(seed):
    frame, ctx, row = sample(seed)
    order = [*range(row), row - 1, *range(row + 1, len(frame))]
    assert ("missing_bars", HARD, 1) in found(frame[order], ctx)


def test_a_whole_session_that_is_not_there_is_found():
    sessions = some_sessions(77, 3)
    frame = clean_bars(77, [sessions[0], sessions[2]])
    assert ("missing_bars", HARD, sessions[1].minutes) in found(frame, context(frame))


def test_every_early_close_of_the_last_three_years_is_complete_and_its_last_bar_is_needed():
    early = calendar.early_closes_between(date(2023, 11, 20), date(2026, 11, 27))
    assert len(early) == 8 and {session.minutes for session in early} == {210}
    for session in early:
        around = calendar.sessions_between(session.date - timedelta(days=5), session.date + timedelta(days=5))
        frame = clean_bars(session.date.toordinal(), around)
        assert check_bars(frame, context(frame)) == []
        last = micros(session.closes_at) - MINUTE
        short = frame.filter(pl.col("time").dt.epoch("us") != last)
        assert found(short, context(short)) == [("missing_bars", HARD, 1)]


@quick
@given(seeds)
def test_a_bar_at_the_closing_instant_is_outside_the_session(seed):
    frame, ctx, _ = sample(seed)
    closing = frame[-1].with_columns(time=as_utc(np.array([micros(some_sessions(seed)[0].closes_at)])))
    outside = [v for v in check_bars(pl.concat([frame, closing]), ctx) if v.check == "outside_session"]
    assert [(v.severity, v.rows) for v in outside] == [(WARN, 1)]


def reference_band(close, row, limits):
    """The band by its definition, without moving medians: a second opinion."""
    changes = np.log(close[1:] / close[:-1])
    window = changes[max(row - 1 - limits.window, 0) : row - 1]
    middles = [np.median(changes[max(at - limits.window, 0) : at]) for at in range(row - 1 - len(window), row - 1)]
    mad = np.median(np.abs(window - middles))
    return np.median(window), limits.z_limit * max(mad, 0.01 / close[row - 1]) / 0.6745


@quick
@given(seeds, st.booleans())
def test_a_return_is_an_outlier_beyond_its_band_and_not_within(seed, up):
    frame, ctx, row = sample(seed)
    row = max(row, 130)
    close = frame["close"].to_numpy().copy()
    middle, band = reference_band(close, row, CheckLimits())
    for factor, expected in ((1 - 1e-9, 0), (1 + 1e-9, 1)):
        shifted = close.copy()
        shifted[row] = close[row - 1] * np.exp(middle + (band if up else -band) * factor)
        spike = frame.with_columns(close=pl.Series(shifted))
        outliers = [v for v in checks.return_outlier(spike, ctx) if v.severity is HARD]
        assert sum(v.rows for v in outliers) == expected


@quick
@given(seeds, st.integers(1, 9))
def test_a_thousandfold_jump_is_caught_on_a_window_of_ten_bars(seed, row):
    frame, _, _ = sample(seed)
    window = frame[:10]
    wild = changed(window, row, **{name: window[name][row] * 1_000 for name in ("open", "high", "low", "close")})
    verdicts = checks.return_outlier(wild)
    assert [(v.severity, v.rows) for v in verdicts] == [(HARD, 1)]
    assert verdicts[0].evidence["at"] == [frame["time"][row].strftime("%Y-%m-%dT%H:%M:%SZ")]


@quick
@given(seeds, st.integers(2, 9))
def test_a_thousandfold_jump_that_stays_is_confirmed_by_nobody(seed, row):
    frame = sample(seed)[0][:10]
    scale = pl.when(pl.int_range(pl.len()) >= row).then(1_000.0).otherwise(1.0)
    wild = frame.with_columns(pl.col(name) * scale for name in ("open", "high", "low", "close"))
    assert [(v.severity, v.rows) for v in checks.return_outlier(wild)] == [(HARD, 10 - row)]


@quick
@given(seeds)
def test_one_bad_close_is_caught_and_the_next_good_one_is_not(seed):
    frame, ctx, row = sample(seed)
    (verdict,) = checks.return_outlier(changed(frame, row, close=frame["close"][row] * 1.1), ctx)
    assert (verdict.severity, verdict.rows) == (HARD, 1)
    assert verdict.evidence["at"] == [frame["time"][row].strftime("%Y-%m-%dT%H:%M:%SZ")]


@quick
@given(seeds)
def test_a_bad_price_before_a_jump_does_not_hide_it(seed):
    frame, ctx, row = sample(seed)
    holed = changed(frame, row, close=float("nan"))
    (verdict,) = checks.return_outlier(changed(holed, row + 1, close=frame["close"][row] * 2), ctx)
    assert (verdict.severity, verdict.rows) == (HARD, 1)


@quick
@given(seeds, st.sampled_from([1.1, 0.9]))
def test_a_gap_is_a_hard_stop_until_the_next_bar_confirms_it(seed, ratio):
    frame, ctx, row = sample(seed)
    scale = pl.when(pl.int_range(pl.len()) >= row).then(ratio).otherwise(1.0)
    gapped = frame.with_columns(pl.col(name) * scale for name in ("open", "high", "low", "close"))
    assert [v.severity for v in checks.return_outlier(gapped[: row + 1], ctx)] == [HARD]
    assert [v.severity for v in checks.return_outlier(gapped[: row + 2], ctx)] == [WARN]
    assert [v.severity for v in checks.return_outlier(gapped, ctx)] == [WARN]


@quick
@given(seeds, st.integers(30, 380))
def test_what_is_said_of_a_row_does_not_depend_on_later_rows(seed, cut):
    """One-sided: a verdict on the rows before the cut, less the last that still waits, is the verdict live."""
    rng = np.random.default_rng(seed)
    frame, ctx, _ = sample(seed)
    cut = min(cut, len(frame) - 2)
    for row in rng.integers(5, len(frame), 4):
        frame = changed(frame, int(row), close=frame["close"][int(row)] * float(rng.choice([0.5, 0.97, 1.03, 2])))
    live = {at for v in checks.return_outlier(frame[:cut], ctx) for at in v.evidence["at"]}
    later = {at for v in checks.return_outlier(frame, ctx) for at in v.evidence["at"]}
    edge = frame["time"][cut - 1].strftime("%Y-%m-%dT%H:%M:%SZ")
    assert {at for at in later if at < edge} == {at for at in live if at < edge}


@quick
@given(seeds, st.sampled_from([2, 3, 4, 5, 10]), st.booleans())
def test_an_overnight_split_ratio_is_found_within_two_per_cent_unless_an_action_is_on_file(seed, factor, inverse):
    sessions = some_sessions(seed, 2)
    frame = clean_bars(seed, sessions)
    row = sessions[0].minutes
    ratio = 1 / factor if inverse else float(factor)
    closed = frame["close"][row - 1]
    for miss, expected in ((0.0199, 1), (-0.0199, 1), (0.0201, 0), (-0.0201, 0)):
        split = changed(frame, row, open=closed * ratio * (1 + miss))
        assert len(checks.unexplained_split(split, context(frame))) == expected
    split = changed(frame, row, open=closed * ratio)
    assert checks.unexplained_split(split, context(frame, actions={"AAPL": {sessions[1].date: 1 / ratio}})) == []
    for wrong in (ratio, 1.15 / ratio, 0.85 / ratio):  # on file is another action than the one that is seen
        (verdict,) = checks.unexplained_split(split, context(frame, actions={"AAPL": {sessions[1].date: wrong}}))
        assert verdict.evidence["on_file"] == wrong
    (verdict,) = checks.unexplained_split(split, context(frame, actions={"AAPL": {sessions[0].date: 1 / ratio}}))
    assert verdict.evidence["on_file"] is None


@quick
@given(seeds, st.sampled_from([1.5, 2, 4, 10, 20]), st.booleans())
def test_bars_after_a_split_on_file_are_clean_and_stop_without_it_or_with_another(seed, factor, inverse):
    sessions = some_sessions(seed, 2)
    frame = clean_bars(seed, sessions)
    ratio = 1 / factor if inverse else factor
    after = pl.int_range(pl.len()) >= sessions[0].minutes
    split = frame.with_columns(
        pl.when(after).then(pl.col(name) / ratio).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")
    )
    day = sessions[1].date
    filed, without, wrong = (
        {v.check for v in check_bars(split, context(split, actions=actions))}
        for actions in ({"AAPL": {day: ratio}}, {}, {"AAPL": {day: 1 / ratio}})
    )
    assert filed == set()
    assert "return_outlier" in without and "return_outlier" in wrong


@quick
@given(seeds)
def test_equal_closes_are_a_warning_from_thirty_on_while_volume_is_traded(seed):
    frame, ctx, row = sample(seed)
    row = min(row, len(frame) - 40)
    for run, expected in ((29, []), (30, [(WARN, 1)])):
        among = pl.int_range(pl.len()).is_between(row, row + run - 1)
        frozen = frame.with_columns(close=pl.when(among).then(frame["close"][row]).otherwise(pl.col("close")))
        rest = pl.int_range(pl.len()) >= row + run
        frozen = frozen.with_columns(close=pl.when(rest).then(pl.col("close") + 50).otherwise(pl.col("close")))
        assert [(v.severity, v.rows) for v in checks.frozen_price(frozen, ctx)] == expected
    untraded = frozen.with_columns(volume=pl.when(among).then(0.0).otherwise(pl.col("volume")))
    assert checks.frozen_price(untraded, ctx) == []


@quick
@given(seeds)
def test_a_move_without_volume_is_a_warning(seed):
    frame, ctx, row = sample(seed)
    assert found(changed(frame, row, volume=0.0), ctx) == [("zero_volume_move", WARN, 1)]


@quick
@given(seeds)
def test_verdicts_are_the_same_in_pieces_of_symbols_and_interleaved(seed):
    one, ctx, row = sample(seed)
    two = clean_bars(seed + 1, some_sessions(seed), symbol="MSFT")
    bad = changed(one, row, low=one["high"][row] + 1)
    together = check_bars(pl.concat([bad, two]), ctx)
    interleaved = check_bars(pl.concat([bad, two]).sort("time", maintain_order=True), ctx)
    assert [(v.check, v.symbol) for v in together] == [("bar_shape", "AAPL")]
    assert together == interleaved


def test_a_large_frame_is_judged_by_threads_as_by_one(monkeypatch):
    frame = pl.concat([clean_bars(n, some_sessions(n, 2), symbol=f"S{n}") for n in range(4)])
    bad = changed(frame, 500, low=9_999.0)
    alone = check_bars(bad, context(frame))
    monkeypatch.setattr("backend.tradingbot.data.check_context.PARALLEL_ROWS", 1)
    assert check_bars(bad, context(frame)) == alone != []


@pytest.mark.parametrize("name", sorted(checks.BAR_CHECKS))
def test_every_check_stands_in_the_catalogue_and_says_what_it_means(name):
    assert name in checks.CATALOGUE
    assert (checks.BAR_CHECKS[name].__doc__ or "").startswith(checks.CATALOGUE[name].severity)


@pytest.mark.parametrize("limits", [{"z_limit": 0}, {"z_limit": float("nan")}, {"window": 4}, {"jump": 1}])
def test_senseless_limits_are_refused(limits):
    with pytest.raises(ValueError):
        CheckLimits(**limits)
