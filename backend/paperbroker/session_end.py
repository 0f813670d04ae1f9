"""What the end of a day brings: day orders expire at the close, and the fees of a day are posted on the next session.

Source of the rates: SEC section 31 fee (27.80 dollars a million of sales) and FINRA's trading activity fee (0.000166
dollars a share sold, at most 8.30 a trade; 0.00279 a contract), each rounded up to the cent for the day.
"""

from __future__ import annotations

import sqlite3
from datetime import date, datetime
from decimal import ROUND_UP, Decimal

from backend.paperbroker.books import Books
from backend.paperbroker.instruments import is_option, multiplier
from backend.paperbroker.ledger import Ledger, time_text
from backend.paperbroker.sessions import NEW_YORK, ONE_DAY, clock_json, hours

SCHEMA = """
create table if not exists fee_days (day text primary key);
"""
SEC_RATE, TAF_RATE, TAF_MOST = Decimal("0.0000278"), Decimal("0.000166"), Decimal("8.30")
TAF_CONTRACT = Decimal("0.00279")
CENT = Decimal("0.01")
EXTENDED_CLOSE = 20  # o'clock in New York


def expiry(now: datetime, time_in_force: str, extended_hours: bool) -> str | None:
    """Return when an order that comes in now expires: a day order at the next close; None for all others."""
    if time_in_force != "day":
        return None
    closes = datetime.fromisoformat(clock_json(now)["next_close"])
    return time_text(closes.replace(hour=EXTENDED_CLOSE, minute=0) if extended_hours else closes)


class FeeDesk:
    """Posts the fees of past days, each day once."""

    def __init__(self, ledger: Ledger, books: Books) -> None:
        self._ledger, self._books = ledger, books
        self._posted_on: date | None = None
        ledger.prepare(SCHEMA)

    def post_due(self, now: datetime) -> int:
        """On a session day post the fees of every earlier day; returns how many were posted."""
        today = now.astimezone(NEW_YORK).date()
        if self._posted_on == today or hours(today) is None:
            return 0
        self._posted_on = today
        return self.post(now, before=today)

    def post(self, now: datetime, before: date) -> int:
        """Post the fees of the days before ``before``; returns how many activities that made."""
        days = sorted({day for day in self._days_of_sales() if day < before} - self._done())
        return sum(self._post_day(day, now) for day in days)

    def _days_of_sales(self) -> set[date]:
        rows = self._ledger.rows("select distinct at from executions where side = 'sell'")
        return {datetime.fromisoformat(row["at"]).astimezone(NEW_YORK).date() for row in rows}

    def _done(self) -> set[date]:
        return {date.fromisoformat(row["day"]) for row in self._ledger.rows("select day from fee_days")}

    def _post_day(self, day: date, now: datetime) -> int:
        proceeds, activity_fee, count = self._sales(day)
        posted = 0
        fees = {"REG": proceeds * SEC_RATE, "TAF": activity_fee}
        for name, amount in fees.items():
            if (rounded := amount.quantize(CENT, ROUND_UP)) > 0:
                self._books.move_cash("FEE", -rounded, f"{name} fee for {count} sales on {day.isoformat()}", now)
                posted += 1
        self._ledger.execute("insert or ignore into fee_days values (?)", day.isoformat())
        return posted

    def _sales(self, day: date) -> tuple[Decimal, Decimal, int]:
        """The proceeds of a day's sales, what TAF asks of them, and how many stand; busted ones do not."""
        opens = datetime.combine(day, datetime.min.time(), NEW_YORK)
        rows = self._ledger.rows(
            "select * from executions as e where side = 'sell' and type != 'trade_bust' and at >= ? and at < ?"
            " and not exists (select 1 from executions as later where later.previous_execution_id = e.id)",
            time_text(opens), time_text(opens + ONE_DAY),
        )  # fmt: skip
        proceeds = sum((_qty(row) * Decimal(row["price"]) * multiplier(row["symbol"]) for row in rows), Decimal(0))
        return proceeds, sum((_activity_fee(row) for row in rows), Decimal(0)), len(rows)


def _qty(row: sqlite3.Row) -> Decimal:
    return Decimal(row["qty"])


def _activity_fee(row: sqlite3.Row) -> Decimal:
    return _qty(row) * TAF_CONTRACT if is_option(row["symbol"]) else min(_qty(row) * TAF_RATE, TAF_MOST)
