"""Statements in: what a broker says of one account and day, from JSON, XML or CSV, complete or refused.

Completeness comes before any comparison: the account, the day, row counts, control totals, and the hash of the bytes as
they came. Invariants: a statement is read whole or not at all; what it does not tell is None, never empty; a fault that
a person must see but that leaves the file readable is in ``problems``, and then the day is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

from backend.tradingbot.core.values import plain
from backend.tradingbot.ops.recon_frames import PLACES, Books, cash_effect
from backend.tradingbot.ops.statement_files import MAX_BYTES, Received, StatementError, decode, receive
from backend.tradingbot.ops.statement_mappings import CsvMapping

__all__ = [
    "MAX_BYTES", "Control", "Expected", "Received", "Statement", "StatementError", "check_controls", "decode", "merged",
    "receive", "read_statement",
]  # fmt: skip

SOURCES = ("alpaca_json", "flex_xml", "csv")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
LARGEST = Decimal("1e12")
SECTIONS = ("executions", "orders", "positions", "activities", "cash")


@dataclass(frozen=True)
class Control:
    """What the sender says the statement holds: rows of a section, and the sum that they should come to (executions
    and activities: their effect on cash; positions: their signed quantities)."""

    section: str
    rows: int | None = None
    total: Decimal | None = None


@dataclass(frozen=True)
class Expected:
    """Whose statement, of which session, this has to be.

    ``trade_date_of`` tells the session that an instant belongs to; ``time_zone`` is that of times without an offset;
    ``as_of`` is the instant that positions and cash stand for when the file does not say; ``controls`` came beside it.
    ``any_date`` is for what was asked of the broker between two instants, and is cut to the session afterwards.
    """

    account: str
    session: date
    as_of: datetime
    trade_date_of: Callable[[datetime], date]
    time_zone: str = "America/New_York"
    controls: tuple[Control, ...] = ()
    any_date: bool = False


@dataclass(frozen=True)
class Statement:
    """One statement as read. ``counts`` and ``totals`` are what is in it, by section."""

    source: str
    account: str
    session: date
    as_of: datetime
    books: Books
    problems: tuple[tuple[str, str], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    totals: Mapping[str, str] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()


def read_statement(received: Received, expected: Expected, source: str, mapping: Any = None) -> Statement:
    """Parse ``received`` as ``source`` (alpaca_json, flex_xml, csv with its mapping) and check that it is whole.

    Raises StatementError when it cannot be read or is of another account or day.
    """
    from backend.tradingbot.ops import statements_alpaca, statements_csv, statements_flex  # they use this module

    if source == "alpaca_json":
        found = statements_alpaca.parse(received.content, expected)
    elif source == "flex_xml":
        found = statements_flex.parse(received.content, expected)
    elif source == "csv":
        if not isinstance(mapping, CsvMapping):
            raise StatementError(
                "statement_mapping", "a CSV needs a saved mapping", "name the mapping", where="mapping"
            )
        found = statements_csv.parse(received.content, expected, mapping)
    else:
        raise StatementError("statement_source", f"{source} is not known", "use " + ", ".join(SOURCES), where="source")
    return check_controls(found, (*found.controls, *expected.controls))


def check_controls(found: Statement, controls: tuple[Control, ...]) -> Statement:
    """``found`` with its counts and totals, and a problem for each control that it does not meet."""
    counts, totals = _measures(found.books)
    problems = [*found.problems]
    for control in controls:
        if control.rows is not None and counts.get(control.section, 0) != control.rows:
            told = f"should have {control.rows} rows and has {counts.get(control.section, 0)}"
            problems.append((control.section, told))
        measured = totals.get(control.section, Decimal(0))
        if control.total is not None and measured != control.total:
            told = f"should come to {plain(control.total)} and comes to {plain(measured)}"
            problems.append((control.section, told))
    if not counts and found.books.cash is None:
        problems.append(("file", "tells nothing at all"))
    return Statement(
        found.source, found.account, found.session, found.as_of, found.books, tuple(problems), counts,
        {name: str(plain(total)) for name, total in totals.items()}, controls,
    )  # fmt: skip


def _measures(books: Books) -> tuple[dict[str, int], dict[str, Decimal]]:
    counts: dict[str, int] = {}
    totals: dict[str, Decimal] = {}
    for name in ("executions", "orders", "positions", "activities"):
        section: pl.DataFrame | None = getattr(books, name)
        if section is not None:
            counts[name] = section.height
    sums = (
        ("executions", cash_effect().sum()),
        ("positions", pl.col("qty").sum()),
        ("activities", pl.col("amount").sum()),
    )
    for name, total in sums:
        section = getattr(books, name)
        if section is not None:
            totals[name] = section.select(total).item() or Decimal(0)
    if books.cash is not None:
        totals["cash"] = books.cash
    return counts, totals


def merged(statements: list[Statement]) -> Statement:
    """Several statements of one account and session as one; of two that tell a section the later in the list does."""
    last = statements[-1]
    told: dict[str, Any] = {}
    counts: dict[str, int] = {}
    totals: dict[str, str] = {}
    for statement in statements:
        for name in (*SECTIONS, "equity"):
            if getattr(statement.books, name) is not None:
                told[name] = getattr(statement.books, name)
                counts |= {name: statement.counts[name]} if name in statement.counts else {}
                totals |= {name: statement.totals[name]} if name in statement.totals else {}
    problems = tuple(dict.fromkeys(problem for statement in statements for problem in statement.problems))
    return Statement(last.source, last.account, last.session, last.as_of, Books(**told), problems, counts, totals)


def check_trade_dates(dates: list[date], expected: Expected, where: str) -> None:
    """A statement of executions is of the day of its newest one; older ones are late reports. Raises StatementError."""
    latest = max(dates, default=expected.session)
    if latest != expected.session and not expected.any_date:
        told = f"its newest execution is of {latest}, not of {expected.session}"
        raise StatementError("statement_other_date", told, "upload it to its own day", where=where)


def exact(raw: Any, where: str, *, places: int | None = PLACES) -> Decimal:
    """A finite number from text, an integer or a Decimal. With ``places`` None it is rounded to nine, which is for
    averages and marks alone; else more digits are refused. Raises StatementError."""
    text = str(raw) if isinstance(raw, str | int | Decimal) and not isinstance(raw, bool) else "?"
    try:
        value = Decimal(text if text.isascii() and "_" not in text and text == text.strip() else "?")
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or abs(value) >= LARGEST:
        raise StatementError(
            "statement_number", f"{str(raw)[:40]!r} is not a usable number", "mend the cell", where=where
        )
    rounded = value.quantize(Decimal(1).scaleb(-PLACES))
    if places is not None and rounded != value:
        told = f"{str(raw)[:40]!r} has more than {PLACES} decimals"
        raise StatementError("statement_number", told, "ask for exact figures", where=where)
    return rounded


def refuse_formula(text: str, where: str) -> str:
    """``text`` unless a spreadsheet would run it; the broker has no reason to send such a cell."""
    if text.startswith(FORMULA_STARTS):
        told = f"starts with {text[0]!r}, which a spreadsheet runs as a formula"
        raise StatementError("statement_formula", told, "ask for a clean file; nothing was imported", where=where)
    return text
