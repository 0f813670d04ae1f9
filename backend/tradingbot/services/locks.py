"""The doors. Lock order: account, breaker, order, shared limits, journal. There is no other way to a locked row.

docs/locking.md says what each transaction holds, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from backend.tradingbot.core.errors import NotFoundError
from backend.tradingbot.models import Order, RiskRow

FIRM = "firm"


def account_scope(code: str) -> str:
    return f"account:{code}"


@contextmanager
def locked_risk(scope: str) -> Iterator[RiskRow]:
    """A transaction that holds the risk row of ``scope``; committed when the block ends, rolled back when it raises."""
    with transaction.atomic(durable=True):
        yield lock_risk(scope)


def lock_risk(scope: str) -> RiskRow:
    """Lock the row inside a transaction that is open already; its account comes along, as it is now."""
    row = RiskRow.objects.select_related("account").select_for_update(of=("self",)).filter(pk=scope).first()
    if row is None:
        raise NotFoundError(f"there is no risk row {scope}", code="account_not_ready", remedy="create the account")
    return row


def lock_chain(scope: str) -> RiskRow:
    """Lock the row whose chain tells of ``scope``: the account's own, or the firm's for everything else."""
    return lock_risk(scope if scope.startswith("account:") else FIRM)


@contextmanager
def advisory_lock(kind: int, key: int) -> Iterator[bool]:
    """A lock of the session, not of a transaction: False when another has it. It goes with the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [kind, key % 2**31])
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [kind, key % 2**31])


@contextmanager
def locked_order(order_id: int) -> Iterator[tuple[RiskRow, Order]]:
    """A transaction that holds an order and, before it, its account's risk row; both as they are once locked."""
    with transaction.atomic(durable=True):
        rows = Order.objects.select_related("account__risk", "strategy").filter(account__risk__isnull=False)
        # the names are locked in the order in which they stand here
        order = rows.select_for_update(of=("account__risk", "self")).get(pk=order_id)
        yield order.account.risk, order
