"""CSV statements by a saved, versioned mapping: which column is what, how a sale is told, zone and decimal mark.

Invariants: every cell is read as text and parsed by columns, all or nothing, and the first bad cell is named with its
line; a column that the mapping names and the file lacks refuses it; a trailer line, where the mapping knows one, is a
control that the rows must meet.
"""

from __future__ import annotations

import csv
import io
from array import array
from datetime import date, datetime
from zoneinfo import ZoneInfo

import polars as pl

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.core.occ import SHARES_A_CONTRACT, multiplier_of
from backend.tradingbot.ops.recon_frames import NUMBER, SCHEMAS, TIME, Books, checked
from backend.tradingbot.ops.recon_kinds import ActivityKind
from backend.tradingbot.ops.statement_mappings import CsvMapping
from backend.tradingbot.ops.statements import (
    FORMULA_STARTS,
    Control,
    Expected,
    Statement,
    StatementError,
    check_trade_dates,
    decode,
    exact,
)

LINE = "line of the file"
MAX_COLUMNS = 200


def parse(content: bytes, expected: Expected, mapping: CsvMapping) -> Statement:
    """Read the CSV; raises StatementError naming line and column."""
    rows, controls = _rows(decode(content, mapping.encoding), mapping)
    _same_account(rows, expected, mapping)
    if mapping.table == "cash":
        if rows.height != 1:
            raise StatementError("statement_unreadable", f"has {rows.height} rows", "a cash statement has one balance")
        cash = _numbers(rows, mapping, "amount")[0]
        return Statement(
            "csv", expected.account, expected.session, expected.as_of, Books(cash=cash), (), {}, {}, controls
        )
    _refuse_twice(rows, mapping)
    built = {"executions": _executions, "positions": _positions, "activities": _activities}[mapping.table]
    try:
        data = checked(mapping.table, built(rows, mapping, expected))
    except StatementError:
        raise
    except InvalidInputError as error:
        raise StatementError("statement_unreadable", error.message, error.remedy) from None
    if mapping.table == "executions":
        check_trade_dates(data["trade_date"].to_list(), expected, "trade_date")
    books = {"executions": Books(data), "positions": Books(positions=data)}.get(mapping.table, Books(activities=data))
    return Statement("csv", expected.account, expected.session, expected.as_of, books, (), {}, {}, controls)


def _refuse_twice(rows: pl.DataFrame, mapping: CsvMapping) -> None:
    """Refuse a row that stands twice and that no id tells apart; an empty id is none."""
    named = next((mapping.columns[name] for name in ("execution_id", "activity_id") if name in mapping.columns), None)
    twice = rows.drop(LINE).is_duplicated() & (True if named is None else rows[named] == "")
    if rows.height and twice.any():
        line = rows.filter(twice)[LINE][0]
        problem = "is the same as another line, and no id says that both happened"
        raise StatementError("statement_duplicate_rows", problem, "ask which one is true", where=f"line {line}")


def _rows(text: str, mapping: CsvMapping) -> tuple[pl.DataFrame, tuple[Control, ...]]:
    """Every cell as text with its line number; ragged lines, doubled headers and formulas are refused."""
    header, lines, controls = _shape(text, mapping)
    try:
        data = pl.read_csv(
            text.encode(), separator=mapping.delimiter, infer_schema=False, truncate_ragged_lines=False,
            n_rows=len(lines),
        )  # fmt: skip
    except pl.exceptions.PolarsError as error:
        raise StatementError("statement_unreadable", f"is not CSV: {error}"[:200], "send it again") from None
    if data.height != len(lines) or data.width != len(header):
        raise StatementError(
            "statement_unreadable", "has lines that cannot be told apart", "send it without blank lines"
        )
    data.columns = header
    data = data.with_columns(pl.col(pl.String).fill_null("").str.strip_chars())
    return data.with_columns(pl.Series(LINE, lines, dtype=pl.Int64)), tuple(controls)


