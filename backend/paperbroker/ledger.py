"""The paper broker's books, in SQLite: orders, executions, positions, cash and the last quotes.

Invariants: a client order id is stored once for ever; an order is on disk before it is acknowledged (WAL, synchronous
FULL); an execution, its order, its position and the cash change in one transaction; decimals are TEXT, never float.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from backend.paperbroker.instruments import multiplier
from backend.paperbroker.matching import Fill, Quote

OPEN = ("new", "accepted", "partially_filled", "pending_cancel")
ENDED_AT = {"canceled": "canceled_at", "expired": "expired_at", "replaced": "replaced_at", "rejected": "failed_at"}
ZERO = Decimal(0)

SCHEMA = """
create table if not exists account (one integer primary key check (one = 1), id text not null, number text not null,
  cash text not null, opening_cash text not null, created_at text not null);
create table if not exists orders (seq integer primary key autoincrement, id text not null unique,
  client_order_id text not null unique, symbol text not null, side text not null, type text not null,
  time_in_force text not null, qty text not null, limit_price text, extended_hours integer not null,
  status text not null, filled_qty text not null default '0', filled_value text not null default '0',
  created_at text not null, updated_at text not null, filled_at text, canceled_at text, failed_at text,
  reject_reason text, refused_duplicates integer not null default 0, expires_at text, expired_at text,
  replaced_at text, replaced_by text, replaces text);
create index if not exists orders_open on orders (symbol, status);
create index if not exists orders_status on orders (status);
create table if not exists executions (seq integer primary key autoincrement, id text not null unique,
  activity_id text not null unique, order_id text not null references orders (id), symbol text not null,
  side text not null, qty text not null, price text not null, cum_qty text not null, leaves_qty text not null,
  order_status text not null, type text not null, previous_execution_id text, at text not null);
create table if not exists positions (symbol text primary key, qty text not null, cost text not null);
create table if not exists quotes (symbol text primary key, bid text, ask text, bid_size text, ask_size text, last text,
  at text not null);
create table if not exists clock (one integer primary key check (one = 1), offset_seconds real not null);
"""
SINCE_THEN = ("expires_at", "expired_at", "replaced_at", "replaced_by", "replaces")  # columns that old files lack


class DuplicateClientOrderId(Exception):
    """The client order id is already in the ledger."""


def time_text(moment: datetime) -> str:
    """Return a time as Alpaca writes it, in UTC with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def text(value: Decimal | None) -> str | None:
    """Return a decimal as plain text without exponent or trailing zeros."""
    if value is None:
        return None
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def decimal(value: str | None) -> Decimal | None:
    """Return the decimal a TEXT column holds."""
    return None if value is None else Decimal(value)


