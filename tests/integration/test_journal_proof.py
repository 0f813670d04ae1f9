"""The proof of the journal: what it sees of each way to tamper with it, in the database and in the file outside."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from backend.tradingbot import start
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.models import JournalAnchor, JournalEntry, JournalVerdict, RiskRow
from backend.tradingbot.ops.journal import GENESIS, Entry, entry_hash
from backend.tradingbot.selectors import metrics
from backend.tradingbot.services import journal_proof
from backend.tradingbot.services.accounts import create_account
from backend.tradingbot.services.anchors import anchor_journal
from backend.tradingbot.services.journal import append
from backend.tradingbot.services.locks import lock_risk
from backend.tradingbot.tasks import anchor_journal as anchor_task
from backend.tradingbot.tasks import verify_journal as verify_task

pytestmark = pytest.mark.django_db(transaction=False)
SCOPE = "account:main"


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def file(settings, tmp_path) -> Path:
    path = tmp_path / "anchors.jsonl"
    settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"anchor_file": path})
    return path


@pytest.fixture
def chain(file, clock):
    """The chain of an account with six entries, anchored after the third and after the sixth."""
    create_account(code="main", cash=Decimal(1_000), broker_account="PA-1", clock=clock)
    for _ in range(2):
        write(3, clock)
        clock.advance(600)
        anchor_journal(clock=clock)
    return file


def write(count, clock):
    with transaction.atomic():
        row = lock_risk(SCOPE)
        for number in range(count):
            data = {"number": number, "text": "ä"}
            append(row, kind="note", actor="test", subject="a", data=data, at=clock.now())


def tamper(statement, *values):
    """As somebody would who owns the database and switches the triggers off first."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("SET LOCAL session_replication_role = origin")


def cut(after):
    tamper("DELETE FROM tradingbot_journalentry WHERE chain = %s AND seq > %s", SCOPE, after)
    kept = JournalEntry.objects.filter(chain=SCOPE, seq=after).values_list("hash", flat=True).first() or GENESIS
    RiskRow.objects.filter(pk=SCOPE).update(journal_seq=after, journal_hash=kept)


def rewrite(since):
    """Another story from entry ``since`` on, with every hash made anew and the head to fit."""
    previous = GENESIS
    for row in JournalEntry.objects.filter(chain=SCOPE).order_by("seq"):
        data = {"forged": True} if row.seq == since else row.data
        entry = Entry(
            SCOPE, row.seq, row.at, row.kind, row.actor, row.subject, row.trace_id, row.build_id, data, row.build_stamp
        )
        previous = entry_hash(previous, entry)
        statement = "UPDATE tradingbot_journalentry SET data = %s, hash = %s WHERE id = %s"
        tamper(statement, json.dumps(data), previous, row.pk)
    RiskRow.objects.filter(pk=SCOPE).update(journal_hash=previous)


def verify(*options):
    out = StringIO()
    call_command("journal", "verify", *options, stdout=out)
    return out.getvalue().splitlines()


def broken(*options):
    with pytest.raises(CommandError) as error:
        verify(*options)
    assert error.value.returncode == 1
    return str(error.value)


class TestWhatHolds:
    def test_it_says_how_many_entries_hold_and_how_many_of_them_were_anchored(self, chain):
        assert verify() == [f"{SCOPE}: 6 entries hold", "firm: 1 entries hold"]
        assert verify("--anchors") == [
            f"{SCOPE}: 6 entries hold, 2 of them anchored",
            "firm: 1 entries hold, 1 of them anchored",
            "anchors: 2 in the file, the last of 2026-01-05T15:20:00.000000Z",
        ]

    def test_one_scope_can_be_asked_for_alone(self, chain):
        assert verify("--scope", "firm") == ["firm: 1 entries hold"]
        with pytest.raises(CommandError, match=r"there are: account:main, firm\. \[chain_not_found\]"):
            verify("--scope", "account:other")

    @pytest.mark.parametrize("batch", [1, 2, 3, 6, 7])
    def test_the_size_of_the_batches_changes_nothing(self, chain, monkeypatch, batch):
        monkeypatch.setattr(journal_proof, "BATCH", batch)
        assert journal_proof.verify(SCOPE).entries == 6

    def test_entries_that_are_written_meanwhile_are_taken_along(self, chain, clock, monkeypatch):
        original, written = journal_proof._entries, []

        def and_one_more(name):
            for item in original(name):
                if not written:
                    written.append(write(1, clock))
                yield item

        monkeypatch.setattr(journal_proof, "BATCH", 2)
        monkeypatch.setattr(journal_proof, "_entries", and_one_more)
        assert journal_proof.verify(SCOPE).entries == 7

    def test_a_copy_of_the_file_does_as_well(self, chain, tmp_path):
        copy = tmp_path / "elsewhere.jsonl"
        copy.write_text(chain.read_text())
        chain.unlink()
        assert verify("--anchors", str(copy))[0] == f"{SCOPE}: 6 entries hold, 2 of them anchored"

    def test_half_an_anchor_left_by_a_crash_is_told_and_does_no_harm(self, chain, clock):
        with open(chain, "a") as opened:
            opened.write('{"number": 3, "at')
        anchor_journal(clock=clock)
        assert verify("--anchors")[-1].endswith("; 1 lines are torn and say nothing")


