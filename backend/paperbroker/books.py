"""What the ledger keeps beside trading: the equity at each close, and cash that comes and goes by itself.

Invariants: an equity at a close is written before anything after that close changes it; a cash activity and the cash it
moves are one transaction.
"""

from __future__ import annotations

import sqlite3
import uuid
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from backend.paperbroker.ledger import Ledger, text
from backend.paperbroker.sessions import NEW_YORK, ONE_DAY, hours
from backend.paperbroker.shapes import equity

SCHEMA = """
create table if not exists closes (day text primary key, equity text not null);
create table if not exists cash_activities (seq integer primary key autoincrement, id text not null unique,
  kind text not null, net_amount text not null, description text not null, status text not null, day text not null,
  at text not null);
"""
STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"
LONGEST_WEEKEND = timedelta(days=12)


def latest_close(now: datetime) -> tuple[date, datetime]:
    """The day of the last close at or before ``now``, and the time of the next one."""
    local = now.astimezone(NEW_YORK)
    day, last, following = local.date() - LONGEST_WEEKEND, None, None
    while following is None:
        if session := hours(day):
            closes = datetime.combine(day, session[1], NEW_YORK)
            if closes <= local:
                last = day
            else:
                following = closes
        day += ONE_DAY
    assert last is not None
    return last, following


class Books:
    """The closes and cash activities of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next_close: datetime | None = None
        ledger.prepare(SCHEMA)

    def close(self, now: datetime) -> None:
        """Write the equity of a close that has passed; call it before anything changes."""
        if self._next_close is not None and now < self._next_close:
            return
        day, self._next_close = latest_close(now)
        statement = "insert or ignore into closes values (?, ?)"
        self._ledger.execute(statement, day.isoformat(), text(equity(self._ledger)))

    def last_close(self) -> tuple[str, Decimal]:
        """Day and equity of the last close that is written."""
        row = self._ledger.rows("select * from closes order by day desc limit 1")[0]
        return row["day"], Decimal(row["equity"])

    def move_cash(self, kind: str, amount: Decimal, description: str, now: datetime) -> sqlite3.Row:
        """Book a deposit (CSD), a withdrawal (CSW, below zero), a journal (JNLC), a fee... at once."""
        day = now.astimezone(NEW_YORK).date().isoformat()
        activity_id = f"{day.replace('-', '')}000000000::{uuid.uuid4()}"
        with self._ledger.transaction():
            self._ledger.execute(
                "insert into cash_activities (id, kind, net_amount, description, status, day, at)"
                " values (?, ?, ?, ?, 'executed', ?, ?)",
                activity_id, kind, text(amount), description, day, now.strftime(STAMP),
            )  # fmt: skip
            cash = Decimal(self._ledger.account()["cash"]) + amount
            self._ledger.execute("update account set cash = ?", text(cash))
        return self._ledger.rows("select * from cash_activities where id = ?", activity_id)[0]

    def activities(self, kinds: list[str] | None) -> list[sqlite3.Row]:
        """Every cash activity of ``kinds`` (None: of any kind), oldest first."""
        if kinds is None:
            return self._ledger.rows("select * from cash_activities order by seq")
        marks = ", ".join("?" for _ in kinds)
        return self._ledger.rows(f"select * from cash_activities where kind in ({marks}) order by seq", *kinds)


def cash_activity_json(row: sqlite3.Row) -> dict[str, Any]:
    """A cash activity as Alpaca shows it."""
    return {
        "id": row["id"], "activity_type": row["kind"], "date": row["day"], "net_amount": row["net_amount"],
        "description": row["description"], "status": row["status"], "created_at": row["at"],
    }  # fmt: skip
