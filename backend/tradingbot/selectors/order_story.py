"""What happened to one order, in its own words: every state with its time, from the journal. Bounded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backend.tradingbot.models import JournalEntry, Order

MOST_STEPS = 200


@dataclass(frozen=True)
class Step:
    """One entry about the order. ``after`` is the state that it led to, empty when it changed none."""

    entry: int
    seq: int
    at: datetime
    seconds: float
    kind: str
    after: str
    event: str
    actor: str
    said: str
    build: str


def order_story(order: Order) -> list[Step]:
    """The journal's entries about ``order``, oldest first; ``seconds`` count from the first."""
    chain = f"account:{order.account.code}"
    rows = list(JournalEntry.objects.filter(chain=chain, subject=order.client_order_id).order_by("seq")[:MOST_STEPS])
    begun = rows[0].at if rows else order.created_at
    return [_step(row, begun) for row in rows]


def _step(row: JournalEntry, begun: datetime) -> Step:
    data = row.data if isinstance(row.data, dict) else {}
    evidence = data.get("evidence")
    told = evidence if isinstance(evidence, dict) else {}
    said = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items() if value not in ("", "None"))
    if not said and data.get("failed"):
        said = "refused: " + ", ".join(map(str, data["failed"]))
    if not said:
        said = str(data.get("reason") or data.get("message") or "")
    return Step(
        entry=row.pk,
        seq=row.seq,
        at=row.at,
        seconds=(row.at - begun).total_seconds(),
        kind=row.kind.replace("_", " "),
        after=str(data.get("after", "")),
        event=str(data.get("event", "")),
        actor=row.actor,
        said=said[:300],
        build=row.build_id,
    )
