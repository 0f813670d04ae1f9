"""Appending to the journal. The chain's head is on a risk row that the caller has locked already."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import JournalEntry, RiskRow
from backend.tradingbot.ops.journal import ChainReport, Entry, entry_hash, verify_chain


def append(
    row: RiskRow, *, kind: str, actor: str, subject: str, data: dict[str, Any], at: datetime, trace_id: str = ""
) -> None:
    """One entry on the locked ``row``'s chain, and its new head together with whatever else changed on the row."""
    trace_id = trace_id or TRACE_ID.get()
    entry = Entry(row.scope, row.journal_seq + 1, at, kind, actor, subject, trace_id, build_id(), data)
    digest = entry_hash(row.journal_hash, entry)
    JournalEntry.objects.create(
        chain=entry.chain,
        seq=entry.seq,
        at=at,
        kind=kind,
        actor=actor,
        subject=subject,
        trace_id=trace_id,
        build_id=entry.build_id,
        data=data,
        hash=digest,
    )
    row.journal_seq, row.journal_hash = entry.seq, digest
    row.save()


def verify(chain: str) -> ChainReport:
    """Walk one chain in the database; also compares its end with the head on the risk row."""
    rows = JournalEntry.objects.filter(chain=chain).order_by("seq").iterator(chunk_size=2_000)
    report = verify_chain(
        (
            Entry(r.chain, r.seq, r.at, r.kind, r.actor, r.subject, r.trace_id, r.build_id, r.data),
            r.hash,
        )
        for r in rows
    )
    head = RiskRow.objects.get(pk=chain)
    if report.intact and (head.journal_seq, head.journal_hash) != (report.entries, report.head):
        problem = f"the head says {head.journal_seq} entries, {report.entries} were found"
        return ChainReport(report.entries, report.head, report.entries + 1, problem)
    return report
