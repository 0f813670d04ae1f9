"""What a broker said, parsed once: orders, fills, positions, and the four kinds of "no" and "unknown".

Invariants: money and quantities are finite ``Decimal``; an order's status is the broker's own word, never mapped here,
so that a word we do not know cannot turn a live order into an error. An answer that cannot be read raises
``ValueError``; the adapter decides what that means (in doubt after a send, unknown after a query).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from backend.tradingbot.brokers.reading import (
    clock_time_of,
    date_or_none,
    decimal_of,
    decimal_or_none,
    object_of,
    side_of,
    text_of,
    text_or_none,
    time_of,
    time_or_none,
)
from backend.tradingbot.core.errors import TradingbotError

NEW_YORK = ZoneInfo("America/New_York")
EXECUTION_KINDS = {"trade_bust": "bust", "trade_correct": "correction"}


class BrokerRejectedError(TradingbotError):
    """A definite no: the broker read the request and refused it; nothing of it is live."""

    code = "broker_rejected"

    def __init__(self, code: str, message: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(message, code=code, remedy="Read the evidence, mend the cause, and send a new order.")
        self.evidence = evidence or {}


class BrokerUnreachableError(TradingbotError):
    """A definite no: no connection was ever made (refused, DNS, connect timeout), so no byte was sent."""

    code = "broker_unreachable"

    def __init__(self, message: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(message, remedy="Check the broker's address and the network; nothing was sent.")
        self.evidence = evidence or {}


class BrokerTooLateError(BrokerUnreachableError):
    """A definite no: the time to send was over before the request was whole on the wire."""

    def __init__(self, evidence: dict[str, Any] | None = None) -> None:
        super().__init__("the time to send was over, so nothing was sent", evidence)
        self.code, self.remedy = "send_by_passed", "Send a new order; see why the process was held up."


class BrokerInDoubtError(TradingbotError):
    """The request may have been carried out: no one may send it again before the broker was asked."""

    code = "broker_in_doubt"

    def __init__(self, reason: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(f"the outcome is in doubt: {reason}", remedy="Recovery looks the order up; do not send again.")
        self.reason = reason
        self.evidence = evidence or {}


class BrokerQueryError(TradingbotError):
    """A question to the broker failed. The answer is unknown, which is neither "none" nor "not there"."""

    code = "broker_query_failed"

    def __init__(self, message: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(message, remedy="Ask again; take nothing as absent until the broker has answered.")
        self.evidence = evidence or {}


@dataclass(frozen=True)
class BrokerOrder:
    """One order in the broker's book. ``qty`` is unsigned and None for an order by notional; ``status`` is raw.

    ``symbol`` and ``side`` are empty for the parent of a multi-leg order, whose legs are orders of their own.
    """

    broker_order_id: str
    client_order_id: str
    symbol: str
    side: str
    qty: Decimal | None
    type: str
    limit_price: Decimal | None
    status: str
    filled_qty: Decimal
    filled_avg_price: Decimal | None
    submitted_at: datetime | None
    updated_at: datetime | None
    replaced_by: str | None
    raw: dict[str, Any] = field(repr=False, compare=False)
    replaces: str | None = None
    request_id: str = field(default="", compare=False)

    @property
    def accepted(self) -> bool:
        """False only when the broker's own word is ``rejected``; so that this reads as an ``OrderAck``."""
        return self.status != "rejected"

    @property
    def reason(self) -> str | None:
        """Why it was not accepted, or None."""
        return None if self.accepted else "broker_rejected"

    @property
    def avg_price(self) -> Decimal | None:
        """``filled_avg_price`` by the name an ``OrderFill`` has for it."""
        return self.filled_avg_price


PlacedOrder = BrokerOrder


@dataclass(frozen=True)
class BrokerFillActivity:
    """One execution. It carries no client order id and no fee: join it on ``broker_order_id``.

    ``kind`` is ``fill``; or ``bust`` or ``correction``, which take the execution ``corrects`` back.
    """

    execution_id: str
    activity_id: str
    broker_order_id: str
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    occurred_at: datetime
    raw: dict[str, Any] = field(repr=False, compare=False)
    kind: str = "fill"
    corrects: str = ""


@dataclass(frozen=True)
class BrokerCashFlow:
    """Cash that moved by itself, in dollars: a deposit, a withdrawal (below zero), a fee, a dividend, interest.

    ``occurred_at`` is None when only the day is known, ``symbol`` is empty when it is about none.
    """

    activity_id: str
    kind: str
    amount: Decimal
    occurred_on: date
    occurred_at: datetime | None
    status: str
    description: str
    raw: dict[str, Any] = field(repr=False, compare=False)
    symbol: str = ""


@dataclass(frozen=True)
class BrokerActivity:
    """Something that moved cash or a position and is no trade, in the broker's own words: ``raw`` says what."""

    activity_id: str
    raw: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class BrokerAccount:
    """The account as the broker values it, in dollars. ``last_equity`` is that of the close of the trading day
    ``last_equity_on``, which is None when the broker does not say which one it was."""

    account_number: str
    status: str
    cash: Decimal
    equity: Decimal
    last_equity: Decimal
    buying_power: Decimal
    last_equity_on: date | None
    raw: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class BrokerPosition:
    """One position; ``qty`` is signed (a short is negative), ``avg_price`` is the average entry price."""

    symbol: str
    qty: Decimal
    avg_price: Decimal
    raw: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class BrokerClock:
    """The exchange's clock as the broker tells it, in UTC."""

    timestamp: datetime
    is_open: bool
    next_open: datetime
    next_close: datetime
    raw: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class BrokerSession:
    """One trading day of the exchange's calendar, with its hours in UTC."""

    date: date
    opens_at: datetime
    closes_at: datetime


