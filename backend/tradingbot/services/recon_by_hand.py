"""A person starts a run: the reason is kept before anything is compared, and the run is the same as beat's.

Invariant: what was asked for stands in the account's journal whatever becomes of the run.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.models import Account, ReconRun
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.recon import run_session
from backend.tradingbot.services.recon_blocks import checked_reason
from backend.tradingbot.services.statement_choices import choose


def run_by_hand(
    account: Account, session: date, *, actor: str, reason: Any, clock: Clock, interim: bool = False,
    statement: Any = None,
) -> ReconRun:  # fmt: skip
    """Reconcile ``session`` now, with the stored ``statement`` of that number where one is named. Raises
    InvalidInputError, ConflictError, as ``run_session`` does."""
    why = checked_reason(reason)
    if statement is not None:
        choose(account, session, statement, actor=actor, reason=why, clock=clock)
    with transaction.atomic(durable=True):
        row = lock_risk(account_scope(account.code))
        data = {"session": str(session), "interim": interim, "reason": why, "statement": statement}
        journal.append(row, kind="recon_asked", actor=actor, subject=row.scope, data=data, at=clock.now())
        row.save()
    return run_session(account, session, actor=actor, clock=clock, interim=interim)
