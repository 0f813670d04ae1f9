"""Interactive Brokers' Flex XML as a statement, by ibflex; ``orderReference`` is our client order id.

Invariants: a document type, an entity or a reference outside refuses the file before anything is expanded; executions
are the rows whose levelOfDetail is EXECUTION, and no other row is counted; an element or attribute of a section we use
that ibflex does not know refuses the file, because what is skipped cannot be compared. Times without an offset are in
the expected time zone. A cancelled execution ("Ca.") is a bust.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from zoneinfo import ZoneInfo

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from ibflex import Types
from ibflex.parser import FlexParserError, parse_element

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

_SECTIONS = (
    "Trades", "OpenPositions", "CashReport", "CashTransactions", "CorporateActions", "OptionEAE", "Transfers",
    "EquitySummaryInBase",
)  # fmt: skip
_CASH_KINDS = {
    "Dividends": ActivityKind.DIVIDEND, "Payment In Lieu Of Dividends": ActivityKind.DIVIDEND,
    "Withholding Tax": ActivityKind.DIVIDEND, "Broker Interest Paid": ActivityKind.INTEREST,
    "Broker Interest Received": ActivityKind.INTEREST, "Bond Interest Paid": ActivityKind.INTEREST,
    "Bond Interest Received": ActivityKind.INTEREST, "Other Fees": ActivityKind.FEE, "Advisor Fees": ActivityKind.FEE,
    "Commission Adjustments": ActivityKind.FEE, "Deposits & Withdrawals": ActivityKind.FLOW,
}  # fmt: skip
BASE = "BASE_SUMMARY"
ZERO = Decimal(0)


def parse(content: bytes, expected: Expected) -> Statement:
    """Read the XML; raises StatementError."""
    root = _root(content)
    statement = _statement(root, expected)
    present = _sections_of(root, expected)
    told = {name: getattr(statement, name) if name in present else None for name in _SECTIONS}
    trades = [row for row in told["Trades"] or () if isinstance(row, Types.Trade) and row.levelOfDetail == "EXECUTION"]
    if told["Trades"] and not trades:
        problem = "has trades and none with levelOfDetail EXECUTION"
        raise StatementError("statement_unreadable", problem, "tick Executions in the query", where="Trades")
    by_trade_id = {row.tradeID: row.ibExecID for row in trades if row.tradeID and row.ibExecID}
    executions = [_execution(row, number, expected, by_trade_id) for number, row in enumerate(trades)]
    check_trade_dates([row["trade_date"] for row in executions], expected, "Trades")
    positions = [_position(row) for row in told["OpenPositions"] or () if row.levelOfDetail in (None, "SUMMARY")]
    books = Books(
        executions=frame("executions", executions) if "Trades" in present else None,
        positions=frame("positions", positions) if "OpenPositions" in present else None,
        activities=frame("activities", _activities(told, expected)) if "CashTransactions" in present else None,
        cash=_cash(told["CashReport"]),
        equity=_equity(told["EquitySummaryInBase"], expected),
    )
    return Statement("flex_xml", expected.account, expected.session, expected.as_of, books)


def _root(content: bytes) -> Element:
    text = decode(content, "utf-8")
    try:
        root: Element = fromstring(text, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        told = f"declares a document type or entities ({type(error).__name__})"
        raise StatementError("statement_bomb", told, "a Flex statement has none; do not open this file") from None
    except (ParseError, ValueError) as error:
        told = f"is not whole XML: {error}"[:200]
        raise StatementError("statement_truncated", told, "run the Flex query again") from None
    if root.tag != "FlexQueryResponse":
        told = f"is a {root.tag[:40]}, not a FlexQueryResponse"
        raise StatementError("statement_unreadable", told, "download the Flex query as XML")
    return root


def _sections_of(root: Element, expected: Expected) -> set[str]:
    """The sections that the XML has: ibflex gives an empty one for one that is not there."""
    own = [each for each in root.iter("FlexStatement") if each.get("accountId") == expected.account]
    return {child.tag for each in own for child in each} & set(_SECTIONS)


def _statement(root: Element, expected: Expected) -> Any:
    try:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            response = parse_element(root)
    except (FlexParserError, AssertionError, KeyError, ValueError, TypeError, RecursionError) as error:
        told = f"ibflex cannot read it: {error}"[:300]
        raise StatementError("statement_unreadable", told, "set dates to yyyy-MM-dd in the query") from None
    for each in noted:
        name = str(each.message)
        if any(name.startswith(f"{kind} ") for kind in _USED) or "Unknown element" in name:
            raise StatementError("statement_unreadable", name[:200], "update ibflex; nothing was imported")
    statements = [] if response is None else list(getattr(response, "FlexStatements", ()))
    own = [each for each in statements if each.accountId == expected.account]
    if not own:
        whose = ", ".join(str(each.accountId) for each in statements)[:100] or "no account"
        told = f"is of {whose}, not of {expected.account!r}"
        raise StatementError("statement_other_account", told, "upload it to its own account", where="accountId")
    days = {(each.fromDate, each.toDate) for each in own}
    if len(own) > 1 or days != {(expected.session, expected.session)}:
        shown = "; ".join(f"{first} to {last}" for first, last in sorted(days))
        told = f"covers {shown}, not {expected.session} alone"
        raise StatementError("statement_other_date", told, "run the query for that one day", where="fromDate")
    return own[0]


_USED = ("Trade", "OpenPosition", "CashReportCurrency", "CashTransaction", "CorporateAction", "_OptionEAE", "Transfer")


def _execution(row: Types.Trade, number: int, expected: Expected, by_trade_id: dict[str, str]) -> dict[str, Any]:
    where = f"Trades[{number}]"
    side = None if row.buySell is None else row.buySell.value
    if side is None or row.quantity is None or row.tradePrice is None or row.dateTime is None or row.tradeDate is None:
        raise StatementError(
            "statement_unreadable", "lacks buySell, quantity, tradePrice, dateTime or tradeDate",
            "add these fields to the Flex query", where=where,
        )  # fmt: skip
    cancelled, fee = side.endswith("(Ca.)"), -(row.ibCommission or ZERO) - (row.taxes or ZERO)
    execution_id = _text(row.ibExecID, where) or _text(row.tradeID, where)
    original = _text(row.origTradeID, where)
    if cancelled and not original:
        raise StatementError("statement_unreadable", "cancels without origTradeID", "add it to the query", where=where)
    return {
        "execution_id": execution_id, "order_id": _text(row.ibOrderID, where),
        "client_order_id": _text(row.orderReference, where), "symbol": _symbol(row.symbol, where),
        "side": "buy" if side.startswith("BUY") else "sell", "qty": exact(abs(row.quantity), f"{where}.quantity"),
        "price": exact(row.tradePrice, f"{where}.tradePrice"), "occurred_at": _utc(row.dateTime, expected),
        "trade_date": row.tradeDate, "fee": exact(fee, f"{where}.ibCommission"),
        "kind": "bust" if cancelled else "fill",
        "refers_to": by_trade_id.get(original or "", original) if cancelled else None,
        "multiplier": exact(row.multiplier or Decimal(1), f"{where}.multiplier"),
    }  # fmt: skip


def _position(row: Types.OpenPosition) -> dict[str, Any]:
    where = f"OpenPositions {row.symbol}"
    cost, mark = row.costBasisPrice, row.markPrice
    return {
        "symbol": _symbol(row.symbol, where), "qty": exact(row.position, where),
        "avg_price": None if cost is None else exact(cost, where, places=None),
        "mark": None if mark is None else exact(mark, where, places=None),
        "multiplier": exact(row.multiplier or Decimal(1), where),
    }  # fmt: skip


def _activities(told: dict[str, Any], expected: Expected) -> list[dict[str, Any]]:
    rows = []
    for row in told["CashTransactions"] or ():
        if row.levelOfDetail not in (None, "DETAIL"):
            continue
        kind = _CASH_KINDS.get(row.type.value if row.type else "", ActivityKind.OTHER)
        rows.append(_activity(row.transactionID, kind, row.symbol, row.amount, None, row.description, expected))
    for row in told["CorporateActions"] or ():
        cash = row.proceeds or row.amount
        kind = ActivityKind.CORPORATE_ACTION
        rows.append(_activity(row.transactionID, kind, row.symbol, cash, row.quantity, row.description, expected))
    for row in told["OptionEAE"] or ():
        kind = ActivityKind.OPTION_EVENT
        rows.append(_activity(row.tradeID, kind, row.symbol, row.proceeds, row.quantity, row.description, expected))
    for row in told["Transfers"] or ():
        name = row.transactionID or f"transfer {row.symbol} {row.date} {row.quantity} {row.cashTransfer}"
        rows.append(
            _activity(name, ActivityKind.FLOW, row.symbol, row.cashTransfer, row.quantity, row.description, expected)
        )
    return rows


def _activity(
    name: Any, kind: ActivityKind, symbol: Any, amount: Any, qty: Any, description: Any, expected: Expected
) -> dict[str, Any]:  # fmt: skip
    where = f"activity {str(name)[:40]}"
    if not name:
        raise StatementError("statement_unreadable", "has no transactionID", "add it to the Flex query", where=where)
    return {
        "activity_id": _text(str(name), where), "kind": kind, "symbol": _symbol(symbol, where) if symbol else None,
        "amount": exact(amount or ZERO, where), "qty": exact(qty, where) if qty else None, "date": expected.session,
        "covers": None, "description": refuse_formula(str(description or "")[:400], where),
    }  # fmt: skip


def _cash(report: Iterable[Types.CashReportCurrency] | None) -> Decimal | None:
    """The ending cash in the base currency; None when the report does not tell it."""
    if report is None:
        return None
    base = [row for row in report if row.currency == BASE]
    rows = base or list(report)
    if len(rows) != 1 or rows[0].endingCash is None:
        return None
    return exact(rows[0].endingCash, "CashReport.endingCash")


def _equity(rows: Iterable[Any] | None, expected: Expected) -> Decimal | None:
    told = [row.total for row in rows or () if row.reportDate == expected.session and row.total is not None]
    return exact(told[0], "EquitySummaryInBase.total") if len(told) == 1 else None


def _utc(moment: datetime, expected: Expected) -> datetime:
    return moment.replace(tzinfo=ZoneInfo(expected.time_zone)).astimezone(UTC)


def _symbol(raw: Any, where: str) -> str:
    """IB pads OCC symbols with blanks; ours are compact."""
    found = _text(raw, where)
    if not found:
        raise StatementError("statement_unreadable", "has no symbol", "add it to the Flex query", where=where)
    return found.replace(" ", "")


def _text(raw: Any, where: str) -> str | None:
    if raw is None or raw == "":
        return None
    if not isinstance(raw, str) or len(raw) > 120 or not raw.isprintable():
        raise StatementError("statement_unreadable", "has text that cannot be stored", "mend the cell", where=where)
    return refuse_formula(raw, where)
