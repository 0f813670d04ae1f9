"""Anchors: what a line says, what the lines show of each other, and what the file does on a bad day."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context

import pytest

from backend.tradingbot.anchor_file import BLOCK, AnchorFile
from backend.tradingbot.ops.anchors import Anchor, Head, parse_line, read_anchors
from backend.tradingbot.ops.journal import GENESIS, ChainReport, Entry, entry_hash, verify_chain

AT = "2026-01-05T15:00:00.000000Z"


def anchors(*lengths: int) -> list[Anchor]:
    """One anchor for each length that the chain ``a`` had."""
    made: list[Anchor] = []
    for number, seq in enumerate(lengths, start=1):
        previous = made[-1].hash if made else GENESIS
        made.append(Anchor(number, AT, "build", (Head("a", seq, f"{seq:064x}"),), previous))
    return made


def lines(made: list[Anchor]) -> list[str]:
    return [anchor.line() for anchor in made]


def chain(length: int, text: str = "x", since: int = 1) -> list[tuple[Entry, str]]:
    """A chain that holds; from entry ``since`` on it says ``text``."""
    made: list[tuple[Entry, str]] = []
    previous = GENESIS
    for seq in range(1, length + 1):
        data = {"n": text if seq >= since else "x"}
        entry = Entry("a", seq, datetime(2026, 1, 5, tzinfo=UTC), "k", "who", "what", "", "build", data)
        previous = entry_hash(previous, entry)
        made.append((entry, previous))
    return made


def seen(made: list[tuple[Entry, str]], *seqs: int) -> dict[int, tuple[str, int]]:
    return {seq: (made[seq - 1][1], number) for number, seq in enumerate(seqs, start=1)}


class TestLines:
    def test_a_line_reads_back_as_what_was_written(self):
        (anchor,) = anchors(7)
        assert parse_line(anchor.line()) == anchor

    def test_what_is_no_anchor_is_none(self):
        for text in ("", "{", "[]", '{"number": 1}', anchors(1)[0].line()[:-5]):
            assert parse_line(text) is None

    @pytest.mark.parametrize(
        "change", [{"number": 2}, {"at": "2027"}, {"heads": (Head("a", 6, "f"),)}, {"previous": "1" * 64}]
    )
    def test_an_altered_line_does_not_match_its_hash(self, change):
        (anchor,) = anchors(7)
        forged = replace(anchor, **change).line().replace(replace(anchor, **change).hash, anchor.hash)
        with pytest.raises(ValueError, match="does not match its hash"):
            parse_line(forged)

    def test_lines_that_follow_each_other_hold(self):
        report = read_anchors(lines(anchors(1, 5, 5, 9)))
        assert (report.count, report.problems, report.last.number) == (4, [], 4)
        assert {seq: number for seq, (_, number) in report.of("a").items()} == {1: 1, 5: 2, 9: 4}
        assert report.of("b") == {}

    def test_a_line_that_was_taken_out_is_missed(self):
        made = lines(anchors(1, 5, 9))
        assert read_anchors([made[0], made[2]]).problems == ["anchor 3 stands where 2 was due: lines are missing"]

    def test_a_line_that_was_made_anew_is_not_followed(self):
        made = anchors(1, 5, 9)
        forged = replace(made[1], heads=(Head("a", 4, "0" * 64),))
        report = read_anchors(lines([made[0], forged, made[2]]))
        assert report.problems == ["anchor 3 does not follow the line before it"]

    def test_half_a_line_left_by_a_crash_is_passed_over(self):
        made = lines(anchors(1, 5))
        report = read_anchors([made[0], made[1][:40], made[1]])
        assert (report.count, report.torn, report.problems) == (2, 1, [])

    def test_an_anchor_overwritten_by_rubbish_is_missed(self):
        made = lines(anchors(1, 5, 9))
        assert read_anchors([made[0], "rubbish", made[2]]).problems == [
            "anchor 3 stands where 2 was due: lines are missing"
        ]


class TestAgainstAChain:
    def test_a_chain_that_grew_since_holds(self):
        made = chain(9)
        assert verify_chain(made, seen(made, 3, 6)) == ChainReport(9, made[8][1])

    def test_a_chain_cut_at_its_end_holds_in_itself_and_not_against_the_anchor(self):
        made = chain(9)
        assert verify_chain(made[:5]).intact
        report = verify_chain(made[:5], seen(made, 3, 8))
        assert (report.entries, report.broken_at) == (5, 6)
        assert report.problem == "entry 6 is missing: anchor 2 saw 8 entries, cut off after 5"

    def test_a_chain_of_which_nothing_is_left_is_missing_from_its_first_entry(self):
        report = verify_chain([], seen(chain(3), 3))
        assert (report.entries, report.broken_at) == (0, 1)

    @pytest.mark.parametrize(("since", "agreed", "at"), [(1, 0, 1), (4, 3, 4), (6, 3, 4), (7, 6, 7), (9, 6, 7)])
    def test_a_rewritten_chain_is_told_with_the_last_entry_that_both_agree_on(self, since, agreed, at):
        forged = chain(9, "forged", since)
        assert verify_chain(forged).intact
        report = verify_chain(forged, seen(chain(9), 3, 6, 9))
        assert (report.entries, report.broken_at) == (agreed, at)
        assert report.problem.endswith(f"rewritten after entry {agreed}")

    def test_what_was_rewritten_after_the_last_anchor_is_not_seen_until_the_next(self):
        forged = chain(9, "forged", 8)
        assert verify_chain(forged, seen(chain(9), 3, 7)).intact


def _append(path, number: int) -> None:
    with AnchorFile(path).writing() as file:
        file.append(f'"{number}" {"x" * 2_000}')


class TestFile:
    def test_it_is_made_for_its_owner_alone_with_its_folder(self, tmp_path):
        path = tmp_path / "new" / "anchors"
        _append(path, 1)
        assert path.stat().st_mode & 0o777 == 0o600

    def test_lines_come_in_order_and_backwards_over_any_block(self, tmp_path):
        file = AnchorFile(tmp_path / "anchors")
        with file.writing():
            for number in range(200):
                file.append(f"{number}:{'x' * 999}")
        assert file.path.stat().st_size > 3 * BLOCK
        numbers = [int(line.split(":")[0]) for line in file.lines()]
        assert numbers == list(range(200))
        assert [int(line.split(":")[0]) for line in file.lines_from_the_end()] == numbers[::-1]

    def test_a_file_that_is_not_there_has_no_lines(self, tmp_path):
        file = AnchorFile(tmp_path / "anchors")
        assert (list(file.lines()), list(file.lines_from_the_end())) == ([], [])

    def test_half_a_line_stays_and_the_next_one_is_whole(self, tmp_path):
        path = tmp_path / "anchors"
        path.write_text("first\nhal")
        with AnchorFile(path).writing() as file:
            file.append("second")
        assert path.read_text() == "first\nhal\nsecond\n"

    def test_writers_in_several_processes_take_turns(self, tmp_path):
        path, spawn = tmp_path / "anchors", get_context("spawn")
        workers = [spawn.Process(target=_append, args=(path, number)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert sorted(line[:3] for line in AnchorFile(path).lines()) == ['"0"', '"1"', '"2"', '"3"']

    def test_a_full_disk_is_an_error_and_not_half_an_anchor_taken_for_one(self, tmp_path, monkeypatch):
        file = AnchorFile(tmp_path / "anchors")
        with file.writing():
            monkeypatch.setattr(os, "write", lambda descriptor, data: 3)
            with pytest.raises(OSError, match="took only a part of an anchor"):
                file.append("whole")
