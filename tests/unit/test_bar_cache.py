"""The cache of bars: what was written comes back, and what was touched never does."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import polars as pl
import pytest

from backend.tradingbot.core.errors import InvalidInputError, NotFoundError
from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.values import Severity
from backend.tradingbot.data.cache import BarCache, CacheMismatchError, Manifest
from tests.property.market_data_samples import clean_bars, some_sessions

NOW = datetime(2026, 1, 5, 22, 0, tzinfo=UTC)
BARS = clean_bars(3, some_sessions(3))


@pytest.fixture
def cache(tmp_path):
    return BarCache(tmp_path / "cache")


@pytest.fixture
def written(cache):
    return cache.write("AAPL-1m", BARS, source="test", now=NOW)


def test_what_was_written_comes_back_with_its_manifest(cache, written):
    assert cache.read("AAPL-1m").equals(BARS)
    assert (written.rows, written.symbols, written.source, written.schema_version) == (390, ("AAPL",), "test", 1)
    assert written.written_at == "2026-01-05T22:00:00.000000Z"
    assert list(cache.mismatches()) == []
    assert cache.names() == ["AAPL-1m"]


def test_a_second_write_replaces_the_first_and_leaves_no_old_file(cache, written):
    cache.write("AAPL-1m", BARS[:100], source="test", now=NOW)
    assert len(cache.read("AAPL-1m")) == 100
    assert len(list(cache.root.glob("*.parquet"))) == 1
    cache.write("AAPL-1m.x", BARS, source="test", now=NOW)  # a name that begins alike is another file
    assert len(cache.read("AAPL-1m")) == 100


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def rewritten(cache, written, **changes):
    """A manifest that somebody wrote with the right digest and wrong content."""
    body = json.loads((cache.root / "AAPL-1m.manifest.json").read_text())
    body.pop("digest")
    body |= changes
    (cache.root / "AAPL-1m.manifest.json").write_text(json.dumps({**body, "digest": digest(body)}))


def another_frame(cache, written, frame):
    """The file holds another frame, and the manifest its SHA-256."""
    path = cache.root / written.file
    frame.write_parquet(path)
    rewritten(cache, written, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


DAMAGE = {
    "the SHA-256 differs": lambda cache, m: flip(cache.root / m.file),
    "the file cannot be read": lambda cache, m: (cache.root / m.file).unlink(),
    "the manifest cannot be read": lambda cache, m: flip(cache.root / "AAPL-1m.manifest.json"),
    "the number of rows differs": lambda cache, m: rewritten(cache, m, rows=391),
    "the schema is of another version": lambda cache, m: rewritten(cache, m, schema_version=2),
    "the columns differ": lambda cache, m: another_frame(cache, m, BARS.with_columns(pl.col("close").cast(pl.Float32))),
}


@pytest.mark.parametrize("problem", DAMAGE)
def test_a_file_that_differs_from_its_manifest_is_set_aside_with_the_evidence(cache, written, problem):
    DAMAGE[problem](cache, written)
    (mismatch,) = cache.mismatches()
    assert (mismatch.name, mismatch.problem, mismatch.symbols) == ("AAPL-1m", problem, ("AAPL",))
    (verdict,) = mismatch.verdicts()
    assert (verdict.check, verdict.severity, verdict.symbol) == ("cache_mismatch", Severity.HARD, "AAPL")
    with pytest.raises(CacheMismatchError, match=f"^CACHE_MISMATCH: AAPL-1m: {problem}"):
        cache.read("AAPL-1m")
    (folder,) = cache.quarantined.iterdir()
    evidence = json.loads((folder / "evidence.json").read_text())
    assert (evidence["problem"], evidence["symbols"]) == (problem, ["AAPL"])
    moved = {path.name for path in folder.iterdir()} - {"evidence.json"}
    assert moved == {"AAPL-1m.manifest.json", written.file} - (
        {written.file} if "read" in problem[:25] and "file" in problem else set()
    )
    # it is gone from the cache, and nothing has put another in its place
    with pytest.raises(NotFoundError):
        cache.read("AAPL-1m")
    assert list(cache.mismatches()) == []


def test_a_data_file_that_no_manifest_names_is_told(cache, written):
    (cache.root / "AAPL-1m.manifest.json").unlink()
    (mismatch,) = cache.mismatches()
    assert (mismatch.problem, mismatch.symbols) == ("no manifest names this file", ("AAPL",))
    cache.set_aside(mismatch)
    assert list(cache.mismatches()) == []


def test_a_crash_before_the_manifest_leaves_the_old_file_in_force(cache, written, monkeypatch):
    place = BarCache._place

    def dies_at_the_manifest(self, name, raw):
        if name.endswith(".json"):
            raise KeyboardInterrupt
        place(self, name, raw)

    monkeypatch.setattr(BarCache, "_place", dies_at_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        cache.write("AAPL-1m", BARS[:50], source="test", now=NOW)
    assert cache.read("AAPL-1m").equals(BARS)
    assert list(cache.mismatches()) == []


def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(cache, written, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.write("AAPL-1m", BARS[:50], source="test", now=NOW)
    assert cache.read("AAPL-1m").equals(BARS)
    assert {path.name for path in cache.root.iterdir()} == {
        ".lock", "quarantine", "AAPL-1m.manifest.json", written.file,
    }  # fmt: skip


def test_readers_and_writers_at_once_see_whole_files_only(cache, written):
    def write(number):
        cache.write("AAPL-1m", BARS[: 100 + number], source="test", now=NOW)
        return len(cache.read("AAPL-1m"))

    with ThreadPoolExecutor(4) as pool:
        lengths = list(pool.map(write, range(24)))
    assert all(100 <= length < 124 for length in lengths)
    assert list(cache.mismatches()) == []


@pytest.mark.parametrize("name", ["", "../AAPL", "a/b", ".hidden", "x" * 101, "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(cache, name):
    with pytest.raises(InvalidInputError, match="^name"):
        cache.write(name, BARS, source="test", now=NOW)
    with pytest.raises(InvalidInputError, match="^name"):
        cache.read(name)


def test_nothing_to_keep_is_refused(cache):
    with pytest.raises(InvalidInputError, match="has no rows"):
        cache.write("x", BARS[:0], source="test", now=NOW)
    with pytest.raises(InvalidInputError, match="has no column symbol"):
        cache.write("x", BARS.drop("symbol"), source="test", now=NOW)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": "x"}'])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(ValueError):
        Manifest.from_text(text)
