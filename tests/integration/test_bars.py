"""Bars by API and from files: stored once, contradicted never overwritten, resumable, and nothing half-written."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import ConflictError, InvalidInputError
from backend.tradingbot.data import bar_files as bar_files_module
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.models import Bar, BarConflict, BarFile, DataStop, JournalEntry, Quarantine
from backend.tradingbot.services import bar_files, bars
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.bars import post_bars, resolve_conflict
from tests.property.market_data_samples import changed, clean_bars, some_sessions

pytestmark = pytest.mark.django_db
MAY = frozenset({"AAPL", "MSFT"})


@pytest.fixture(autouse=True)
def firm():
    ensure_firm()


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 1, 5, 16, 0, tzinfo=UTC))


def bar(minute=30, **changes):
    values = {"open": "100", "high": "101.5", "low": "99", "close": "100.25", "volume": "1200"}
    return {"symbol": "AAPL", "interval": "1m", "time": f"2026-01-05T14:{minute}:00Z", **values, **changes}


def post(clock, *rows):
    return post_bars({"bars": list(rows)}, may_feed=MAY, clock=clock, actor="key:feed")


def test_bars_are_stored_exactly_and_the_same_again_changes_nothing(clock):
    answer = post(clock, bar(30), bar(31, close="100.123456789"))
    assert (answer["stored"], answer["unchanged"], answer["conflicts"], answer["refused"]) == (2, 0, [], [])
    row = Bar.objects.get(symbol="AAPL", interval="1m", time=datetime(2026, 1, 5, 14, 31, tzinfo=UTC))
    assert (row.close, row.volume, row.source) == (Decimal("100.123456789"), 1200, "key:feed")
    again = post(clock, bar(30, open="100.0"), bar(32))
    assert (again["stored"], again["unchanged"]) == (1, 1)
    assert Bar.objects.count() == 3


def test_other_values_for_a_bar_are_kept_beside_it_and_stop_the_symbol(clock):
    post(clock, bar(30))
    answer = post(clock, bar(30, close="100.26"), bar(31))
    assert (answer["stored"], answer["stopped"]) == (1, ["AAPL"])
    (conflict,) = answer["conflicts"]
    assert (conflict["row"], conflict["stored"]["close"], conflict["offered"]["close"]) == (0, "100.25", "100.26")
    assert Bar.objects.get(time=datetime(2026, 1, 5, 14, 30, tzinfo=UTC)).close == Decimal("100.25")
    assert (BarConflict.objects.count(), DataStop.objects.get().check_name) == (1, "conflicting_rows")
    post(clock, bar(30, close="100.26"))
    assert (BarConflict.objects.count(), DataStop.objects.count()) == (1, 1)


def test_two_rows_of_one_batch_that_differ_are_one_bar_and_one_conflict(clock):
    answer = post(clock, bar(30), bar(30, volume="1"), bar(30))
    assert (answer["stored"], answer["unchanged"], len(answer["conflicts"])) == (1, 1, 1)


@pytest.mark.parametrize("resolution, close", [("kept", "100.25"), ("replaced", "100.26")])
def test_a_person_decides_a_conflict_once_and_says_why(clock, resolution, close):
    post(clock, bar(30))
    post(clock, bar(30, close="100.26"))
    row = BarConflict.objects.get()
    with pytest.raises(InvalidInputError, match="^reason"):
        resolve_conflict(row.pk, resolution=resolution, actor="anna", reason="", clock=clock)
    done = resolve_conflict(row.pk, resolution=resolution, actor="anna", reason="vendor's notice 7", clock=clock)
    assert (done.resolution, done.resolved_by, done.reason) == (resolution, "anna", "vendor's notice 7")
    assert Bar.objects.get().close == Decimal(close)
    entry = JournalEntry.objects.get(kind=f"bar_conflict_{resolution}")
    assert (entry.data["before"]["close"], entry.data["offered"]["close"]) == ("100.250000000", "100.26")
    with pytest.raises(ConflictError, match="it was"):
        resolve_conflict(row.pk, resolution=resolution, actor="ben", reason="me too", clock=clock)


@pytest.mark.parametrize(
    "change, field",
    [
        ({"close": "NaN"}, "close"),
        ({"close": 100.25}, "close"),
        ({"open": "0"}, "open"),
        ({"low": "100.01"}, "low"),
        ({"high": "100.2"}, "high"),
        ({"volume": "-1"}, "volume"),
        ({"interval": "7m"}, "interval"),
        ({"time": "2026-01-05T14:30:00"}, "time"),
        ({"time": "2026-01-05T15:59:59Z", "interval": "1m"}, "time"),
        ({"interval": "1d"}, "time"),
        ({"symbol": "TSLA"}, "symbol"),
        ({"vwap": "1"}, "vwap"),
        ({"open": None}, "open"),
    ],
)
def test_a_row_that_is_no_bar_is_refused_by_its_field_and_the_others_are_stored(clock, change, field):
    answer = post(clock, bar(30), bar(31, **change), bar(32))
    (refused,) = answer["refused"]
    assert (answer["stored"], refused["row"], refused["errors"][0]["field"]) == (2, 1, f"bars[1].{field}")
    impossible = field in ("close", "open", "low", "high", "volume")
    assert answer["stopped"] == (["AAPL"] if impossible else [])
    assert Quarantine.objects.count() == int(impossible)


def test_what_was_put_aside_is_kept_as_it_came(clock):
    wrong = bar(31, close="NaN")
    post(clock, wrong)
    row = Quarantine.objects.get()
    assert (row.kind, row.symbols, row.rows) == ("rows", ["AAPL"], 1)
    assert row.evidence["first"] == [{"row": 0, "sent": wrong}]
    assert DataStop.objects.get().check_name == "bad_price"


def test_the_database_itself_refuses_an_impossible_bar(clock):
    with pytest.raises(DatabaseError, match="bar_shape_possible"), transaction.atomic():
        Bar.objects.create(
            symbol="X", interval="1m", time=clock.now(), open=1, high=1, low=2, close=1, volume=0, source="x",
            ingested_at=clock.now(),
        )  # fmt: skip


# -- files


def write(folder: Path, frame: pl.DataFrame, kind: str) -> Path:
    path = folder / f"bars.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    return path


@pytest.fixture
def late():
    return FixedClock(datetime(2027, 1, 1, tzinfo=UTC))


def sample(count=2):
    return clean_bars(5, some_sessions(5, count))


READ = Reading(interval="1m")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_is_stored_and_the_same_file_adds_nothing(tmp_path, late, kind):
    frame = sample()
    path = write(tmp_path, frame, kind)
    done = bar_files.ingest_file(path, READ, actor="t", clock=late)
    assert (done.rows, done.stored, done.unchanged, done.refused) == (len(frame), len(frame), 0, 0)
    first = Bar.objects.order_by("time").first()
    assert (first.time, first.open) == (frame["time"][0], Decimal(str(frame["open"][0])))
    again = bar_files.ingest_file(path, READ, actor="t", clock=late)
    assert (again.stored, again.resumed_at, Bar.objects.count()) == (len(frame), len(frame), len(frame))
    other = tmp_path / "copy.parquet"
    frame.write_parquet(other)
    overlap = bar_files.ingest_file(other, Reading(interval="1m", zone="UTC"), actor="t", clock=late)
    assert (overlap.stored, overlap.unchanged) == (0, len(frame))


def test_a_run_that_broke_off_goes_on_behind_its_last_part(tmp_path, late, monkeypatch):
    monkeypatch.setattr(bar_files, "STORE_ROWS", 100)
    frame = sample()
    path = write(tmp_path, frame, "csv")
    store, calls = bars.store, []

    def dies_at_the_third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return store(*arguments, **options)

    monkeypatch.setattr(bar_files, "store", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        bar_files.ingest_file(path, READ, actor="t", clock=late)
    assert (Bar.objects.count(), BarFile.objects.get().rows_done) == (200, 200)
    done = bar_files.ingest_file(path, READ, actor="t", clock=late)
    assert (done.resumed_at, done.stored, Bar.objects.count()) == (200, len(frame), len(frame))


def test_another_run_of_the_same_file_is_told_so(tmp_path, late, monkeypatch):
    monkeypatch.setattr(bar_files, "STORE_ROWS", 100)
    path = write(tmp_path, sample(), "csv")

    def somebody_else(stage, rows):
        if stage == "storing" and rows == 100:
            BarFile.objects.update(rows_done=300)

    with pytest.raises(ConflictError, match="being stored by another run"):
        bar_files.ingest_file(path, READ, actor="t", clock=late, progress=somebody_else)


def test_bad_rows_of_a_file_are_put_aside_by_check_and_the_rest_is_stored(tmp_path, late):
    frame = sample(1)
    frame = changed(frame, 10, close=float("nan"))
    frame = changed(frame, 20, low=9_999.0)
    frame = changed(frame, 30, volume=-1.0)
    done = bar_files.ingest_file(write(tmp_path, frame, "parquet"), READ, actor="t", clock=late)
    assert (done.stored, done.refused) == (len(frame) - 3, 3)
    assert {(row.evidence["check"], row.rows) for row in Quarantine.objects.all()} == {
        ("bad_price", 1), ("bar_shape", 1), ("negative_volume", 1),
    }  # fmt: skip
    assert set(DataStop.objects.values_list("symbol", "check_name")) == {
        ("AAPL", "bad_price"), ("AAPL", "bar_shape"), ("AAPL", "negative_volume"),
    }  # fmt: skip


def test_bars_that_are_not_over_are_not_stored(tmp_path):
    frame = sample(1)
    clock = FixedClock(frame["time"][9] + timedelta(seconds=58))
    done = bar_files.ingest_file(write(tmp_path, frame, "csv"), READ, actor="t", clock=clock)
    assert (done.stored, done.refused) == (10, len(frame) - 10)


def test_daily_bars_bear_their_trading_date_however_the_file_wrote_it(tmp_path, late):
    frame = sample(1)[:2].with_columns(
        time=pl.Series([datetime(2026, 7, 6, 4, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)])
    )
    bar_files.ingest_file(write(tmp_path, frame, "parquet"), Reading(interval="1d"), actor="t", clock=late)
    dates = set(Bar.objects.values_list("time", flat=True))
    assert dates == {datetime(2026, 7, 6, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)}


HEAD = "symbol,time,open,high,low,close,volume\n"
LINE = "AAPL,2026-01-05T14:{:02d}:00Z,1,2,0.5,1.5,10\n"
BROKEN = {
    "text in a price": (HEAD + LINE.format(30) + LINE.format(31).replace("1.5", "x"), "close is not a number, in row"),
    "a naive time": (HEAD + LINE.format(30).replace("Z", ""), "time has no time zone, in row 0"),
    "no time": (HEAD + LINE.format(30).replace("2026-01-05T14:30:00Z", "soon"), "time is not a time, in row 0"),
    "no symbol": (HEAD + LINE.format(30).replace("AAPL", ""), "symbol is empty in row 0"),
    "a missing column": (HEAD.replace("close,", "") + "AAPL,2026-01-05T14:30:00Z,1,2,0.5,10\n", "close is missing"),
    "an empty file": ("", "file is empty"),
    "only a header": (HEAD, "file has no rows"),
    "too many fields": (HEAD + LINE.format(30).strip() + ",7,8\n", "file cannot be read as CSV"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_understood_stores_nothing(tmp_path, kind):
    text, told = BROKEN[kind]
    path = tmp_path / "bars.csv"
    path.write_text(text)
    with pytest.raises(CommandError, match=told):
        call_command("ingest_bars", str(path), interval="1m", stdout=StringIO())
    assert (Bar.objects.count(), BarFile.objects.count(), Quarantine.objects.count()) == (0, 0, 0)


def test_a_fault_in_the_last_piece_of_a_long_file_stores_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(bar_files_module, "BLOCK_BYTES", 1_000)
    lines = [LINE.format(n % 60) for n in range(600)]
    path = tmp_path / "bars.csv"
    path.write_text(HEAD + "".join(lines) + LINE.format(1).replace("1.5", "x"))
    with pytest.raises(CommandError, match="close is not a number, in row 600"):
        call_command("ingest_bars", str(path), interval="1m", stdout=StringIO())
    assert Bar.objects.count() == 0


@pytest.mark.parametrize("strict, told", [(False, None), (True, "vwap is not a known column")])
def test_unknown_columns_are_refused_where_asked(tmp_path, strict, told):
    path = tmp_path / "bars.csv"
    path.write_text("vwap," + HEAD + "1," + LINE.format(30))
    if told is None:
        call_command("ingest_bars", str(path), interval="1m", stdout=StringIO())
        assert Bar.objects.count() == 1
        return
    with pytest.raises(CommandError, match=told):
        call_command("ingest_bars", str(path), interval="1m", strict=True, stdout=StringIO())


@pytest.mark.parametrize("cut", [1, 100, 5_000])
def test_a_truncated_parquet_file_is_told_and_stores_nothing(tmp_path, cut):
    path = write(tmp_path, sample(), "parquet")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CommandError, match="is not a whole Parquet file"):
        call_command("ingest_bars", str(path), interval="1m", stdout=StringIO())
    assert Bar.objects.count() == 0


def test_a_parquet_column_of_the_wrong_type_is_named(tmp_path):
    frame = sample(1)
    path = write(tmp_path, frame.with_columns(close=pl.col("close").cast(pl.Boolean)), "parquet")
    with pytest.raises(CommandError, match="close is not a column of numbers"):
        call_command("ingest_bars", str(path), interval="1m", stdout=StringIO())
    path = write(tmp_path, frame.with_columns(time=pl.col("time").dt.epoch("s")), "parquet")
    with pytest.raises(CommandError, match="time is not a column of times"):
        call_command("ingest_bars", str(path), interval="1m", stdout=StringIO())


def test_the_command_says_what_became_of_the_rows_and_needs_an_interval(tmp_path):
    path = write(tmp_path, sample(1), "csv")
    with pytest.raises(CommandError, match="interval is not in bars.csv"):
        call_command("ingest_bars", str(path), stdout=StringIO())
    out = StringIO()
    call_command("ingest_bars", str(path), interval="1m", stdout=out)
    assert out.getvalue().startswith("bars.csv: 390 rows: 390 stored, 0 there already, 0 in conflict, 0 refused (")


def test_a_zone_places_times_that_have_none(tmp_path):
    path = tmp_path / "bars.csv"
    path.write_text(HEAD + "AAPL,2026-01-05 09:30:00,1,2,0.5,1.5,10\n")
    call_command("ingest_bars", str(path), interval="1m", timezone="America/New_York", stdout=StringIO())
    assert Bar.objects.get().time == datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    path.write_text(HEAD + "AAPL,2026-03-08 02:30:00,1,2,0.5,1.5,10\n")
    with pytest.raises(CommandError, match="time is not one moment in America/New_York"):
        call_command("ingest_bars", str(path), interval="1m", timezone="America/New_York", stdout=StringIO())


def test_a_session_of_the_sample_is_a_whole_one():
    assert (some_sessions(5)[0].date, some_sessions(5)[0].minutes) == (date(2015, 1, 7), 390)
