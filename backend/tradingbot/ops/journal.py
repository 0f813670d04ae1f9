"""The journal as a hash chain: each entry's hash covers its content and the hash before it.

Whoever changes, removes or reorders an entry breaks every hash after it; whoever cuts the end is shown by an anchor
kept elsewhere. Pure: entries come in as values, verdicts go out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.ids import canonical_json

GENESIS = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One fact: ``seq`` counts from 1 in its ``chain``; ``data`` is JSON without floats."""

    chain: str
    seq: int
    at: datetime
    kind: str
    actor: str
    subject: str
    trace_id: str
    build_id: str
    data: dict[str, Any]
    build_stamp: str = ""


def entry_hash(previous: str, entry: Entry) -> str:
    """SHA-256, hex, of the previous hash and the entry's canonical JSON."""
    content = {
        "chain": entry.chain,
        "seq": entry.seq,
        "at": rfc3339(entry.at),
        "kind": entry.kind,
        "actor": entry.actor,
        "subject": entry.subject,
        "trace_id": entry.trace_id,
        "build_id": entry.build_id,
        "data": entry.data,
    }
    if entry.build_stamp:  # entries from before there were stamps have none, and keep the hash that they had
        content["build_stamp"] = entry.build_stamp
    body = canonical_json(content)
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


@dataclass(frozen=True)
class ChainReport:
    """How far the chain holds: ``entries`` good ones, the ``head`` hash, and the first fault, if any."""

    entries: int
    head: str
    broken_at: int | None = None
    problem: str = ""

    @property
    def intact(self) -> bool:
        return self.broken_at is None


def verify_chain(
    entries: Iterable[tuple[Entry, str]], anchored: Mapping[int, tuple[str, int]] | None = None
) -> ChainReport:
    """Walk ``(entry, stored hash)`` in order of ``seq`` and stop at the first that does not hold.

    ``anchored`` is what was seen from outside before, ``{seq: (hash, number of the anchor)}``: a chain that holds in
    itself must also be the one that was seen, and at least as long.
    """
    previous, count, agreed = GENESIS, 0, 0
    known = anchored or {}
    for entry, stored in entries:
        if entry.seq != count + 1:
            return ChainReport(count, previous, count + 1, f"entry {count + 1} is missing; found {entry.seq}")
        if entry_hash(previous, entry) != stored:
            return ChainReport(count, previous, entry.seq, f"entry {entry.seq} does not match its hash")
        seen, number = known.get(entry.seq, (stored, 0))
        if seen != stored:
            problem = f"entry {entry.seq} is not the one that anchor {number} saw: rewritten after entry {agreed}"
            return ChainReport(agreed, known.get(agreed, (GENESIS, 0))[0], agreed + 1, problem)
        previous, count = stored, entry.seq
        agreed = entry.seq if number else agreed
    longest = max(known, default=0)
    if longest > count:
        problem = (
            f"entry {count + 1} is missing: anchor {known[longest][1]} saw {longest} entries, cut off after {count}"
        )
        return ChainReport(count, previous, count + 1, problem)
    return ChainReport(count, previous)
