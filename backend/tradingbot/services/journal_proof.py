"""Proves the chains, entry by entry, and holds them against the anchors that stand outside the database.

Invariants: a chain of any length is walked in batches by its unique index, without a long transaction; entries that are
appended meanwhile are taken along; a chain without a head, and a head or an anchor without its chain, are faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from django.db import connection, transaction

from backend.tradingbot.anchor_file import AnchorFile
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import NotFoundError
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import JournalAnchor, JournalEntry, JournalVerdict, RiskRow
from backend.tradingbot.ops import notices
from backend.tradingbot.ops.anchors import Anchored, AnchorReport, read_anchors
from backend.tradingbot.ops.journal import ChainReport, Entry, verify_chain
from backend.tradingbot.services import notifications
from backend.tradingbot.services.anchors import anchor_file

BATCH = 5_000
ANCHORS = "anchors"
COLUMNS = ("chain", "seq", "at", "kind", "actor", "subject", "trace_id", "build_id", "data", "build_stamp", "hash")
# The distinct chains of millions of entries, by hopping along the index from one to the next.
CHAINS = """
WITH RECURSIVE hop AS (
  (SELECT chain FROM tradingbot_journalentry ORDER BY chain LIMIT 1)
  UNION ALL
  SELECT (SELECT chain FROM tradingbot_journalentry e WHERE e.chain > hop.chain ORDER BY chain LIMIT 1)
  FROM hop WHERE hop.chain IS NOT NULL
) SELECT chain FROM hop WHERE chain IS NOT NULL
"""


@dataclass
class Proof:
    """What was proved: each chain's report, and the anchors' when they were asked for."""

    chains: dict[str, ChainReport] = field(default_factory=dict)
    anchors: AnchorReport | None = None

    @property
    def broken(self) -> list[str]:
        """The chains that do not hold, and ``anchors`` when the file does not."""
        faulty = [scope for scope, report in self.chains.items() if not report.intact]
        return faulty + ([ANCHORS] if self.anchors is not None and self.anchors.problems else [])


def verify(chain: str, anchored: Anchored | None = None) -> ChainReport:
    """Walk one chain; its end must be what its head says, and it must be the one that the anchors saw."""
    head = _head_of(chain)
    passed: dict[int, str] = {}
    report = verify_chain(_watched(_entries(chain), 0 if head is None else head[0], passed), anchored)
    if not report.intact:
        return report
    if head is None:
        return ChainReport(report.entries, report.head, report.entries + 1, "the risk row with its head is gone")
    if head[0] > report.entries:
        problem = f"the head says {head[0]} entries, {report.entries} were found"
        return ChainReport(report.entries, report.head, report.entries + 1, problem)
    if head[0] and passed.get(head[0]) != head[1]:
        return ChainReport(head[0] - 1, report.head, head[0], f"entry {head[0]} is not the one that the head names")
    later = _head_of(chain) or head
    if (later[0] < report.entries) or (later[0] == report.entries and later[1] != report.head):
        problem = f"the head names entry {later[0]}, and not entry {report.entries}, which is the last"
        return ChainReport(later[0], report.head, later[0] + 1, problem)
    return report


def prove(*, clock: Clock, scope: str | None = None, anchors: bool = False, path: Path | None = None) -> Proof:
    """Prove every chain, or the one of ``scope``, and remember the verdict of each. A proof without the anchors is the
    weaker one: it can find a fault, and clears none.

    With ``anchors`` also against the anchor file, or a copy of it at ``path``. NotFoundError for an unknown scope.
    """
    proof = Proof(anchors=_read(AnchorFile(path) if path else anchor_file()) if anchors else None)
    known = proof.anchors.seen if proof.anchors is not None else {}
    scopes = sorted({*RiskRow.objects.values_list("scope", flat=True), *_chains(), *known})
    if scope is not None and scope not in scopes:
        raise NotFoundError(
            f"there is no chain {scope}", code="chain_not_found", remedy=f"there are: {', '.join(scopes)}"
        )
    for name in scopes if scope is None else [scope]:
        proof.chains[name] = verify(name, None if proof.anchors is None else proof.anchors.of(name))
    _remember(proof, clock)
    return proof


def _read(file: AnchorFile) -> AnchorReport:
    """The file's own chain, and whether it has every anchor of which the database knows."""
    report = read_anchors(file.lines())
    for number, seen in JournalAnchor.objects.order_by("number").values_list("number", "hash").iterator(BATCH):
        found = report.digests.get(number)
        if found != seen:
            what = "is not in the file" if found is None else "is another one in the file"
            report.problems.append(f"anchor {number} {what}, which was shortened or replaced")
    return report


def _entries(chain: str) -> Iterator[tuple[Entry, str]]:
    last = -1
    while True:
        rows = JournalEntry.objects.filter(chain=chain, seq__gt=last).order_by("seq").values_list(*COLUMNS)[:BATCH]
        batch = list(rows)
        for *columns, stored in batch:
            yield Entry(*columns), stored
        if len(batch) < BATCH:
            return
        last = batch[-1][1]


def _watched(entries: Iterable[tuple[Entry, str]], seq: int, passed: dict[int, str]) -> Iterator[tuple[Entry, str]]:
    """Notes the hash at ``seq`` in passing."""
    for entry, stored in entries:
        if entry.seq == seq:
            passed[seq] = stored
        yield entry, stored


def _head_of(chain: str) -> tuple[int, str] | None:
    return RiskRow.objects.filter(pk=chain).values_list("journal_seq", "journal_hash").first()


def _chains() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(CHAINS)
        return [row[0] for row in cursor.fetchall()]


def _remember(proof: Proof, clock: Clock) -> None:
    now = clock.now()
    verdicts = [(scope, report.entries, report.problem) for scope, report in proof.chains.items()]
    if proof.anchors is not None:
        verdicts.append((ANCHORS, proof.anchors.count, "; ".join(proof.anchors.problems)))
    for scope, entries, problem in verdicts:
        if proof.anchors is None and not problem:
            continue
        values = {"verified_at": now, "entries": entries, "problem": problem[:500], "build_id": build_id()}
        JournalVerdict.objects.update_or_create(scope=scope, defaults=values)
    _tell_of_faults({scope: problem for scope, _, problem in verdicts if problem}, now)


def _tell_of_faults(problems: dict[str, str], now: datetime) -> None:
    """A chain that does not hold is told of once, and again when another fault is found in it."""
    if problems:
        with transaction.atomic():
            keys = [
                f"broken:{scope}:{sha256(problem.encode()).hexdigest()[:16]}" for scope, problem in problems.items()
            ]
            notifications.note(notices.journal_broken(sorted(problems)), keys, subject="journal", at=now)
