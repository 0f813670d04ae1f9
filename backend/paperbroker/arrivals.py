"""What happens later: orders on their way, late rejections, cancels that take their time. All of it survives kill -9.

Invariant: an event is stored before anyone is told that it will happen, and is forgotten only once it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from backend.paperbroker.ledger import Ledger, time_text

SCHEMA = """
create table if not exists arrivals (seq integer primary key autoincrement, kind text not null, body text not null,
  due_at text not null);
"""
ORDER, REJECT, CANCEL, KEEP = "order", "reject", "cancel", "keep"  # what can be on its way


class Arrivals:
    """The events that are still to come, by their time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        ledger.prepare(SCHEMA)
        self._next = self._earliest()

    def schedule(self, kind: str, body: Any, seconds: float) -> None:
        """Let ``kind`` happen to ``body`` in so many seconds, by the broker's clock."""
        due = time_text(self._ledger.now() + timedelta(seconds=seconds))
        self._ledger.execute("insert into arrivals (kind, body, due_at) values (?, ?, ?)", kind, json.dumps(body), due)
        self._next = self._earliest()

    def happen(self, now: datetime, act: Callable[[str, Any], None]) -> int:
        """Do what is due; returns how many. What fails is due again, what is done twice must not matter."""
        if self._next is None or self._next > time_text(now):
            return 0
        due = self._ledger.rows("select * from arrivals where due_at <= ? order by due_at, seq", time_text(now))
        for row in due:
            act(row["kind"], json.loads(row["body"]))
            self._ledger.execute("delete from arrivals where seq = ?", row["seq"])
        self._next = self._earliest()
        return len(due)

    def _earliest(self) -> str | None:
        row = self._ledger.row("select min(due_at) as due_at from arrivals")
        return row["due_at"] if row else None