def _shape(text: str, mapping: CsvMapping) -> tuple[list[str], array[int], list[Control]]:
    """Header, line numbers and trailer, from one pass that keeps no cell."""
    csv.field_size_limit(10_000)
    reader = csv.reader(io.StringIO(text), delimiter=mapping.delimiter, strict=True)
    lines: array[int] = array("q")
    controls: list[Control] = []
    try:
        header = _header(next(reader, []), mapping)
        for cells in reader:
            where = f"line {reader.line_num}"
            if controls:
                raise StatementError(
                    "statement_unreadable", "goes on after its trailer", "send one statement a file", where=where
                )
            if mapping.trailer and cells and cells[0].strip() == mapping.trailer:
                controls.append(_trailer(cells, mapping, reader.line_num))
            elif len(cells) != len(header):
                problem = f"has {len(cells)} cells and the header {len(header)}"
                raise StatementError("statement_truncated", problem, "get it again", where=where)
            else:
                lines.append(reader.line_num)
    except csv.Error as error:
        where = f"line {reader.line_num}"
        raise StatementError("statement_unreadable", f"is not CSV: {error}", "send it again", where=where) from None
    if mapping.trailer and not controls:
        raise StatementError(
            "statement_truncated", f"has no trailer {mapping.trailer!r}", "it was cut off: get it again"
        )
    return header, lines, controls


def _header(cells: list[str], mapping: CsvMapping) -> list[str]:
    header = [cell.strip() for cell in cells]
    if not header or len(header) > MAX_COLUMNS or len(set(header)) != len(header) or LINE in header:
        raise StatementError("statement_unreadable", "has no header, or names a column twice", "send it with a header")
    for name in [*mapping.columns.values(), *filter(None, [mapping.account_column])]:
        if name not in header:
            problem = f"has no column {name!r}"
            raise StatementError("statement_mapping", problem, f"mapping {mapping.name} does not fit", where="header")
    return header


def _trailer(cells: list[str], mapping: CsvMapping, line: int) -> Control:
    where = f"line {line}"
    count = exact(_plain_number(cells[1] if len(cells) > 1 else "", mapping), where)
    total = cells[2].strip() if len(cells) > 2 else ""
    return Control(mapping.table, int(count), exact(_plain_number(total, mapping), where) if total else None)


def _plain_number(cell: str, mapping: CsvMapping) -> str:
    text = cell.strip().replace(mapping.thousands_mark, "") if mapping.thousands_mark else cell.strip()
    if text.startswith("(") and text.endswith(")"):
        text = "-" + text[1:-1]
    return text.replace(mapping.decimal_mark, ".") if mapping.decimal_mark != "." else text


def _same_account(rows: pl.DataFrame, expected: Expected, mapping: CsvMapping) -> None:
    if not mapping.account_column:
        return
    others = rows.filter(pl.col(mapping.account_column) != expected.account)
    if others.height:
        told = f"is of account {others[mapping.account_column][0][:40]!r}, not of {expected.account!r}"
        raise StatementError(
            "statement_other_account", told, "upload it to its own account", where=f"line {others[LINE][0]}"
        )


def _bad(rows: pl.DataFrame, wrong: pl.Series, column: str, problem: str, remedy: str) -> None:
    """Refuse the first row where ``wrong`` is true, by its line."""
    if wrong.any():
        row = rows.filter(wrong).row(0, named=True)
        told = f"{str(row[column])[:40]!r} {problem}"
        raise StatementError("statement_cell", told, remedy, where=f"line {row[LINE]}, {column}")


