"""What cannot be a frame of bars is refused by the name of its column, before anything is computed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.data.frames import DAY, MINUTE, as_bars, micros, moment

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
TIMES = [START + timedelta(minutes=n) for n in range(4)]
GOOD = {"time": TIMES, "open": [1.0] * 4, "high": [2.0] * 4, "low": [0.5] * 4, "close": [1.5] * 4, "volume": [10] * 4}


def problem(frame, **options):
    with pytest.raises(InvalidInputError) as caught:
        as_bars(frame, **options)
    assert caught.value.code == "invalid_frame"
    (error,) = caught.value.errors
    assert error.remedy
    return error.field, error.problem


@pytest.mark.parametrize("make", [dict, pl.DataFrame, pd.DataFrame, lambda raw: pl.DataFrame(raw).lazy()])
def test_dicts_polars_and_pandas_give_the_same_bars(make):
    bars = as_bars(make(GOOD), symbol="AAPL")
    (part,) = bars
    assert (bars.interval, bars.rows, part.symbol, part.zoned) == (MINUTE, 4, "AAPL", True)
    assert part.time.tolist() == [micros(time) for time in TIMES]
    assert (part.high.tolist(), part.volume.tolist()) == ([2.0] * 4, [10.0] * 4)


@pytest.mark.parametrize("make", [dict, pl.DataFrame, pd.DataFrame])
@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume"])
def test_a_missing_column_or_one_of_text_is_named(make, name):
    assert problem(make({k: v for k, v in GOOD.items() if k != name})) == (name, "is missing")
    field, what = problem(make({**GOOD, name: ["1.0"] * 4}))
    assert (field, "number" in what) == (name, True)


@pytest.mark.parametrize("make", [dict, pl.DataFrame, pd.DataFrame])
def test_a_time_that_is_text_or_empty_is_named(make):
    assert problem(make({**GOOD, "time": ["2026-01-05"] * 4}))[0] == "time"
    assert problem(make({**GOOD, "time": [*TIMES[:3], None]})) [0] == "time"  # fmt: skip


def test_columns_of_other_shapes_are_refused():
    assert problem({**GOOD, "open": [1.0] * 3}) == ("columns", "have different lengths")
    assert problem({**GOOD, "open": np.ones((4, 2))})[0] == "open"
    assert problem({**GOOD, "open": [True] * 4})[0] == "open"
    assert problem({**GOOD, "open": 3})[0] == "open"
    assert problem({**GOOD, "Open": [1.0] * 4}) == ("Open", "stands for open, as open does")
    assert problem({**GOOD, "symbol": ["AAPL", "", "AAPL", "AAPL"]})[0] == "symbol"
    assert problem({**GOOD, "symbol": [1] * 4}) == ("symbol", "must be text")
    mixed = [*TIMES[:3], TIMES[3].replace(tzinfo=None)]
    assert problem({**GOOD, "time": mixed}) == ("time", "mixes times with and without a zone")
    assert problem([1, 2])[0] == "frame"


def test_unknown_columns_are_refused_only_where_asked():
    assert problem({**GOOD, "vwap": [1.0] * 4}, strict=True) == ("vwap", "is not a known column")
    assert as_bars({**GOOD, "vwap": [1.0] * 4}).rows == 4


def test_an_interval_column_must_say_one_known_interval():
    assert as_bars(pl.DataFrame({**GOOD, "interval": ["1d"] * 4})).interval == DAY
    assert problem(pl.DataFrame({**GOOD, "interval": ["1m", "1m", "5m", "1m"]}))[0] == "interval"
    assert problem(pl.DataFrame({**GOOD, "interval": ["7m"] * 4}))[0] == "interval"


def test_interleaved_symbols_are_parted_in_the_order_in_which_they_come():
    bars = as_bars({**GOOD, "symbol": ["B", "A", "B", "A"], "close": [1.0, 2.0, 3.0, 4.0]})
    assert [(part.symbol, part.close.tolist()) for part in bars] == [("B", [1.0, 3.0]), ("A", [2.0, 4.0])]


def test_nulls_are_nan_and_times_without_a_zone_are_known_as_such():
    frame = pl.DataFrame({**GOOD, "open": [1.0, None, 1.0, 1.0]}).with_columns(
        pl.col("time").dt.replace_time_zone(None)
    )
    (part,) = as_bars(frame)
    assert (np.isnan(part.open).tolist(), part.zoned) == ([False, True, False, False], False)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_pandas_times_of_any_unit_and_zone_are_utc_microseconds(unit):
    index = pd.DatetimeIndex(TIMES).as_unit(unit).tz_convert("Asia/Tokyo")
    frame = pd.DataFrame({k: v for k, v in GOOD.items() if k != "time"}, index=index)
    (part,) = as_bars(frame)
    assert part.time.tolist() == [micros(time) for time in TIMES]


def test_a_moment_is_written_to_the_microsecond_only_where_it_has_some():
    assert moment(micros(START)) == "2026-01-05T14:30:00Z"
    assert moment(micros(START) + 5) == "2026-01-05T14:30:00.000005Z"
    assert moment(-1) == "1969-12-31T23:59:59.999999Z"
