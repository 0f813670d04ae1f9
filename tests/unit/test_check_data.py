"""``check_data`` as a pipeline sees it: exit codes, a readable report, bounded memory, and no settings at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from backend.tradingbot.data import bar_files, check_command
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.data.check_context import Context, Sessions
from backend.tradingbot.data.checks import check_bars
from backend.tradingbot.data.file_check import Checking, Outline, check_file
from backend.tradingbot.data.file_report import as_html
from backend.tradingbot.data.frames import MINUTE
from tests.property.market_data_samples import changed, clean_bars, some_sessions

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = some_sessions(5, 3)
CLEAN = clean_bars(5, SESSIONS)


def write(folder, frame, kind="csv"):
    path = folder / f"bars.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    return path


def wrong():
    frame = changed(CLEAN, 400, close=CLEAN["close"][400] * 1.3, high=CLEAN["close"][400] * 1.3)
    return frame.filter(pl.int_range(pl.len()) != 700)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_exit_code_tells_the_severity(tmp_path, capsys, kind):
    assert check_command.main([str(write(tmp_path, CLEAN, kind))]) == 0
    assert capsys.readouterr().out.strip().endswith(": clean")
    warned = write(tmp_path, changed(CLEAN, 50, volume=0.0), kind)
    assert check_command.main([str(warned)]) == 3
    assert check_command.main([str(warned), "--warnings-ok"]) == 0
    assert check_command.main([str(write(tmp_path, wrong(), kind))]) == 4
    out = capsys.readouterr().out
    assert re.search(r"^STOP  missing_bars    AAPL +1 +2015-01-08T19:40:00Z", out, re.MULTILINE)
    assert re.search(r"^STOP  return_outlier  AAPL +1 ", out, re.MULTILINE)


@pytest.mark.parametrize("rows", [1, 2])
def test_bars_too_few_to_tell_their_interval_are_not_called_clean(tmp_path, capsys, rows):
    path = str(write(tmp_path, CLEAN[:rows]))
    assert check_command.main([path]) == 3
    assert re.search(rf"^warn  unknown_interval  AAPL +{rows} ", capsys.readouterr().out, re.MULTILINE)
    assert check_command.main([path, "--interval", "1m"]) == 0
    assert check_command.main([path, "--calendar", "none"]) == 0


@pytest.mark.parametrize(
    "text, told",
    [
        (b"", "file is empty"),
        (b"a,b\n1,2\n", "open is missing"),
        (b"PAR1 and no more", "file is not a whole Parquet file"),
        (b"time,open,high,low,close,volume\n2026-01-05 10:00,1,1,1,1,1\n", "time is not a time"),
        (b"time,open,high,low,close,volume\n2026-01-05 10:00:00,1,1,1,1,1\n", "time has no time zone"),
        (b"time,open,high,low,close,volume\n2026-01-05T10:00:00Z,1,1,1,one,1\n", "close is not a number"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line_and_exit_code_1(tmp_path, capsys, text, told):
    path = tmp_path / "bars.csv"
    path.write_bytes(text)
    assert check_command.main([str(path)]) == 1
    said = capsys.readouterr()
    assert (said.out, told in said.err, "Traceback" in said.err) == ("", True, False)


def test_it_runs_without_settings_or_database(tmp_path):
    path = write(tmp_path, wrong())
    command = [sys.executable, str(ROOT / "manage.py"), "check_data", str(path), "--json"]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (4, "")
    report = json.loads(done.stdout)
    assert (report["rows"], report["symbols"], report["worst"]) == (1_169, 1, "H")
    assert {verdict["check"] for verdict in report["verdicts"]} == {"missing_bars", "return_outlier"}


def by_pieces(monkeypatch, path, rows):
    monkeypatch.setattr(bar_files, "PIECE_ROWS", rows)
    report = check_file(path, Reading(interval="1m"), Checking())
    return {(v.check, v.severity, v.symbol): v.rows for v in report.found}


@pytest.mark.parametrize("rows", [1, 7, 100, 389, 390, 391, 10_000])
def test_pieces_of_any_size_find_what_the_whole_file_finds(tmp_path, monkeypatch, rows):
    frame = wrong()
    frame = changed(frame, 60, volume=0.0)
    frame = changed(frame, 99, low=9_999.0)
    frame = changed(frame, 100, close=float("nan"))
    again = pl.concat([frame[:300], frame[299:300].with_columns(volume=pl.lit(1.5)), frame[300:]])
    other = clean_bars(9, SESSIONS, symbol="MSFT")
    both = pl.concat([again, other]).sort("time", maintain_order=True)
    times = both["time"].dt.epoch("us").to_numpy()
    context = Context(sessions=Sessions.between(int(times.min()), int(times.max())), interval=MINUTE)
    whole = {(v.check, v.severity, v.symbol): v.rows for v in check_bars(both, context)}
    assert len(whole) == 6
    if rows == 1:
        both = both[:420]
        context = Context(sessions=context.sessions, interval=MINUTE)
        whole = {(v.check, v.severity, v.symbol): v.rows for v in check_bars(both, context)}
    assert by_pieces(monkeypatch, write(tmp_path, both, "parquet"), rows) == whole


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.flags = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.flags += ("class", "flagH") in attrs


def test_the_page_draws_each_flagged_bar_loads_nothing_and_escapes_what_it_shows(tmp_path):
    frame = wrong()
    path = write(tmp_path, frame)
    named = path.rename(tmp_path / "<script>alert(1)<").as_posix()
    page = tmp_path / "report.html"
    assert check_command.main([named, "--html", str(page), "--interval", "1m"]) == 4
    text = page.read_text()
    found = Links()
    found.feed(text)
    assert (found.links, "script" in found.tags, found.flags) == ([], False, 2)
    assert found.tags.count("svg") == 1 and "<polyline" in text
    assert "&lt;script&gt;" in text and "url(" not in text and "@import" not in text


def test_a_report_that_cannot_be_written_is_told(tmp_path, capsys):
    assert check_command.main([str(write(tmp_path, CLEAN)), "--html", str(tmp_path)]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_drawing_has_a_bounded_number_of_points_and_keeps_every_extreme():
    import numpy as np

    outline = Outline()
    closes = np.random.default_rng(1).normal(100, 1, 50_000)
    closes[34_567] = 500.0
    for start in range(0, 50_000, 777):
        part = slice(start, start + 777)
        outline.add(np.arange(50_000)[part], closes[part])
    assert len(outline.buckets) <= 1_200
    assert (min(b[1] for b in outline.buckets), max(b[2] for b in outline.buckets)) == (closes.min(), 500.0)


def test_a_clean_report_says_so_on_its_page(tmp_path):
    report = check_file(write(tmp_path, CLEAN), Reading(), Checking())
    assert "Every check passed." in as_html(report)


@pytest.mark.soak
def test_memory_stays_bounded_whatever_the_size_of_the_file(tmp_path):
    """Five times the file costs the same: one block of text (here 2 MB), one piece of rows, the tails."""
    block = CLEAN.with_columns(symbol=pl.lit("AAPL")).write_csv()
    header, rows = block.split("\n", 1)
    peaks = []
    for size in (10, 50):
        path = tmp_path / f"{size}.csv"
        with path.open("w") as file:
            file.write(header + "\n")
            for _ in range(size * 1_000_000 // len(rows)):
                file.write(rows)
        code = (
            "import sys\n"
            "from backend.tradingbot.data import bar_files\n"
            "bar_files.BLOCK_BYTES = 2_000_000\n"
            "from backend.tradingbot.data.check_command import main\n"
            f"code = main([{str(path)!r}, '--json', '--interval', '1m'])\n"
            # not getrusage: what it tells of a child begins with the memory of the process that started it
            "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
            "print(code, peak, file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
        )
        exit_code, peak = done.stderr.split()[-2:]
        assert exit_code == "4"
        peaks.append(int(peak))
        path.unlink()
    assert peaks[1] < 1.2 * peaks[0]