def _texts(rows: pl.DataFrame, mapping: CsvMapping, name: str) -> pl.Series:
    """A column of text; empty cells are null, formulas and control characters are refused."""
    column = mapping.columns.get(name)
    if column is None:
        return pl.Series(name, [None] * rows.height, dtype=pl.String)
    cells = rows[column]
    starts = pl.Series([cell.startswith(FORMULA_STARTS) for cell in cells], dtype=pl.Boolean)
    _bad(rows, starts, column, "starts like a formula", "ask for a clean file; nothing was imported")
    odd = (cells.str.len_chars() > 400) | cells.str.contains(r"[\x00-\x1f\x7f]")
    _bad(rows, odd, column, "is too long or has control characters", "ask for a clean file")
    return rows.select(pl.when(pl.col(column) == "").then(None).otherwise(pl.col(column)).alias(name))[name]


def _numbers(rows: pl.DataFrame, mapping: CsvMapping, name: str, *, rounded: bool = False) -> pl.Series:
    """A column of exact decimals: marks as mapped, brackets are negative, more than nine decimals are refused."""
    column = mapping.columns.get(name)
    if column is None:
        return pl.Series(name, [None] * rows.height, dtype=NUMBER)
    cells = pl.col(column).str.strip_chars()
    if mapping.thousands_mark:
        cells = cells.str.replace_all(mapping.thousands_mark, "", literal=True)
    cells = cells.str.replace(r"^\((.*)\)$", "-$1")
    if mapping.decimal_mark != ".":
        # A dot in a file with decimal commas is a thousands mark that nobody announced: refuse it below.
        cells = cells.str.replace_all(".", "?", literal=True).str.replace(mapping.decimal_mark, ".", literal=True)
    text = rows.select(cells.alias(name))[name]
    shape = r"^[+-]?\d{1,12}(\.\d+)?$" if rounded else r"^[+-]?\d{1,12}(\.\d{1,9}0*)?$"
    _bad(rows, ~(text.str.contains(shape) | (text == "")), column, "is not an exact number", "check the decimal mark")
    cut = text.str.replace(r"^([+-]?\d+\.\d{9})\d*$", "$1").str.strip_prefix("+")
    return cut.replace({"": None}).cast(NUMBER, strict=True).alias(name)


def _dates(rows: pl.DataFrame, mapping: CsvMapping, name: str) -> pl.Series:
    column = mapping.columns[name]
    found = rows[column].str.strptime(pl.Date, mapping.date_format or "%Y-%m-%d", strict=False, exact=True)
    _bad(rows, found.is_null(), column, "is not a date", f"the mapping reads {mapping.date_format or 'year-month-day'}")
    return found.alias(name)


def _times(rows: pl.DataFrame, mapping: CsvMapping, name: str) -> pl.Series:
    """Instants in UTC: with their own offset, else in the mapping's zone; a time that the clock skipped is refused."""
    column = mapping.columns[name]
    zone = ZoneInfo(mapping.time_zone)
    found: list[datetime | None] = []
    for cell in rows[column]:
        found.append(_moment(cell, mapping, zone))
    series = pl.Series(name, found, dtype=TIME)
    _bad(rows, series.is_null(), column, "is not a time", f"the mapping reads {mapping.time_format or 'ISO 8601'}")
    return series


def _moment(cell: str, mapping: CsvMapping, zone: ZoneInfo) -> datetime | None:
    try:
        pattern = mapping.time_format
        moment = datetime.strptime(cell, pattern) if pattern else datetime.fromisoformat(cell)  # noqa: DTZ007  its zone is the mapping's
    except ValueError:
        return None
    if moment.tzinfo is not None:
        return moment
    local = moment.replace(tzinfo=zone)
    exists = local.astimezone(ZoneInfo("UTC")).astimezone(zone).replace(tzinfo=None) == moment
    return local if exists else None


