"""The file guard: an id is claimed once, survives restarts and torn writes, and damage stops the sending."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.execution.replay_guard import ReplayGuard, ReplayGuardCorruptError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state" / "replay_guard.json"


def order(client_order_id: str, **fields: object) -> SimpleNamespace:
    return SimpleNamespace(client_order_id=client_order_id, **fields)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_construction_makes_the_folders_and_a_regular_file(path: Path) -> None:
    guard = ReplayGuard(str(path))
    assert path.is_file()
    assert guard.status() == {"total_orders": 0, "state_file": str(path), "file_exists": True}


def test_a_recorded_id_is_seen_and_a_later_record_overwrites_its_state(path: Path) -> None:
    guard = ReplayGuard(path)
    assert guard.seen("order_123") is False
    assert guard.get_state("order_123") is None
    guard.record("order_123", "acknowledged")
    guard.record("order_123", "filled")
    assert guard.seen("order_123") is True
    assert guard.get_state("order_123") == "filled"
    assert guard.status()["total_orders"] == 1


def test_an_id_is_claimed_once_whatever_the_other_fields_say(path: Path) -> None:
    guard = ReplayGuard(path)
    assert guard.should_process_order(order("a", qty=1)) is True
    assert guard.should_process_order(order("a", qty=2)) is False
    assert guard.get_state("a") == "pending_submit"


def test_a_claim_survives_a_restart(path: Path) -> None:
    assert ReplayGuard(path).should_process_order(order("a")) is True
    assert ReplayGuard(path).should_process_order(order("a")) is False


def test_a_zero_byte_file_is_an_empty_guard(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    assert ReplayGuard(path).should_process_order(order("a")) is True
    assert ReplayGuard(path).seen("a") is True


def test_two_guards_on_one_path_see_each_others_records_at_once(path: Path) -> None:
    first, second = ReplayGuard(path), ReplayGuard(path)
    first.record("a", "accepted")
    assert second.get_state("a") == "accepted"
    second.record("a", "filled")
    assert first.get_state("a") == "filled"
    assert first.should_process_order(order("b")) is True
    assert second.should_process_order(order("b")) is False


def test_a_clear_by_one_guard_is_a_clear_for_the_other(path: Path) -> None:
    first, second = ReplayGuard(path), ReplayGuard(path)
    first.record("a", "filled")
    assert second.seen("a") is True
    first.clear()
    assert second.seen("a") is False
    assert path.is_file()
    assert json.loads(lines(Path(f"{path}.archive"))[0])["id"] == "a"


@pytest.mark.parametrize("lost", [1, 2, 20, 60])
def test_a_torn_last_line_is_cut_off_and_the_rest_stays(path: Path, lost: int) -> None:
    guard = ReplayGuard(path)
    guard.record("a", "filled")
    whole = path.read_bytes()
    guard.record("b", "filled")
    path.write_bytes(path.read_bytes()[:-lost])
    again = ReplayGuard(path)
    assert (again.seen("a"), again.seen("b")) == (True, False)
    assert path.read_bytes() == whole


def test_a_tail_of_zero_bytes_left_by_a_power_cut_is_cut_off(path: Path) -> None:
    ReplayGuard(path).record("a", "filled")
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100)
    assert ReplayGuard(path).seen("a") is True
    assert path.read_bytes() == whole


def test_a_torn_line_left_by_another_process_does_not_stop_a_live_guard(path: Path) -> None:
    guard = ReplayGuard(path)
    guard.record("a", "filled")
    with path.open("ab") as file:
        file.write(b'{"v":1,"id":"b","sta')
    guard.record("c", "filled")
    assert [ReplayGuard(path).seen(name) for name in "abc"] == [True, False, True]


def flip_a_byte(kept: list[bytes]) -> list[bytes]:
    return [kept[0], kept[1].replace(b'"a"', b'"x"'), *kept[2:]]


def drop_a_line(kept: list[bytes]) -> list[bytes]:
    return [kept[0], *kept[2:]]


def repeat_a_line(kept: list[bytes]) -> list[bytes]:
    return [*kept[:2], *kept[1:]]


def drop_the_header(kept: list[bytes]) -> list[bytes]:
    return kept[1:]


def end_in_a_bad_whole_line(kept: list[bytes]) -> list[bytes]:
    return [*kept, b'{"v":1}\n']


def end_in_garbage(kept: list[bytes]) -> list[bytes]:
    return [*kept, b"garbage"]


def hold_something_else(_: list[bytes]) -> list[bytes]:
    return [b'{"a": "acknowledged", "b": "acknowledged"}']


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        drop_a_line,
        repeat_a_line,
        drop_the_header,
        end_in_a_bad_whole_line,
        end_in_garbage,
        hold_something_else,
    ],
)
def test_any_other_damage_raises_and_leaves_the_file_as_it_was(path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    guard = ReplayGuard(path)
    for name in "abc":
        guard.record(name, "filled")
    damaged = b"".join(damage(lines(path)))
    path.write_bytes(damaged)
    with pytest.raises(ReplayGuardCorruptError, match="^REPLAY_GUARD_CORRUPT: ") as caught:
        ReplayGuard(path)
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.code == "REPLAY_GUARD_CORRUPT"
    assert path.read_bytes() == damaged


def test_damage_under_a_live_guard_stops_its_claims(path: Path) -> None:
    guard = ReplayGuard(path)
    guard.record("a", "filled")
    path.write_bytes(b"".join(flip_a_byte(lines(path))))
    for _ in range(2):
        with pytest.raises(ReplayGuardCorruptError):
            guard.should_process_order(order("new"))


def test_a_file_that_vanished_does_not_reopen_the_ids_a_live_guard_knows(path: Path) -> None:
    guard = ReplayGuard(path)
    guard.record("a", "filled")
    path.unlink()
    assert guard.should_process_order(order("a")) is False
    assert ReplayGuard(path).get_state("a") == "filled"


def test_a_folder_that_vanished_with_its_lock_does_not_reopen_ids(path: Path) -> None:
    first, second = ReplayGuard(path), ReplayGuard(path)
    first.record("a", "filled")
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    assert first.should_process_order(order("a")) is False
    assert second.should_process_order(order("a")) is False


def test_a_file_put_in_its_place_does_not_reopen_ids_and_learns_them(path: Path) -> None:
    guard = ReplayGuard(path)
    guard.record("a", "filled")
    path.unlink()
    stranger = ReplayGuard(path)
    stranger.record("b", "filled")
    assert guard.should_process_order(order("a")) is False
    assert guard.should_process_order(order("b")) is False
    assert stranger.should_process_order(order("a")) is False


def test_a_file_emptied_in_place_does_not_reopen_ids(path: Path) -> None:
    guard = ReplayGuard(path)
    guard.record("a", "filled")
    path.write_bytes(b"")
    assert guard.should_process_order(order("a")) is False
    assert ReplayGuard(path).seen("a") is True


def test_a_full_disk_raises_and_the_id_stays_unclaimed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = ReplayGuard(path)
    guard.record("a", "filled")
    whole = path.read_bytes()

    def half_then_full(descriptor: int, content: bytes, real=os.write) -> int:  # type: ignore[no-untyped-def]
        if len(content) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content[:-39])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half_then_full)
        with pytest.raises(OSError, match="No space left"):
            guard.should_process_order(order("b"))
    assert path.read_bytes() == whole
    assert guard.should_process_order(order("b")) is True


def test_a_failed_fsync_raises_and_is_never_answered_as_a_claim(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = ReplayGuard(path)

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="Input/output"):
            guard.should_process_order(order("a"))
    assert guard.seen("a") is False


def test_one_record_costs_one_fsync_and_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = ReplayGuard(path)
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    before = len(lines(path))
    guard.record("a", "filled")
    assert (len(synced), len(lines(path)) - before) == (1, 1)


@pytest.mark.parametrize("bad", ["", "  ", "x" * 129, "a\nb", "a\0", "a\x7f", "\ud800", None, 7])
def test_ids_that_cannot_be_told_apart_are_refused(path: Path, bad: object) -> None:
    guard = ReplayGuard(path)
    for call in (guard.seen, guard.get_state, lambda name: guard.record(name, "filled")):
        with pytest.raises(InvalidInputError) as caught:
            call(bad)  # type: ignore[arg-type]
        assert caught.value.code == "invalid_client_order_id"
    with pytest.raises(ValueError, match="client_order_id"):
        guard.should_process_order(SimpleNamespace(client_order_id=bad))
    assert guard.status()["total_orders"] == 0


def test_the_longest_id_and_other_scripts_are_kept_exactly(path: Path) -> None:
    ReplayGuard(path).record("x" * 128, "filled")
    ReplayGuard(path).record("заказ-1", "filled")
    again = ReplayGuard(path)
    assert (again.seen("x" * 128), again.seen("заказ-1"), again.seen("x" * 127)) == (True, True, False)


def test_clean_up_drops_only_old_terminal_ids_and_archives_them(path: Path) -> None:
    clock = FixedClock(at=datetime(2026, 1, 5, tzinfo=UTC))
    guard = ReplayGuard(path, clock=clock)
    guard.record("old-filled", "filled")
    guard.record("old-working", "accepted")
    clock.advance(31 * 86_400)
    guard.record("new-filled", "filled")
    other = ReplayGuard(path, clock=clock)
    assert guard.cleanup_old_orders(max_age_days=30) == 1
    assert guard.cleanup_old_orders(max_age_days=30) == 0
    for each in (guard, other, ReplayGuard(path)):
        assert [each.seen(name) for name in ("old-filled", "old-working", "new-filled")] == [False, True, True]
    archived = [json.loads(line) for line in lines(Path(f"{path}.archive"))]
    assert [(entry["id"], entry["state"]) for entry in archived] == [("old-filled", "filled")]


@pytest.mark.parametrize("age", [-1, float("nan"), float("inf")])
def test_clean_up_refuses_an_age_that_means_nothing(path: Path, age: float) -> None:
    with pytest.raises(ValueError, match="max_age_days must be zero or more"):
        ReplayGuard(path).cleanup_old_orders(max_age_days=age)


def _race(path: str, names: list[str], start, wins) -> None:  # type: ignore[no-untyped-def]
    try:
        start.wait(30)
        guard = ReplayGuard(path)
        for name in names:
            if guard.should_process_order(order(name)):
                wins.put(name)
    finally:
        wins.put(None)


def _winners(path: Path, processes: int, names: list[str]) -> list[str]:
    context = multiprocessing.get_context("fork")
    start, wins = context.Barrier(processes), context.Queue()
    racers = [context.Process(target=_race, args=(str(path), names, start, wins)) for _ in range(processes)]
    for racer in racers:
        racer.start()
    won: list[str] = []
    finished = 0
    while finished < processes:
        name = wins.get(timeout=60)
        if name is None:
            finished += 1
        else:
            won.append(name)
    for racer in racers:
        racer.join(30)
    return won


def test_of_many_processes_that_claim_one_id_exactly_one_wins(path: Path) -> None:
    names = [f"order-{number}" for number in range(50)]
    assert sorted(_winners(path, 4, names)) == sorted(names)
    assert ReplayGuard(path).status()["total_orders"] == 50


def test_without_the_lock_one_id_has_two_winners(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ReplayGuard(path), ReplayGuard(path)
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    append, answers = first._file.append, []

    def let_the_other_in(entry) -> None:  # type: ignore[no-untyped-def]
        answers.append(second.should_process_order(order("a")))
        append(entry)

    monkeypatch.setattr(first._file, "append", let_the_other_in)
    answers.append(first.should_process_order(order("a")))
    assert answers == [True, True]
