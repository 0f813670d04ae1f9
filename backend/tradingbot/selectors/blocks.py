"""What keeps an account from new risk until people have looked at a day: the blocks that stand, and days never closed.

Invariant: a day that ended and was not reconciled blocks without anybody having to write it down.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from backend.tradingbot.models import Account, ReconciliationBlock, RiskRow
from backend.tradingbot.selectors.closing_days import first_session, last_due


@dataclass(frozen=True)
class OpenBlock:
    """One reason against new risk; ``session`` is the day that it comes from."""

    session: date | None
    reason: str


def open_blocks(account: Account, now: datetime) -> list[OpenBlock]:
    """Every block of ``account`` that is neither lifted nor waived at ``now``, with days that were never reconciled."""
    through = RiskRow.objects.filter(account=account).values_list("reconciled_through", flat=True).first()
    rows = ReconciliationBlock.objects.filter(account=account, lifted_at__isnull=True).order_by("id")
    stored = [[row.reason, row.session, row.waived_until is not None and row.waived_until > now] for row in rows]
    return blocks_of(account, stored, through, now)


def blocks_of(account: Account, stored: list[Any], through: date | None, now: datetime) -> list[OpenBlock]:
    """The same from ``[reason, session, waived]`` rows and the last reconciled session, both read already; the session
    is a date, or its text."""
    rows = [(reason, _day(session), waived) for reason, session, waived in stored]
    found = [OpenBlock(session, reason) for reason, session, waived in rows if not waived]
    due = last_due(now, account.session_calendar)
    covered = {session for _, session, _ in rows}
    if due >= first_session(account) and (through is None or through < due) and due not in covered:
        found.append(OpenBlock(due, f"session {due} ended and was not reconciled"))
    return found


def _day(raw: Any) -> date | None:
    return date.fromisoformat(raw) if isinstance(raw, str) else raw
