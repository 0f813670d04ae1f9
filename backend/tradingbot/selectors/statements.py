"""Which of a session's statements count: of each source the newest, where a person has not said otherwise.

Invariant: nothing here writes; what a person chose counts until a statement of the session is received after that.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from backend.tradingbot.models import Account, ReconRun, Statement

Key = tuple[str, str]


def statements_of(account: Account, session: date) -> list[Statement]:
    """Those of the session that count: one a source, a CSV mapping of another name being another source; what was
    uploaded comes last."""
    newest: dict[Key, tuple[tuple[int, int], Statement]] = {}
    rows = Statement.objects.filter(account=account, session=session).select_related("account", "mapping")
    for row in rows.prefetch_related("choices").order_by("id"):
        chosen = [(each.after_id, each.pk) for each in row.choices.all()]  # type: ignore[attr-defined]
        rank, key = max([(row.pk, 0), *chosen]), _key(row)
        if key not in newest or newest[key][0] < rank:
            newest[key] = (rank, row)
    found = [row for _, row in sorted(newest.values(), key=lambda item: item[0])]
    return sorted(found, key=lambda row: row.source != "broker")


def _key(row: Statement) -> Key:
    return row.source, row.mapping.name if row.mapping is not None else ""


def standing_of(statement: Statement) -> dict[str, Any]:
    """Whether it counts, which one does in its place, and what became of its session's run."""
    counting = statements_of(statement.account, statement.session)
    other = next((row for row in counting if _key(row) == _key(statement) and row.pk != statement.pk), None)
    run = ReconRun.objects.filter(account=statement.account, session=statement.session).first()
    told = None
    if run is not None:
        compared = run.statements.filter(pk=statement.pk).exists()
        told = {"id": run.pk, "state": run.state, "compared_it": compared}
    return {"counts": other is None, "counts_instead": None if other is None else other.pk, "run": told}