class Ledger:
    """Owner of the SQLite file; used from one thread. Raises ``sqlite3.Error`` when the file cannot be used."""

    def __init__(self, path: str, cash: Decimal) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(SCHEMA)
        known = {row["name"] for row in self.rows("pragma table_info(orders)")}
        for column in SINCE_THEN:
            if column not in known:
                self._db.execute(f"alter table orders add column {column} text")
        clock = self.row("select offset_seconds from clock")
        self.offset = timedelta(seconds=clock["offset_seconds"] if clock else 0)
        self._db.execute(
            "insert or ignore into account values (1, ?, ?, ?, ?, ?)",
            (str(uuid.uuid4()), "PA" + uuid.uuid4().hex[:10].upper(), text(cash), text(cash), self.now_text()),
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what happens inside at once, or nothing of it."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def now(self) -> datetime:
        """Return the broker's time: the machine's, moved by what ``set_clock`` asked for."""
        return datetime.now(UTC) + self.offset

    def now_text(self) -> str:
        """Return the broker's time as Alpaca writes it."""
        return time_text(self.now())

    def set_clock(self, offset: timedelta) -> None:
        """Move the broker's clock against the machine's, for good."""
        self.offset = offset
        self._db.execute("insert or replace into clock values (1, ?)", (offset.total_seconds(),))

    def prepare(self, schema: str) -> None:
        """Create what is not there yet."""
        self._db.executescript(schema)

    def execute(self, statement: str, *values: Any) -> None:
        """Run one statement that answers nothing."""
        self._db.execute(statement, values)

    def rows(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self._db.execute(statement, values).fetchall()

    def row(self, statement: str, *values: Any) -> sqlite3.Row | None:
        """Return the first row of a query or None."""
        found: sqlite3.Row | None = self._db.execute(statement, values).fetchone()
        return found

    def account(self) -> sqlite3.Row:
        """Return the account row."""
        return self.rows("select * from account")[0]

    def order(self, order_id: str) -> sqlite3.Row | None:
        """Return one order by the broker's id."""
        return self.row("select * from orders where id = ?", order_id)

    def order_by_client_id(self, client_order_id: str) -> sqlite3.Row | None:
        """Return one order by the client's id."""
        return self.row("select * from orders where client_order_id = ?", client_order_id)

    def note_duplicate(self, client_order_id: str) -> bool:
        """Count a refused resubmission; True when the id is taken."""
        cursor = self._db.execute(
            "update orders set refused_duplicates = refused_duplicates + 1 where client_order_id = ?",
            (client_order_id,),
        )
        return cursor.rowcount > 0

    def add_order(self, fields: dict[str, Any]) -> sqlite3.Row:
        """Store a new order durably. Raises DuplicateClientOrderId."""
        at = self.now_text()
        values = {"id": str(uuid.uuid4()), "status": "new", "created_at": at, "updated_at": at, **fields}
        columns = ", ".join(values)
        marks = ", ".join("?" for _ in values)
        try:
            self._db.execute(f"insert into orders ({columns}) values ({marks})", tuple(values.values()))
        except sqlite3.IntegrityError as error:
            if "client_order_id" in str(error):
                raise DuplicateClientOrderId(fields["client_order_id"]) from error
            raise
        stored = self.order(values["id"])
        assert stored is not None
        return stored

    def open_orders(self, symbol: str | None = None) -> list[sqlite3.Row]:
        """Return working orders, oldest first."""
        marks = ", ".join(f"'{status}'" for status in OPEN)
        if symbol is None:
            return self.rows(f"select * from orders where status in ({marks}) order by seq")
        return self.rows(f"select * from orders where symbol = ? and status in ({marks}) order by seq", symbol)

    def expiring(self, at: str) -> list[sqlite3.Row]:
        """Return working orders whose time is over."""
        marks = ", ".join(f"'{status}'" for status in OPEN)
        return self.rows(f"select * from orders where expires_at <= ? and status in ({marks}) order by seq", at)

    def mark_order(self, order_id: str, status: str) -> None:
        """Put a working order into another working state."""
        self._db.execute("update orders set status = ?, updated_at = ? where id = ?",
                         (status, self.now_text(), order_id))  # fmt: skip

    def end_order(self, order_id: str, status: str, reason: str | None = None) -> None:
        """Put an order into ``canceled``, ``expired``, ``replaced`` or ``rejected``."""
        at = self.now_text()
        column = ENDED_AT[status]
        self._db.execute(
            f"update orders set status = ?, {column} = ?, updated_at = ?, reject_reason = ? where id = ?",
            (status, at, at, reason, order_id),
        )

    def position(self, symbol: str) -> Decimal:
        """Return the signed quantity held."""
        row = self.row("select qty from positions where symbol = ?", symbol)
        return ZERO if row is None else Decimal(row["qty"])

    def book_fill(self, fill: Fill) -> sqlite3.Row:
        """Book one execution on its order, position and cash; call inside ``transaction``. Returns the execution."""
        order = self.order(fill.order_id)
        assert order is not None
        filled = Decimal(order["filled_qty"]) + fill.qty
        leaves = Decimal(order["qty"]) - filled
        done = leaves <= 0
        # What executes after the end of an order, or while its cancel is on its way, leaves it what it is.
        stays = order["status"] not in ("new", "accepted", "partially_filled")
        status = "filled" if done else order["status"] if stays else "partially_filled"
        execution = self._add_execution(order, fill, filled, leaves, status, "fill" if done else "partial_fill")
        self._db.execute(
            "update orders set filled_qty = ?, filled_value = ?, status = ?, filled_at = ?, updated_at = ?"
            " where id = ?",
            (text(filled), text(Decimal(order["filled_value"]) + fill.qty * fill.price), status, execution["at"],
             execution["at"], fill.order_id),
        )  # fmt: skip
        self.move(order["symbol"], fill.qty if fill.side == "buy" else -fill.qty, fill.price)
        return execution

    def _add_execution(
        self, order: sqlite3.Row, fill: Fill, cum: Decimal, leaves: Decimal, status: str, kind: str,
        previous: str | None = None,
    ) -> sqlite3.Row:  # fmt: skip
        latest = self.row("select at from executions order by seq desc limit 1")
        # Pages walk forward in time, so a clock stepping back must not make a later fill look older.
        at = max(self.now_text(), latest["at"]) if latest else self.now_text()
        execution_id = str(uuid.uuid4())
        stamp = "".join(c for c in at if c.isdigit())[:17]
        self._db.execute(
            "insert into executions (id, activity_id, order_id, symbol, side, qty, price, cum_qty, leaves_qty,"
            " order_status, type, previous_execution_id, at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (execution_id, f"{stamp}::{execution_id}", order["id"], order["symbol"], fill.side, text(fill.qty),
             text(fill.price), text(cum), text(leaves), status, kind, previous, at),
        )  # fmt: skip
        return self.rows("select * from executions where id = ?", execution_id)[0]

    def move(self, symbol: str, signed_qty: Decimal, price: Decimal) -> None:
        """Change position (average cost) and cash by one trade of ``signed_qty`` shares or contracts."""
        row = self.row("select qty, cost from positions where symbol = ?", symbol)
        held, cost = (Decimal(row["qty"]), Decimal(row["cost"])) if row else (ZERO, ZERO)
        total, value = held + signed_qty, price * multiplier(symbol)
        if held * signed_qty >= 0:
            cost += signed_qty * value
        elif held * total > 0:
            cost = cost * total / held
        else:
            cost = total * value
        self._db.execute(
            "insert into positions values (?, ?, ?) on conflict (symbol) do update set qty = excluded.qty,"
            " cost = excluded.cost",
            (symbol, text(total), text(cost)),
        )
        cash = Decimal(self.account()["cash"]) - signed_qty * value
        self._db.execute("update account set cash = ?", (text(cash),))

    def bust(self, execution_id: str, price: Decimal | None, qty: Decimal | None) -> list[sqlite3.Row]:
        """Take an execution back and, with a price or quantity, book it anew. Returns the new rows; [] when unknown."""
        old = self.row("select * from executions where id = ? and type in ('fill', 'partial_fill', 'trade_correct')",
                       execution_id)  # fmt: skip
        if old is None or self.row("select 1 from executions where previous_execution_id = ?", execution_id):
            return []
        correcting = price is not None or qty is not None
        new_qty = (qty or Decimal(old["qty"])) if correcting else ZERO
        new_price = price or Decimal(old["price"])
        order = self.order(old["order_id"])
        assert order is not None
        filled = Decimal(order["filled_qty"]) - Decimal(old["qty"]) + new_qty
        value = Decimal(order["filled_value"]) - Decimal(old["qty"]) * Decimal(old["price"]) + new_qty * new_price
        fill = Fill(order["id"], old["side"], new_qty or Decimal(old["qty"]), new_price)
        with self.transaction():
            sign = 1 if old["side"] == "buy" else -1
            self.move(old["symbol"], -sign * Decimal(old["qty"]), Decimal(old["price"]))
            if correcting:
                self.move(old["symbol"], sign * new_qty, new_price)
            self._db.execute("update orders set filled_qty = ?, filled_value = ?, updated_at = ? where id = ?",
                             (text(filled), text(value), self.now_text(), order["id"]))  # fmt: skip
            kind = "trade_correct" if correcting else "trade_bust"
            return [self._add_execution(order, fill, filled, Decimal(order["qty"]) - filled, order["status"], kind,
                                        execution_id)]  # fmt: skip

    def quote(self, symbol: str) -> Quote | None:
        """Return the last quote of a symbol with the sizes still available."""
        row = self.row("select * from quotes where symbol = ?", symbol)
        if row is None:
            return None
        return Quote(symbol, *(decimal(row[name]) for name in ("bid", "ask", "bid_size", "ask_size", "last")))

    def store_quote(self, quote: Quote) -> None:
        """Replace the last quote of a symbol."""
        self._db.execute(
            "insert or replace into quotes values (?, ?, ?, ?, ?, ?, ?)",
            (quote.symbol, text(quote.bid), text(quote.ask), text(quote.bid_size), text(quote.ask_size),
             text(quote.last), self.now_text()),
        )  # fmt: skip

    def use_size(self, symbol: str, column: str, left: Decimal) -> None:
        """Set what is left of ``bid_size`` or ``ask_size`` of the last quote."""
        self._db.execute(f"update quotes set {column} = ? where symbol = ?", (text(left), symbol))