class TestTheDatabaseTamperedWith:
    def test_an_altered_entry_is_named(self, chain):
        tamper("UPDATE tradingbot_journalentry SET actor = 'nobody' WHERE chain = %s AND seq = 4", SCOPE)
        assert broken() == f"broken: {SCOPE} from entry 4 on"

    def test_a_removed_entry_is_named(self, chain):
        tamper("DELETE FROM tradingbot_journalentry WHERE chain = %s AND seq = 2", SCOPE)
        assert broken() == f"broken: {SCOPE} from entry 2 on"

    def test_entries_cut_from_the_end_are_missed_by_the_head(self, chain):
        tamper("DELETE FROM tradingbot_journalentry WHERE chain = %s AND seq > 4", SCOPE)
        assert broken() == f"broken: {SCOPE} from entry 5 on"

    def test_entries_cut_together_with_the_head_are_missed_by_the_anchors_only(self, chain):
        cut(after=4)
        assert verify()[0] == f"{SCOPE}: 4 entries hold"
        assert broken("--anchors") == f"broken: {SCOPE} from entry 5 on"

    @pytest.mark.parametrize(("since", "told"), [(1, 1), (3, 1), (4, 4), (6, 4)])
    def test_a_chain_that_was_made_anew_holds_in_itself_and_not_against_the_anchors(self, chain, since, told):
        rewrite(since)
        assert verify()[0] == f"{SCOPE}: 6 entries hold"
        assert broken("--anchors") == f"broken: {SCOPE} from entry {told} on"

    def test_a_chain_that_is_gone_with_everything_is_missed_by_the_anchors(self, chain):
        tamper("DELETE FROM tradingbot_journalentry WHERE chain = %s", SCOPE)
        tamper("DELETE FROM tradingbot_riskrow WHERE scope = %s", SCOPE)
        assert verify() == ["firm: 1 entries hold"]
        assert broken("--anchors") == f"broken: {SCOPE} from entry 1 on"

    def test_a_chain_without_its_head_is_a_fault(self, chain):
        tamper("DELETE FROM tradingbot_riskrow WHERE scope = %s", SCOPE)
        assert broken() == f"broken: {SCOPE} from entry 7 on"

    def test_a_head_that_names_another_entry_is_a_fault(self, chain):
        RiskRow.objects.filter(pk=SCOPE).update(journal_seq=5)
        assert broken() == f"broken: {SCOPE} from entry 5 on"

    def test_entries_behind_the_head_are_a_fault(self, chain):
        row = RiskRow.objects.get(pk=SCOPE)
        write(2, FixedClock())
        RiskRow.objects.filter(pk=SCOPE).update(journal_seq=row.journal_seq, journal_hash=row.journal_hash)
        assert broken() == f"broken: {SCOPE} from entry 7 on"

    def test_the_record_of_anchors_refuses_changes_as_the_journal_does(self, chain):
        for act in (JournalAnchor.objects.all().delete, lambda: JournalAnchor.objects.update(hash="0")):
            with pytest.raises(DatabaseError), transaction.atomic():
                act()


