"""Alpaca's JSON as a statement: a list of activities, or one object with account, positions, orders and activities.

The object is what the broker's API says at one moment: ``{"account": {...}, "positions": [...], "orders": [...],
"activities": [...], "as_of": "...", "complete": true}``. Invariants: a number is a decimal string or an integer, never
a float; an activity of a type that is not known is kept as ``other``, never dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.occ import SHARES_A_CONTRACT, multiplier_of
from backend.tradingbot.ops.recon_frames import Books, frame
from backend.tradingbot.ops.recon_kinds import ActivityKind
from backend.tradingbot.ops.statements import (
    Expected,
    Statement,
    StatementError,
    check_trade_dates,
    decode,
    exact,
    refuse_formula,
)

_KINDS = {
    ActivityKind.FEE: ("FEE", "CFEE", "PTC", "PTR", "DIVFEE"),
    ActivityKind.DIVIDEND: ("DIV", "DIVCGL", "DIVCGS", "DIVFT", "DIVNRA", "DIVROC", "DIVTW", "DIVTXEX", "DIVWH", "CGD"),
    ActivityKind.INTEREST: ("INT", "INTNRA", "INTTW", "SWP"),
    ActivityKind.FLOW: ("CSD", "CSW", "JNL", "JNLC", "JNLS", "ACATC", "ACATS", "TRANS", "WIRE"),
    ActivityKind.CORPORATE_ACTION: ("SPLIT", "SSP", "SSO", "MA", "NC", "REORG", "SC", "SPIN", "OTC", "VOF", "CIL"),
    ActivityKind.OPTION_EVENT: ("OPASN", "OPEXP", "OPXRC", "OPEXC", "OPCA", "OPCSH", "OPTRD"),
}  # fmt: skip
KIND_OF = {code: kind for kind, codes in _KINDS.items() for code in codes}
EXECUTION_KINDS = {"fill": "fill", "partial_fill": "fill", "trade_bust": "bust", "trade_correct": "correction"}
_CHARGED_ON = re.compile(r"\bon (\d{4}-\d{2}-\d{2})\b")


def parse(content: bytes, expected: Expected) -> Statement:
    """Read the JSON; raises StatementError naming the row and the field."""
    body = _json(content)
    if isinstance(body, list):
        body = {"activities": body}
    if not isinstance(body, dict):
        raise StatementError("statement_unreadable", "is neither an object nor a list", "send Alpaca's own JSON")
    unknown = set(body) - {"account", "positions", "orders", "activities", "as_of", "complete"}
    if unknown:
        told = f"has an unknown section {sorted(unknown)[0]!r}"
        raise StatementError(
            "statement_unreadable", told, "use account, positions, orders, activities, as_of, complete"
        )
    as_of = expected.as_of if body.get("as_of") is None else _time(body["as_of"], "as_of")
    account = body.get("account")
    _same_account(account, expected)
    fills, others = _activities(body.get("activities"), expected)
    books = Books(
        executions=None if fills is None else frame("executions", fills),
        orders=_section(body.get("orders"), "orders", _order),
        positions=_section(body.get("positions"), "positions", _position),
        activities=None if others is None else frame("activities", others),
        cash=None if account is None else _number(account, "cash", "account"),
        equity=None if account is None or account.get("equity") is None else _number(account, "equity", "account"),
    )
    problems = () if body.get("complete", True) is True else (("file", "the broker's answers did not fit together"),)
    return Statement("alpaca_json", expected.account, expected.session, as_of, books, problems)


def _json(content: bytes) -> Any:
    def constant(name: str) -> Any:
        raise StatementError("statement_unreadable", f"contains {name}", "numbers must be finite")

    try:
        return json.loads(decode(content, "utf-8"), parse_float=Decimal, parse_constant=constant)
    except StatementError:
        raise
    except (ValueError, RecursionError):
        problem = "is not whole JSON: it was cut off, or is something else"
        raise StatementError("statement_truncated", problem, "get it from the broker again") from None


def _same_account(account: Any, expected: Expected) -> None:
    if account is None:
        return
    number = account.get("account_number") if isinstance(account, dict) else None
    if number != expected.account:
        told = f"is of account {str(number)[:40]!r}, not of {expected.account!r}"
        raise StatementError("statement_other_account", told, "upload it to its own account", where="account")


def _activities(rows: Any, expected: Expected) -> tuple[list[dict[str, Any]] | None, list[dict[str, Any]] | None]:
    if rows is None:
        return None, None
    if not isinstance(rows, list):
        raise StatementError("statement_unreadable", "is not a list", "send Alpaca's own JSON", where="activities")
    fills: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        where = f"activities[{number}]"
        if not isinstance(row, dict):
            raise StatementError("statement_unreadable", "is not an object", "send Alpaca's own JSON", where=where)
        if row.get("status") in ("canceled", "rejected"):
            continue  # it moved nothing
        if row.get("activity_type") == "FILL":
            fills.append(_fill(row, where, expected))
        else:
            others.append(_other(row, where))
    check_trade_dates([row["trade_date"] for row in fills], expected, "activities")
    return fills, others


def _section(rows: Any, name: str, parse_row: Callable[[Mapping[str, Any], str], dict[str, Any]]) -> Any:
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise StatementError("statement_unreadable", "is not a list of objects", "send Alpaca's own JSON", where=name)
    return frame(name, [parse_row(row, f"{name}[{number}]") for number, row in enumerate(rows)])


def _fill(row: Mapping[str, Any], where: str, expected: Expected) -> dict[str, Any]:
    activity_id, kind = _text(row, "id", where), EXECUTION_KINDS.get(str(row.get("type", "fill")))
    if kind is None:
        raise StatementError(
            "statement_unreadable", f"type {row.get('type')!r} is not known", "see Alpaca's API", where=where
        )
    side = _text(row, "side", where)
    side = "sell" if side == "sell_short" else side
    if side not in ("buy", "sell"):
        raise StatementError("statement_unreadable", f"side {side!r} is not known", "buy or sell", where=where)
    occurred_at, symbol = _time(row.get("transaction_time"), f"{where}.transaction_time"), _text(row, "symbol", where)
    return {
        "execution_id": activity_id.rpartition("::")[2], "order_id": _text(row, "order_id", where),
        "client_order_id": row.get("client_order_id") or None, "symbol": symbol, "side": side,
        "qty": _number(row, "qty", where), "price": _number(row, "price", where), "occurred_at": occurred_at,
        "trade_date": expected.trade_date_of(occurred_at), "kind": kind,
        "refers_to": _text(row, "previous_execution_id", where) if kind != "fill" else None,
        "multiplier": multiplier_of(symbol) or SHARES_A_CONTRACT,
    }  # fmt: skip


def _other(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    code = _text(row, "activity_type", where)
    amount = row.get("net_amount")
    description = refuse_formula(str(row.get("description") or ""), f"{where}.description")
    day = _day(row, where)
    charged = _CHARGED_ON.search(description)
    return {
        "activity_id": _text(row, "id", where), "kind": KIND_OF.get(code, ActivityKind.OTHER),
        "symbol": _text(row, "symbol", where) if row.get("symbol") else None,
        "amount": Decimal(0) if amount in (None, "") else exact(amount, f"{where}.net_amount"),
        "qty": exact(row["qty"], f"{where}.qty") if row.get("qty") not in (None, "") else None,
        "date": day, "covers": date.fromisoformat(charged[1]) if charged else None,
        "description": f"{code} {description}".strip()[:400],
    }  # fmt: skip


def _order(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {
        "order_id": _text(row, "id", where), "client_order_id": _text(row, "client_order_id", where),
        "symbol": _text(row, "symbol", where), "side": _text(row, "side", where),
        "qty": None if row.get("qty") is None else _number(row, "qty", where),
        "filled_qty": exact(row.get("filled_qty") or 0, f"{where}.filled_qty"), "status": _text(row, "status", where),
    }  # fmt: skip


def _position(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    symbol, qty = _text(row, "symbol", where), _number(row, "qty", where)
    mark = row.get("current_price")
    return {
        "symbol": symbol, "qty": -abs(qty) if row.get("side") == "short" else qty,
        "avg_price": exact(row.get("avg_entry_price"), f"{where}.avg_entry_price", places=None),
        "mark": None if mark is None else exact(mark, f"{where}.current_price", places=None),
        "multiplier": multiplier_of(symbol) or SHARES_A_CONTRACT,
    }  # fmt: skip


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value or len(value) > 120 or not value.isprintable():
        raise StatementError(
            "statement_unreadable", "is missing or not text", "send Alpaca's own JSON", where=f"{where}.{name}"
        )
    return refuse_formula(value, f"{where}.{name}")


def _number(row: Mapping[str, Any], name: str, where: str) -> Decimal:
    return exact(row.get(name), f"{where}.{name}")


def _time(raw: Any, where: str) -> datetime:
    try:
        moment = datetime.fromisoformat(raw)
    except (TypeError, ValueError):
        raise StatementError(
            "statement_time", f"{str(raw)[:40]!r} is no time", "RFC 3339, with its zone", where=where
        ) from None
    if moment.tzinfo is None:
        raise StatementError("statement_time", f"{str(raw)[:40]!r} has no zone", "RFC 3339, with its zone", where=where)
    return moment.astimezone(UTC)


def _day(row: Mapping[str, Any], where: str) -> date:
    raw = row.get("date") or row.get("transaction_time") or row.get("created_at")
    try:
        return date.fromisoformat(str(raw)[:10])
    except ValueError:
        raise StatementError(
            "statement_time", f"{str(raw)[:40]!r} is no date", "year-month-day", where=f"{where}.date"
        ) from None
