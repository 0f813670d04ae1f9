"""Anchors: the heads of all chains, written down outside the database, in lines that are a hash chain themselves.

A chain that was rewritten from some entry on can hold in itself; an anchor that saw the old hash shows it, and one that
saw a later entry shows that the end was cut off. Removing a line from the middle breaks the lines after it. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.tradingbot.core.ids import canonical_json
from backend.tradingbot.ops.journal import GENESIS

Anchored = Mapping[int, tuple[str, int]]


@dataclass(frozen=True)
class Head:
    """The end of one chain as it was seen."""

    scope: str
    seq: int
    hash: str


@dataclass(frozen=True)
class Anchor:
    """One line: ``number`` counts from 1, ``at`` is RFC 3339, ``previous`` is the hash of the line before."""

    number: int
    at: str
    build_id: str
    heads: tuple[Head, ...]
    previous: str

    def body(self) -> dict[str, Any]:
        heads = [[head.scope, head.seq, head.hash] for head in self.heads]
        return {"number": self.number, "at": self.at, "build_id": self.build_id, "heads": heads}

    @property
    def hash(self) -> str:
        """SHA-256, hex, of the previous line's hash and this line's canonical JSON."""
        return hashlib.sha256(f"{self.previous}\n{canonical_json(self.body())}".encode()).hexdigest()

    def line(self) -> str:
        """The anchor as one line of the file, without the newline."""
        return canonical_json({**self.body(), "previous": self.previous, "hash": self.hash})


def parse_line(text: str) -> Anchor | None:
    """Read a line back. None when it is no anchor; ValueError when it is one and was altered."""
    try:
        raw = json.loads(text)
        heads = tuple(Head(str(scope), int(seq), str(seen)) for scope, seq, seen in raw["heads"])
        anchor = Anchor(int(raw["number"]), str(raw["at"]), str(raw["build_id"]), heads, str(raw["previous"]))
        claimed = raw["hash"]
    except (ValueError, TypeError, KeyError):
        return None
    if anchor.hash != claimed:
        raise ValueError(f"anchor {anchor.number} does not match its hash")
    return anchor


@dataclass
class AnchorReport:
    """What the lines say: how many hold, what each chain had been seen to be, and every fault found."""

    count: int = 0
    torn: int = 0
    last: Anchor | None = None
    digests: dict[int, str] = field(default_factory=dict)
    seen: dict[str, dict[int, tuple[str, int]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def of(self, scope: str) -> Anchored:
        """``{seq: (hash, number of the anchor)}`` of one chain."""
        return self.seen.get(scope, {})


def read_anchors(lines: Iterable[str]) -> AnchorReport:
    """Walk the lines in order; none stops the walk, because every line that holds is evidence of its own.

    A line that cannot be read is what a crash leaves of a line that was never confirmed. It is counted and passed over:
    when a real anchor was overwritten by it, the next one does not follow any more.
    """
    report = AnchorReport()
    previous, number = GENESIS, 0
    for text in lines:
        try:
            anchor = parse_line(text)
        except ValueError as error:
            report.problems.append(str(error))
            continue
        if anchor is None:
            report.torn += 1
            continue
        if anchor.number != number + 1:
            report.problems.append(f"anchor {anchor.number} stands where {number + 1} was due: lines are missing")
        elif anchor.previous != previous:
            report.problems.append(f"anchor {anchor.number} does not follow the line before it")
        previous, number = anchor.hash, anchor.number
        report.count, report.last = report.count + 1, anchor
        report.digests[anchor.number] = anchor.hash
        for head in anchor.heads:
            if head.seq > 0:
                report.seen.setdefault(head.scope, {}).setdefault(head.seq, (head.hash, anchor.number))
    return report