class TestTheFileTamperedWith:
    def test_a_shortened_file_is_known_to_the_database(self, chain):
        chain.write_text(chain.read_text().splitlines()[0] + "\n")
        assert broken("--anchors") == "broken: anchors"
        assert "2 is not in the file, which was shortened" in JournalVerdict.objects.get(pk="anchors").problem

    def test_a_file_that_is_gone_is_a_fault(self, chain):
        chain.unlink()
        assert broken("--anchors") == "broken: anchors"

    def test_after_a_shortening_the_next_anchor_leaves_the_gap_in_sight(self, chain, clock, caplog):
        chain.write_text(chain.read_text().splitlines()[0] + "\n")
        assert anchor_journal(clock=clock).number == 3
        assert "anchor_file_shortened" in caplog.text
        assert broken("--anchors") == "broken: anchors"
        assert "anchor 3 stands where 2 was due" in JournalVerdict.objects.get(pk="anchors").problem

    def test_an_altered_anchor_is_named(self, chain):
        chain.write_text(chain.read_text().replace("15:10:00", "15:10:01"))
        broken("--anchors")
        assert "anchor 1 does not match its hash" in JournalVerdict.objects.get(pk="anchors").problem

    def test_a_file_made_anew_around_a_rewritten_chain_is_known_to_the_database(self, chain, clock):
        rewrite(1)
        chain.unlink()
        tamper("DELETE FROM tradingbot_journalanchor WHERE number = 2")
        tamper("UPDATE tradingbot_journalanchor SET number = 0")
        anchor_journal(clock=clock)
        assert "anchors" in broken("--anchors")


class TestTheDailyRound:
    def test_the_heads_are_in_the_log_with_chain_number_hash_time_and_build(self, chain, clock, caplog):
        caplog.set_level("INFO")
        anchor = anchor_journal(clock=clock)
        told = [record.msg for record in caplog.records if record.msg.get("event") == "journal_anchor"]
        row = RiskRow.objects.get(pk=SCOPE)
        assert [(line["scope"], line["seq"]) for line in told] == [(SCOPE, 6), ("firm", 1)]
        assert told[0]["hash"] == row.journal_hash and told[0]["number"] == anchor.number == 3
        assert told[0]["at"] == "2026-01-05T15:20:00.000000Z" and told[0]["build_id"] == anchor.build_id

    def test_beat_anchors_and_proves_and_the_verdicts_are_kept(self, chain):
        anchor_task()
        verify_task()
        kept = {row.scope: (row.entries, row.problem) for row in JournalVerdict.objects.all()}
        assert kept == {SCOPE: (6, ""), "firm": (1, ""), "anchors": (3, "")}

    def test_a_weaker_proof_does_not_clear_what_the_anchors_showed(self, chain):
        cut(after=4)
        broken("--anchors")
        verify()
        assert JournalVerdict.objects.get(pk=SCOPE).problem

    def test_the_figures_tell_of_a_broken_chain_and_of_the_age_of_the_last_proof(self, chain, clock):
        journal_proof.prove(clock=clock, anchors=True)
        cut(after=4)
        journal_proof.prove(clock=clock, anchors=True, scope=SCOPE)
        later = clock.now() + timedelta(seconds=90)
        found = {family.name: family.samples for family in metrics.journal(later)}
        by_scope = {sample.labels["scope"]: sample.value for sample in found["tradingbot_journal_broken"]}
        assert by_scope == {SCOPE: 1.0, "firm": 0.0, "anchors": 0.0}
        assert [sample.value for sample in found["tradingbot_journal_verified_age_seconds"]] == [90.0]
        assert [sample.value for sample in found["tradingbot_journal_anchored_age_seconds"]] == [90.0]

    def test_a_chain_that_was_never_proved_ages_from_its_first_entry_on(self, chain, clock):
        found = {family.name: family.samples for family in metrics.journal(clock.now())}
        assert [sample.value for sample in found["tradingbot_journal_verified_age_seconds"]] == [1200.0]

    def test_an_anchor_can_be_written_by_hand(self, chain):
        out = StringIO()
        call_command("journal", "anchor", stdout=out)
        assert out.getvalue().startswith("anchor 3 of 2 chains, ")

    def test_a_place_that_cannot_be_written_is_named_and_keeps_the_worker_from_starting(self, settings, tmp_path):
        (tmp_path / "taken").write_text("a file, not a folder")
        path = tmp_path / "taken" / "anchors"
        settings.TRADINGBOT = settings.TRADINGBOT.model_copy(update={"anchor_file": path})
        with pytest.raises(CommandError, match=r"cannot be written: .* See ANCHOR_FILE"):
            call_command("journal", "anchor")
        (problem,) = start._anchor_problems()
        assert str(path) in problem and "Set ANCHOR_FILE" in problem