def _executions(rows: pl.DataFrame, mapping: CsvMapping, expected: Expected) -> pl.DataFrame:
    qty, side = _numbers(rows, mapping, "qty"), _sides(rows, mapping)
    occurred_at = _times(rows, mapping, "occurred_at")
    if "trade_date" in mapping.columns:
        traded = _dates(rows, mapping, "trade_date")
    else:
        days: list[date] = [expected.trade_date_of(moment) for moment in occurred_at]
        traded = pl.Series("trade_date", days, dtype=pl.Date)
    if side is not None:
        problem = "is below zero, and its side is buy"
        _bad(rows, (side == "buy") & (qty < 0).fill_null(False), mapping.columns["qty"], problem, "which one is true?")
    signs = pl.Series(["buy" if number is not None and number > 0 else "sell" for number in qty], dtype=pl.String)
    symbols = _texts(rows, mapping, "symbol")
    return pl.DataFrame(
        {
            "execution_id": _texts(rows, mapping, "execution_id"), "order_id": _texts(rows, mapping, "order_id"),
            "client_order_id": _texts(rows, mapping, "client_order_id"), "symbol": symbols,
            "side": signs if side is None else side, "qty": qty.abs(), "price": _numbers(rows, mapping, "price"),
            "occurred_at": occurred_at, "trade_date": traded, "fee": _numbers(rows, mapping, "fee").abs(),
            "kind": pl.Series(["fill"] * rows.height, dtype=pl.String),
            "refers_to": pl.Series([None] * rows.height, dtype=pl.String),
            "multiplier": _multipliers(rows, mapping, symbols),
            "strategy": pl.Series([None] * rows.height, dtype=pl.String),
        },
        schema=SCHEMAS["executions"],
    )  # fmt: skip


def _sides(rows: pl.DataFrame, mapping: CsvMapping) -> pl.Series | None:
    if "side" not in mapping.columns:
        return None
    column = mapping.columns["side"]
    words = {word.upper(): side for word, side in mapping.side_words.items()}
    found = pl.Series("side", [words.get(cell.upper()) for cell in rows[column]], dtype=pl.String)
    _bad(rows, found.is_null(), column, "is no side", "the mapping knows " + ", ".join(mapping.side_words))
    return found


def _multipliers(rows: pl.DataFrame, mapping: CsvMapping, symbols: pl.Series) -> pl.Series:
    if "multiplier" in mapping.columns:
        return _numbers(rows, mapping, "multiplier")
    units = [multiplier_of(symbol or "") or SHARES_A_CONTRACT for symbol in symbols]
    return pl.Series("multiplier", units, dtype=NUMBER)


def _positions(rows: pl.DataFrame, mapping: CsvMapping, expected: Expected) -> pl.DataFrame:
    symbols = _texts(rows, mapping, "symbol")
    return pl.DataFrame(
        {
            "symbol": symbols, "qty": _numbers(rows, mapping, "qty"),
            "avg_price": _numbers(rows, mapping, "avg_price", rounded=True),
            "mark": _numbers(rows, mapping, "mark", rounded=True), "multiplier": _multipliers(rows, mapping, symbols),
        },
        schema=SCHEMAS["positions"],
    )  # fmt: skip


def _activities(rows: pl.DataFrame, mapping: CsvMapping, expected: Expected) -> pl.DataFrame:
    column = mapping.columns["kind"]
    words = {str(kind): str(kind) for kind in ActivityKind} | {k.lower(): v for k, v in mapping.kind_words.items()}
    kinds = pl.Series(
        "kind", [words.get(cell.lower(), str(ActivityKind.OTHER)) for cell in rows[column]], dtype=pl.String
    )
    covers = _dates(rows, mapping, "covers") if "covers" in mapping.columns else None
    return pl.DataFrame(
        {
            "activity_id": _texts(rows, mapping, "activity_id"), "kind": kinds,
            "symbol": _texts(rows, mapping, "symbol"),
            "amount": _numbers(rows, mapping, "amount"), "qty": _numbers(rows, mapping, "qty"),
            "date": _dates(rows, mapping, "date"),
            "covers": pl.Series([None] * rows.height, dtype=pl.Date) if covers is None else covers,
            "description": _texts(rows, mapping, "description"),
        },
        schema=SCHEMAS["activities"],
    )  # fmt: skip