@dataclass(frozen=True)
class CancelResult:
    """One item of a cancel-all: the HTTP status of that item alone; ``requested`` only when it is 2xx."""

    broker_order_id: str
    status: int
    requested: bool
    raw: dict[str, Any] = field(repr=False, compare=False)


def parse_order(raw: Any) -> BrokerOrder:
    """An order from its JSON object. Identity, side and status must be there; times may be missing or odd."""
    body = object_of(raw)
    return BrokerOrder(
        broker_order_id=text_of(body, "id"),
        client_order_id=text_of(body, "client_order_id"),
        symbol=text_or_none(body, "symbol") or "",
        side=side_of(body) if body.get("side") else "",
        qty=decimal_or_none(body, "qty"),
        type=str(body.get("type") or body.get("order_type") or ""),
        limit_price=decimal_or_none(body, "limit_price"),
        status=text_of(body, "status"),
        filled_qty=decimal_or_none(body, "filled_qty") or Decimal(0),
        filled_avg_price=decimal_or_none(body, "filled_avg_price"),
        submitted_at=time_or_none(body, "submitted_at"),
        updated_at=time_or_none(body, "updated_at"),
        replaced_by=text_or_none(body, "replaced_by"),
        replaces=text_or_none(body, "replaces"),
        raw=body,
    )


def parse_fill(raw: Any) -> BrokerFillActivity:
    """A FILL activity from its JSON object; the execution id is what follows ``::`` in the activity id."""
    body = object_of(raw)
    activity_id = text_of(body, "id")
    kind = EXECUTION_KINDS.get(str(body.get("type")), "fill")
    return BrokerFillActivity(
        execution_id=activity_id.rpartition("::")[2],
        activity_id=activity_id,
        broker_order_id=text_of(body, "order_id"),
        symbol=text_of(body, "symbol"),
        side=side_of(body),
        qty=decimal_of(body, "qty"),
        price=decimal_of(body, "price"),
        occurred_at=time_of(body, "transaction_time"),
        raw=body,
        kind=kind,
        corrects=text_of(body, "previous_execution_id") if kind != "fill" else "",
    )


def parse_cash_flow(raw: Any) -> BrokerCashFlow:
    """A cash activity from its JSON object; a deposit and a withdrawal have their kind's sign, whichever came."""
    body = object_of(raw)
    kind, amount = text_of(body, "activity_type"), decimal_of(body, "net_amount")
    day = date_or_none(body, "date")
    if day is None:
        raise ValueError("date is missing or not a day")
    return BrokerCashFlow(
        activity_id=text_of(body, "id"),
        kind=kind,
        amount={"CSD": abs(amount), "CSW": -abs(amount)}.get(kind, amount),
        occurred_on=day,
        occurred_at=time_or_none(body, "created_at"),
        status=str(body.get("status") or "executed"),
        description=str(body.get("description") or ""),
        raw=body,
        symbol=text_or_none(body, "symbol") or "",
    )


def parse_activity(raw: Any) -> BrokerActivity:
    """Any activity from its JSON object; only its id is looked at."""
    body = object_of(raw)
    return BrokerActivity(activity_id=text_of(body, "id"), raw=body)


def parse_account(raw: Any) -> BrokerAccount:
    """The account from its JSON object; every amount must be there."""
    body = object_of(raw)
    amounts = {name: decimal_of(body, name) for name in ("cash", "equity", "last_equity", "buying_power")}
    return BrokerAccount(
        account_number=text_of(body, "account_number"),
        status=text_of(body, "status"),
        last_equity_on=date_or_none(body, "balance_asof"),
        raw=body,
        **amounts,
    )


def parse_position(raw: Any) -> BrokerPosition:
    """A position from its JSON object; the sign follows ``side`` whichever sign ``qty`` came with."""
    body = object_of(raw)
    qty = decimal_of(body, "qty")
    if body.get("side") == "short":
        qty = -abs(qty)
    return BrokerPosition(
        symbol=text_of(body, "symbol"), qty=qty, avg_price=decimal_of(body, "avg_entry_price"), raw=body
    )


def parse_clock(raw: Any) -> BrokerClock:
    """The clock from its JSON object."""
    body = object_of(raw)
    if not isinstance(body.get("is_open"), bool):
        raise ValueError("is_open is not true or false")
    times = {name: time_of(body, name) for name in ("timestamp", "next_open", "next_close")}
    return BrokerClock(is_open=body["is_open"], raw=body, **times)


def parse_session(raw: Any) -> BrokerSession:
    """A day of the calendar: ``{"date": "2026-11-27", "open": "09:30", "close": "13:00"}``, in New York time."""
    body = object_of(raw)
    day = date_or_none(body, "date")
    if day is None:
        raise ValueError("date is missing or not a day")
    opens, closes = (datetime.combine(day, clock_time_of(body, name), NEW_YORK) for name in ("open", "close"))
    return BrokerSession(day, opens.astimezone(UTC), closes.astimezone(UTC))


def parse_cancel_result(raw: Any) -> CancelResult:
    """One item of a 207 answer: ``{"id": ..., "status": 200}``."""
    body = object_of(raw)
    status = body.get("status")
    if not isinstance(status, int) or isinstance(status, bool):
        raise ValueError("status of a cancel item is not a number")
    return CancelResult(broker_order_id=text_of(body, "id"), status=status, requested=200 <= status < 300, raw=body)
