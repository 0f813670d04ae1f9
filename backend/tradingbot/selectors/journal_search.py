"""Finding entries of the journal, and what is known of its chains. Every query here is bounded in rows and in time.

The table only grows: entries are looked for newest first, a page of them at most, and a look that takes longer than
``SECONDS`` is given up and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import OperationalError, connection, transaction

from backend.tradingbot.models import JournalAnchor, JournalEntry, JournalVerdict, RiskRow

MOST, SECONDS, CHAINS = 100, 3, 500
EXACT = ("chain", "kind", "subject", "actor", "trace_id")
ANCHORS = "anchors"


@dataclass(frozen=True)
class Wanted:
    """What is looked for; an empty word or None asks nothing. ``before`` is the id from which on to look back."""

    chain: str = ""
    kind: str = ""
    subject: str = ""
    actor: str = ""
    trace_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


@dataclass(frozen=True)
class Found:
    """``entries`` newest first; ``more`` when there are older ones; ``gave_up`` when the look took too long."""

    entries: list[JournalEntry]
    more: bool = False
    gave_up: bool = False


def search(wanted: Wanted) -> Found:
    """The newest ``MOST`` entries that have all that is asked for."""
    exact = {name: getattr(wanted, name) for name in EXACT if getattr(wanted, name)}
    spans: dict[str, Any] = {"at__gte": wanted.since, "at__lt": wanted.until, "id__lt": wanted.before}
    rows = JournalEntry.objects.filter(**exact, **{name: value for name, value in spans.items() if value is not None})
    rows = rows.order_by("-seq") if wanted.chain else rows.order_by("-id")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{SECONDS}s'")
            found = list(rows[: MOST + 1])
    except OperationalError:
        return Found([], gave_up=True)
    return Found(found[:MOST], more=len(found) > MOST)


@dataclass(frozen=True)
class ChainStatus:
    """What the last proof said of a chain, and how far the chain has grown since."""

    chain: str
    length: int
    proved: int | None
    verified_at: datetime | None
    problem: str

    @property
    def word(self) -> str:
        if self.verified_at is None:
            return "never proved"
        return "broken" if self.problem else "holds"


def chain_statuses(chain: str = "") -> list[ChainStatus]:
    """The chain asked for, else all of them: the broken ones first, then those that were never proved."""
    heads = RiskRow.objects.order_by("scope").values_list("scope", "journal_seq")
    if chain:
        heads = heads.filter(scope=chain)
    verdicts = {row.scope: row for row in JournalVerdict.objects.all()[: 2 * CHAINS]}
    found = []
    for scope, length in heads[:CHAINS]:
        said = verdicts.get(scope)
        proved, at, problem = (None, None, "") if said is None else (said.entries, said.verified_at, said.problem)
        found.append(ChainStatus(scope, length, proved, at, problem))
    order = {"broken": 0, "never proved": 1, "holds": 2}
    return sorted(found, key=lambda status: (order[status.word], status.chain))


def anchors_status() -> tuple[JournalAnchor | None, JournalVerdict | None]:
    """The newest anchor, and what the last proof said of the anchors' file."""
    return JournalAnchor.objects.order_by("-number").first(), JournalVerdict.objects.filter(scope=ANCHORS).first()
