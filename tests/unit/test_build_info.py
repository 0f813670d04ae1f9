"""The build stamp: found once, true to the package's own checkout, and never written into the caller's data."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from backend.tradingbot.infra import build_info

COMMITTED = "2026-01-05T15:00:00+00:00"


def _forget() -> None:
    for cached in (build_info._find, build_info._checkout, build_info._file_hash):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def unstated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the machine's settings nor an earlier test's answer decides these."""
    monkeypatch.delenv(build_info.SHA_VARIABLE, raising=False)
    monkeypatch.delenv(build_info.TIMESTAMP_VARIABLE, raising=False)
    _forget()
    yield
    _forget()


def git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_COMMITTER_DATE": COMMITTED, "GIT_AUTHOR_DATE": COMMITTED}
    who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of its own with one source file, which the module takes for the package's."""
    source = tmp_path / "root" / "backend" / "tradingbot" / "source.py"
    source.parent.mkdir(parents=True)
    source.write_text("answer = 42\n")
    os.utime(source, (1_700_000_000, 1_700_000_000))
    monkeypatch.setattr(build_info, "_PACKAGE", source.parent)
    monkeypatch.setattr(build_info, "_ROOT", tmp_path / "root")
    return tmp_path / "root"


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def checkout(package: Path) -> Path:
    git(package, "init", "-q")
    git(package, "add", ".")
    git(package, "commit", "-qm", "First")
    return package


def test_the_stated_sha_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build_info.SHA_VARIABLE, " abc123 ")
    assert build_info.build_id() == "abc123"
    monkeypatch.setenv(build_info.SHA_VARIABLE, "def456")
    assert build_info.build_id() == "def456"


@pytest.mark.parametrize("bad", ["", "   ", "two words", "a\nforged=line", "x" * 65])
def test_a_stated_sha_that_would_spoil_a_log_line_is_passed_over(
    package: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    monkeypatch.setenv(build_info.SHA_VARIABLE, bad)
    assert build_info.build_id() == "unknown"


@needs_git
def test_a_clean_checkout_gives_its_commit_and_the_commits_time(checkout: Path) -> None:
    assert build_info.build_id() == git(checkout, "rev-parse", "HEAD")[:12]
    assert build_info.build_timestamp() == "2026-01-05T15:00:00.000000Z"


@needs_git
def test_a_changed_checkout_is_marked_dirty_and_dated_by_its_newest_source(checkout: Path) -> None:
    source = checkout / "backend" / "tradingbot" / "source.py"
    source.write_text("answer = 43\n")
    os.utime(source, (1_800_000_000, 1_800_000_000))
    assert build_info.build_id() == git(checkout, "rev-parse", "HEAD")[:12] + "-dirty"
    assert build_info.build_timestamp() == "2027-01-15T08:00:00.000000Z"


@needs_git
def test_a_new_source_file_is_dirt_and_a_note_beside_the_package_is_not(checkout: Path) -> None:
    (checkout / "note.txt").write_text("buy milk\n")
    assert not build_info.build_id().endswith("-dirty")
    _forget()
    (checkout / "backend" / "new.py").write_text("answer = 44\n")
    assert build_info.build_id().endswith("-dirty")


@needs_git
def test_the_repository_asked_is_the_packages_and_not_the_working_folders(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "Other")
    monkeypatch.chdir(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert build_info.build_id() == git(checkout, "rev-parse", "HEAD")[:12]


@needs_git
def test_a_package_below_somebody_elses_repository_is_unknown(package: Path) -> None:
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-qm", "Theirs")
    assert build_info.build_id() == "unknown"


def test_without_git_the_build_is_unknown_and_dated_by_its_newest_source(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert build_info.build_id() == "unknown"
    assert build_info.build_timestamp() == "2023-11-14T22:13:20.000000Z"


def test_the_build_is_found_once_and_no_process_is_started_for_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_info.stamp_order({})

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert build_info.stamp_order({}) == first


def test_the_stated_timestamp_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build_info.TIMESTAMP_VARIABLE, "2026-02-03T04:05:06+01:00")
    assert build_info.build_timestamp() == "2026-02-03T03:05:06.000000Z"
    assert datetime.fromisoformat(build_info.build_timestamp()).tzinfo is not None


def test_version_info_has_exactly_the_four_facts() -> None:
    assert build_info.version_info() == {
        "build_id": build_info.build_id(),
        "build_timestamp": build_info.build_timestamp(),
        "python_version": platform.python_version(),
        "platform": platform.platform(),
    }


def test_stamps_are_copies_and_leave_the_callers_dictionary_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build_info.SHA_VARIABLE, "abc123")
    monkeypatch.setenv(build_info.TIMESTAMP_VARIABLE, "2026-01-01T00:00:00Z")
    data = {"symbol": "AAPL", "build_id": "forged"}
    stamp = {"symbol": "AAPL", "build_id": "abc123", "build_timestamp": "2026-01-01T00:00:00.000000Z"}
    assert build_info.stamp_order(data) == stamp
    assert build_info.stamp_log_entry(data) == stamp
    with build_info.BuildStamper("trading") as stamper:
        assert stamper.stamp(data) == {**stamp, "operation_type": "trading"}
    assert data == {"symbol": "AAPL", "build_id": "forged"}
    assert build_info.get_strategy_version("wheel") == "wheel@abc123"


def test_a_stamper_lets_errors_through() -> None:
    with pytest.raises(KeyError), build_info.BuildStamper("trading"):
        raise KeyError("x")


def test_the_lock_hash_is_the_digest_of_the_lock_file_or_unknown(package: Path) -> None:
    assert build_info.lock_hash() == "unknown"
    _forget()
    (package / "requirements.lock").write_bytes(b"django==5.2\n")
    assert build_info.lock_hash() == hashlib.sha256(b"django==5.2\n").hexdigest()


def test_the_stamp_changes_with_every_fact_and_with_nothing_else(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_info, "_config_hash", "unknown")
    monkeypatch.setenv(build_info.SHA_VARIABLE, "abc123")
    monkeypatch.setenv(build_info.TIMESTAMP_VARIABLE, "2026-01-01T00:00:00Z")
    first = build_info.build_stamp()
    assert len(first) == 16 and int(first, 16) >= 0 and build_info.build_stamp() == first
    seen = {first}
    for variable, value in ((build_info.SHA_VARIABLE, "abc124"), (build_info.TIMESTAMP_VARIABLE, "2026-01-02")):
        monkeypatch.setenv(variable, value)
        seen.add(build_info.build_stamp())
    monkeypatch.setenv(build_info.SHA_VARIABLE, "abc124-dirty")
    assert build_info.build_facts()["dirty"] is True
    seen.add(build_info.build_stamp())
    build_info.declare_config({"mark_seconds": "5.0", "broker": "paper"})
    seen.add(build_info.build_stamp())
    _forget()
    (package / "requirements.lock").write_bytes(b"django==5.2\n")
    seen.add(build_info.build_stamp())
    assert len(seen) == 6


def test_the_config_hash_is_of_names_and_values_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_info, "_config_hash", "unknown")
    assert build_info.config_hash() == "unknown"
    build_info.declare_config({"a": "1", "b": "2"})
    first = build_info.config_hash()
    build_info.declare_config({"b": "2", "a": "1"})
    assert build_info.config_hash() == first == hashlib.sha256(b'{"a":"1","b":"2"}').hexdigest()
    build_info.declare_config({"a": "1", "b": "3"})
    assert build_info.config_hash() != first
