"""Writes the heads of all chains down outside the database, in the log and in the anchor file.

Invariant: the file and the database know of each other. Each anchor's hash is in the database as well, so that a file
that was shortened is as visible as a chain that was.
"""

from __future__ import annotations

import structlog
from django.conf import settings

from backend.tradingbot.anchor_file import AnchorFile
from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import JournalAnchor, RiskRow
from backend.tradingbot.ops.anchors import Anchor, Head, parse_line
from backend.tradingbot.ops.journal import GENESIS

log = structlog.get_logger(__name__)


def anchor_file() -> AnchorFile:
    return AnchorFile(settings.TRADINGBOT.anchors_at)


def anchor_journal(*, clock: Clock) -> Anchor:
    """One anchor of every chain's head, on disk when this returns. OSError when the file cannot be written."""
    with anchor_file().writing() as file:
        last = _last_readable(file)
        newest = JournalAnchor.objects.order_by("-number").values_list("number", flat=True).first() or 0
        number = last.number if last is not None else 0
        if number < newest:
            # The gap in the numbers stays in the file for good; `journal verify --anchors` names it.
            log.error("anchor_file_shortened", file=str(file.path), last_in_file=number, last_written=newest)
        heads = RiskRow.objects.order_by("scope").values_list("scope", "journal_seq", "journal_hash")
        now = clock.now()
        anchor = Anchor(
            number=max(number, newest) + 1,
            at=rfc3339(now) or "",
            build_id=build_id(),
            heads=tuple(Head(*head) for head in heads),
            previous=GENESIS if last is None else last.hash,
        )
        file.append(anchor.line())
    JournalAnchor.objects.create(
        number=anchor.number, at=now, hash=anchor.hash, chains=len(anchor.heads), build_id=anchor.build_id
    )
    for head in anchor.heads:
        log.info("journal_anchor", number=anchor.number, scope=head.scope, seq=head.seq, hash=head.hash, at=anchor.at)
    log.info("journal_anchored", number=anchor.number, chains=len(anchor.heads), hash=anchor.hash)
    return anchor


def _last_readable(file: AnchorFile) -> Anchor | None:
    """The last anchor that holds; what a crash left half-written behind it is passed over."""
    for line in file.lines_from_the_end():
        try:
            anchor = parse_line(line)
        except ValueError:
            log.error("anchor_altered", file=str(file.path))
            continue
        if anchor is not None:
            return anchor
    return None
