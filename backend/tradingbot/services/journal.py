"""Appending to the journal. The chain's head is on a risk row that the caller has locked already.

Invariant: an entry, the new head and what the entry tells of are one statement, so that none of them is ever there
without the others.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection

from backend.tradingbot.infra.build_info import build_id, build_stamp
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import JournalEntry, Order, RiskRow
from backend.tradingbot.ops.journal import Entry, entry_hash
from backend.tradingbot.services import notifications
from backend.tradingbot.services.journal_proof import verify
from backend.tradingbot.services.rows import insert_sql, update_sql

__all__ = ["append", "append_with_order", "verify"]

DECIDED_ONCE = frozenset({"decision", "snapshot"})


def append(
    row: RiskRow, *, kind: str, actor: str, subject: str, data: dict[str, Any], at: datetime, trace_id: str = ""
) -> None:
    """One entry on the locked ``row``'s chain, and its new head together with whatever else changed on the row."""
    entry = _next(row, kind, actor, subject, data, at, trace_id)
    insert, values = insert_sql(entry)
    update, changes = update_sql(row)
    with connection.cursor() as cursor:
        cursor.execute(f"WITH entry AS ({insert}) {update}", [*values, *changes])
        _expect_one(cursor.rowcount, row.scope)
    notifications.note_entry(row.scope, row.journal_seq, kind, actor, subject, data, at)


def append_with_order(
    row: RiskRow,
    order: Order,
    *,
    kind: str,
    actor: str,
    data: dict[str, Any],
    at: datetime,
    deciding: bool = False,
) -> None:
    """The same, and ``order`` saved by the same statement. The decision is written once, by whoever is ``deciding``."""
    entry = _next(row, kind, actor, order.client_order_id, data, at, order.trace_id)
    insert, values = insert_sql(entry)
    save, order_values = update_sql(order, leave_out=frozenset() if deciding else DECIDED_ONCE)
    update, changes = update_sql(row)
    statement = (
        f"WITH entry AS ({insert}), saved AS ({save} RETURNING 1) {update} RETURNING (SELECT count(*) FROM saved)"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [*values, *order_values, *changes])
        _expect_one(cursor.rowcount, row.scope)
        _expect_one(cursor.fetchone()[0], order.client_order_id)


def _next(
    row: RiskRow, kind: str, actor: str, subject: str, data: dict[str, Any], at: datetime, trace_id: str
) -> JournalEntry:
    """The entry that follows the head of ``row``, which it moves."""
    trace_id = trace_id or TRACE_ID.get()
    entry = Entry(row.scope, row.journal_seq + 1, at, kind, actor, subject, trace_id, build_id(), data, build_stamp())
    row.journal_seq, row.journal_hash = entry.seq, entry_hash(row.journal_hash, entry)
    return JournalEntry(**vars(entry), hash=row.journal_hash)


def _expect_one(count: int, what: str) -> None:
    if count != 1:
        raise RuntimeError(f"{what} was to be saved once and was saved {count} times; nothing is committed")
