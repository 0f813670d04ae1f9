"""The doors. Lock order: account, breaker, order, shared limits, journal. There is no other way to a locked row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from backend.tradingbot.core.errors import NotFoundError
from backend.tradingbot.models import RiskRow

FIRM = "firm"


def account_scope(code: str) -> str:
    return f"account:{code}"


@contextmanager
def locked_risk(scope: str) -> Iterator[RiskRow]:
    """A transaction that holds the risk row of ``scope``; committed when the block ends, rolled back when it raises."""
    with transaction.atomic(durable=True):
        yield lock_risk(scope)


def lock_risk(scope: str) -> RiskRow:
    """Lock the row inside a transaction that is open already."""
    row = RiskRow.objects.select_for_update(of=("self",)).filter(pk=scope).first()
    if row is None:
        raise NotFoundError(f"there is no risk row {scope}", code="account_not_ready", remedy="create the account")
    return row
