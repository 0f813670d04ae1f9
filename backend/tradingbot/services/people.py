"""What becomes of the people who may sign in, in the firm's journal: made, changed, a second factor set or taken."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.models import RiskRow
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, lock_risk


def record(username: str, *, made: bool, facts: dict[str, Any], actor: str, clock: Clock) -> None:
    """Journal that a person was made or changed, within the caller's transaction if one is open."""
    kind = "person_made" if made else "person_changed"
    append(kind, username, facts, actor=actor, clock=clock)


def append(kind: str, username: str, facts: dict[str, Any], *, actor: str, clock: Clock) -> None:
    """An entry about ``username`` on the firm's chain."""
    with transaction.atomic():
        RiskRow.objects.get_or_create(scope=FIRM)  # people are made before the first account is
        firm = lock_risk(FIRM)
        journal.append(firm, kind=kind, actor=actor, subject=f"person:{username}"[:120], data=facts, at=clock.now())
