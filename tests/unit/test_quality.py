"""The data quality monitor in plain Python: each hard stop by its code, and nothing that stops without a reason."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import TradingBlockedError
from backend.tradingbot.data.quality import DataQualityMonitor, OutlierDetector


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 1, 5, 18, 0, tzinfo=UTC))


@pytest.fixture
def monitor(clock):
    return DataQualityMonitor(max_staleness_sec=20, max_return_z=6.0, clock=clock)


def bars(count=60, index=None):
    rng = np.random.default_rng(4)
    close = 100 + np.cumsum(rng.normal(0, 0.05, count))
    opened = np.concatenate(([close[0]], close[:-1]))
    high, low = np.maximum(opened, close) + 0.1, np.minimum(opened, close) - 0.1
    volume = rng.integers(1, 100, count)
    columns = {"Open": opened, "High": high, "Low": low, "Close": close, "Volume": volume}
    return pd.DataFrame(columns, index=index)


def minutes(start="2026-01-05 14:30", count=60):
    return bars(count, pd.date_range(start, periods=count, freq="1min", tz="UTC"))


def stopped(monitor, frame, code, text="", **options):
    with pytest.raises(TradingBlockedError) as caught:
        monitor.check_all(frame, "AAPL", **options)
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{code}: AAPL ") and text in str(caught.value)


def changed(frame, row, **values):
    copy = frame.copy().astype(float)
    for column, value in values.items():
        copy.iloc[row, copy.columns.get_loc(column)] = value
    return copy


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_staleness_limit_that_is_not_positive_is_refused(value):
    with pytest.raises(ValueError, match="^max_staleness_sec must be positive$"):
        DataQualityMonitor(max_staleness_sec=value)


@pytest.mark.parametrize("value", [1e6, 1e9, float("inf")])
def test_a_staleness_limit_of_a_million_seconds_is_too_large(value):
    with pytest.raises(ValueError, match="^max_staleness_sec too large$"):
        DataQualityMonitor(max_staleness_sec=value)


def test_data_is_fresh_at_the_limit_and_stale_beyond_it(monitor, clock):
    clock.advance(20)
    monitor.assert_fresh()
    clock.advance(0.001)
    with pytest.raises(RuntimeError, match=r"^DATA_STALE: the last tick is 20.0 s old; the limit is 20 s$"):
        monitor.assert_fresh()
    monitor.mark_tick()
    monitor.assert_fresh()
    assert monitor.get_staleness_seconds() == 0


def test_a_wall_clock_that_steps_back_does_not_make_old_data_fresh(monitor, clock):
    clock.advance(21)
    clock.step_wall(-3_600)
    assert monitor.get_staleness_seconds() == 21
    with pytest.raises(TradingBlockedError, match="^DATA_STALE"):
        monitor.assert_fresh()


def test_a_tick_of_one_symbol_does_not_make_another_fresh(monitor, clock):
    clock.advance(15)
    monitor.mark_tick("MSFT")
    clock.advance(10)
    monitor.assert_fresh("MSFT")
    monitor.assert_fresh()
    with pytest.raises(TradingBlockedError, match="^DATA_STALE: the last tick of AAPL is 25.0 s old"):
        monitor.assert_fresh("AAPL")


def test_ticks_without_a_symbol_speak_for_all(monitor, clock):
    clock.advance(25)
    monitor.mark_tick()
    monitor.assert_fresh("AAPL")


def test_the_status_has_its_four_fields(monitor, clock):
    clock.advance(3)
    assert monitor.status() == {
        "staleness_sec": 3.0,
        "max_staleness_sec": 20,
        "max_return_z": 6.0,
        "is_fresh": True,
    }


@pytest.mark.parametrize(
    "frame",
    [
        bars(),
        bars(index=pd.date_range("2024-01-01", periods=60)),
        bars(index=pd.date_range("2024-01-01", periods=60, freq="B")),
        bars(index=pd.date_range("2024-01-01", periods=60, freq="1min")),
        minutes(),
        minutes().tz_convert("America/New_York"),
        minutes().reset_index(names="timestamp"),
        minutes("2025-11-28 17:00"),
        pl.DataFrame({name: column.to_numpy() for name, column in bars().items()}),
        {name: column.tolist() for name, column in bars().items()},
    ],
    ids=["no-time", "daily", "weekdays", "naive", "utc", "new-york", "column", "early-close", "polars", "dict"],
)
def test_clean_bars_of_every_kind_pass(monitor, frame):
    monitor.check_all(frame, "AAPL")


def days(*numbers):
    """Daily bars of January 2026, without a zone."""
    return bars(len(numbers), pd.to_datetime([f"2026-01-{number:02d}" for number in numbers]))


def naive():
    return bars(index=pd.date_range("2026-01-05", periods=60, freq="1min"))


OUT_OF_PLACE = {
    "empty": (minutes().iloc[:0], "DATA_EMPTY", "has no bars"),
    "column": (minutes()[["Open", "High", "Low", "Close"]], "DATA_INCOMPLETE", "volume: is missing"),
    "gap": (
        minutes().drop(minutes().index[30]),
        "DATA_INCOMPLETE",
        "lacks 1 bar(s), the first at 2026-01-05T15:00:00Z",
    ),
    "naive gap": (naive().drop(index="2026-01-05 00:30"), "DATA_INCOMPLETE", "lacks 1 bar(s)"),
    "daily gap": (days(5, 6, 8, 9, 12), "DATA_INCOMPLETE", "the first at 2026-01-07"),
    "reversed": (minutes().iloc[::-1], "DATA_CORRUPTED", "time_reversed in 59"),
    "repeated": (pd.concat([minutes().iloc[:30], minutes().iloc[29:]]), "DATA_CORRUPTED", "repeated_row in 1"),
    "saturday": (minutes("2026-01-03 14:30"), "DATA_CORRUPTED", "on days without a session"),
    "holiday": (minutes("2025-12-25 14:30"), "DATA_CORRUPTED", "on days without a session"),
    "future": (minutes("2026-01-05 17:30"), "DATA_CORRUPTED", "future_time in 29"),
    "odd saturday": (days(2, 3, 5, 6, 7), "DATA_CORRUPTED", "1 bar(s) on days without a session"),
}


@pytest.mark.parametrize("kind", OUT_OF_PLACE)
def test_bars_that_are_missing_or_out_of_place_stop(monitor, kind):
    stopped(monitor, *OUT_OF_PLACE[kind])


@pytest.mark.parametrize("column", ["Open", "High", "Low", "Close"])
@pytest.mark.parametrize(
    "value, code",
    [(np.nan, "DATA_INCOMPLETE"), (np.inf, "DATA_CORRUPTED"), (0.0, "DATA_CORRUPTED"), (-1.0, "DATA_CORRUPTED")],
)
def test_one_impossible_price_in_any_column_stops(monitor, column, value, code):
    stopped(monitor, changed(minutes(), 7, **{column: value}), code)


def test_shape_volume_and_returns_each_stop(monitor):
    frame = minutes()
    stopped(monitor, changed(frame, 7, Volume=-1), "DATA_CORRUPTED", "negative_volume in 1")
    stopped(monitor, changed(frame, 7, Volume=np.nan), "DATA_INCOMPLETE", "lacks volume")
    stopped(monitor, changed(frame, 7, Low=frame["High"].iloc[7] + 1), "DATA_CORRUPTED", "bar_shape in 1")
    close = frame["Close"].iloc[40] * 1.02
    stopped(monitor, changed(frame, 40, Close=close, High=close), "DATA_OUTLIER", "at 2026-01-05T15:10:00Z")
    assert monitor.get_quality_report()["outliers_detected"] == 1


def test_only_bars_of_the_session_that_was_asked_for_pass(monitor):
    monitor.check_all(minutes(), "AAPL", session=date(2026, 1, 5))
    stopped(monitor, minutes(), "DATA_CORRUPTED", "60 bar(s) not of 2026-01-06", session=date(2026, 1, 6))


def test_stale_data_stops_before_any_bar_is_looked_at(monitor, clock):
    clock.advance(21)
    with pytest.raises(TradingBlockedError, match="^DATA_STALE"):
        monitor.check_all(minutes(), "AAPL")


def test_a_pair_that_trades_round_the_clock_may_have_weekend_bars(monitor):
    monitor.check_all(minutes("2026-01-03 14:30"), "BTC/USD")


def test_a_thousandfold_jump_is_caught_on_ten_bars_and_among_bare_closes(monitor):
    frame = minutes(count=10)
    wild = changed(frame, 6, **{name: frame[name].iloc[6] * 1_000 for name in ("Open", "High", "Low", "Close")})
    stopped(monitor, wild, "DATA_OUTLIER")
    with pytest.raises(TradingBlockedError, match="^DATA_OUTLIER"):
        monitor.assert_sane_returns(wild["Close"], "AAPL")
    monitor.assert_sane_returns(frame["Close"], "AAPL")


def feed(monitor, *prices):
    return [monitor.validate_price("AAPL", price) for price in prices]


def test_a_good_price_counts_as_a_tick_and_is_kept(monitor, clock):
    clock.advance(19)
    (result,) = feed(monitor, 100)
    assert (result.symbol, result.price, result.timestamp, result.is_valid, result.issues) == (
        "AAPL", 100.0, clock.now(), True, [],
    )  # fmt: skip
    assert monitor.get_staleness_seconds("AAPL") == 0
    assert (monitor.last_prices, monitor.price_history) == ({"AAPL": 100.0}, {"AAPL": [100.0]})


@pytest.mark.parametrize("price", [None, "100", True])
def test_what_is_no_number_is_no_price(monitor, price):
    with pytest.raises(TypeError):
        feed(monitor, price)


@pytest.mark.parametrize("price", [0, -1, float("nan"), float("inf")])
def test_a_number_that_is_no_price_stops_both_as_value_and_as_trading_error(monitor, price):
    with pytest.raises(ValueError, match="^DATA_CORRUPTED"):
        feed(monitor, price)
    with pytest.raises(TradingBlockedError):
        feed(monitor, price)
    assert monitor.last_prices == {}


def test_one_bad_print_is_caught_and_does_not_stop_the_next_good_one(monitor, clock):
    feed(monitor, 100, 100.01, 100.02, 100.01, 100.03, 100.02)
    clock.advance(5)
    with pytest.raises(TradingBlockedError, match="^PRICE_OUTLIER: AAPL 102 after 100.02"):
        feed(monitor, 102)
    assert monitor.stopped_symbols() == {"AAPL": 102.0}
    assert (monitor.last_prices["AAPL"], monitor.get_staleness_seconds("AAPL")) == (100.02, 5)
    feed(monitor, 100.03)
    assert monitor.stopped_symbols() == {}


def test_a_real_gap_is_released_by_the_confirming_tick(monitor):
    feed(monitor, 100, 100.01, 100.02, 100.01, 100.03, 100.02)
    with pytest.raises(TradingBlockedError, match="^PRICE_OUTLIER"):
        feed(monitor, 102)
    feed(monitor, 102.01)
    assert monitor.last_prices["AAPL"] == 102.01
    feed(monitor, 102.02)


def test_two_bad_prints_that_differ_confirm_nothing(monitor):
    feed(monitor, 100, 100.01, 100.02, 100.01, 100.03, 100.02)
    for price in (102, 104, 110):
        with pytest.raises(TradingBlockedError, match="after 100.02 is"):
            feed(monitor, price)


def test_a_thousandfold_price_is_released_by_an_operator_only(monitor):
    feed(monitor, 100, 100.01)
    for _ in range(5):
        with pytest.raises(TradingBlockedError, match="^PRICE_OUTLIER"):
            feed(monitor, 100_000)
    with pytest.raises(ValueError):
        monitor.release("AAPL", "anna", " ")
    monitor.release("AAPL", "anna", "the unit changed, see the vendor's note")
    feed(monitor, 100_000)


def test_the_history_is_bounded_and_the_report_counts(monitor):
    feed(monitor, *(100 + n / 100 for n in range(400)))
    assert len(monitor.price_history["AAPL"]) == 150
    report = monitor.get_quality_report()
    assert (report["symbols_tracked"], report["total_price_points"], report["freshness_status"]) == (1, 150, "FRESH")


def test_the_detector_says_nothing_below_five_points_and_then_by_the_robust_z():
    detector = OutlierDetector(window_size=20, z_threshold=3.0)
    for price in (100, 100.02, 100.01, 100.03):
        detector.add_price(price)
        assert not detector.is_outlier(100_000)
    detector.add_price(100.02)
    assert detector.is_outlier(100_000) and detector.is_outlier(float("nan"))
    assert not detector.is_outlier(100.03)
    for n in range(30):
        detector.add_price(100 + n % 2 / 100)
    statistics = detector.get_statistics()
    assert statistics["sample_size"] == 19
    returns = [1e-4, 100 / 100.01 - 1] * 9 + [1e-4]
    assert statistics["mean_return"] == pytest.approx(np.mean(returns))
    assert statistics["std_return"] == pytest.approx(np.std(returns, ddof=1))


def test_one_wild_value_in_the_window_does_not_hide_the_next():
    detector = OutlierDetector(window_size=10, z_threshold=6.0)
    for price in (100, 100.01, 100.02, 100_000, 100.01, 100.02, 100.01):
        detector.add_price(price)
    assert detector.is_outlier(100_000)
