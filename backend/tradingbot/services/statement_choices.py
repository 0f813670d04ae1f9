"""A person says that an earlier statement of a session counts again.

Invariants: the statement is of the account and the session that are asked about; who and why are kept, and in the
account's journal; one that counts already is not chosen again; what was received stays as it was.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, Statement, StatementChoice
from backend.tradingbot.selectors.statements import statements_of
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.recon_blocks import checked_reason


def choose(account: Account, session: date, number: Any, *, actor: str, reason: Any, clock: Clock) -> Statement:
    """Let statement ``number`` count. Raises InvalidInputError when it is none of this account and session."""
    why = checked_reason(reason)
    with transaction.atomic(durable=True):
        row = lock_risk(account_scope(account.code))
        of_day = Statement.objects.filter(account=account, session=session).order_by("id")
        known = isinstance(number, int) and not isinstance(number, bool) and abs(number) < 2**63
        found = of_day.filter(pk=number).first() if known else None
        if found is None:
            problem = f"is no statement of {account.code} on {session}"
            raise InvalidInputError([FieldError("statement", number, problem, "see GET recon/statements")])
        newest = of_day.last()
        assert newest is not None
        if found in statements_of(account, session):
            return found
        now = clock.now()
        StatementChoice.objects.create(
            statement=found, after=newest, reason=why, chosen_by=actor, chosen_at=now, trace_id=TRACE_ID.get(),
            build_id=build_id(),
        )  # fmt: skip
        data = {"session": str(session), "sha256": found.sha256, "after": newest.pk, "reason": why}
        journal.append(row, kind="statement_chosen", actor=actor, subject=f"statement {found.pk}", data=data, at=now)
        row.save()
    return found
