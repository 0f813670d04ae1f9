"""What a broker said, parsed once: orders, fills, positions, and the four kinds of "no" and "unknown".

Invariants: money and quantities are finite ``Decimal``; an order's status is the broker's own word, never mapped here,
so that a word we do not know cannot turn a live order into an error. An answer that cannot be read raises
``ValueError``; the adapter decides what that means (in doubt after a send, unknown after a query).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from backend.tradingbot.core.errors import TradingbotError

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
    """One order in the broker's book. ``qty`` is unsigned and None for an order by notional; ``status`` is raw."""

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
    """A deposit or a withdrawal (below zero), in dollars; ``occurred_at`` is None when only the day is known."""

    activity_id: str
    kind: str
    amount: Decimal
    occurred_on: date
    occurred_at: datetime | None
    status: str
    description: str
    raw: dict[str, Any] = field(repr=False, compare=False)


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
class CancelResult:
    """One item of a cancel-all: the HTTP status of that item alone; ``requested`` only when it is 2xx."""

    broker_order_id: str
    status: int
    requested: bool
    raw: dict[str, Any] = field(repr=False, compare=False)


def parse_order(raw: Any) -> BrokerOrder:
    """An order from its JSON object. Identity, side and status must be there; times may be missing or odd."""
    body = _object(raw)
    return BrokerOrder(
        broker_order_id=_text(body, "id"),
        client_order_id=_text(body, "client_order_id"),
        symbol=_text(body, "symbol"),
        side=_side(body),
        qty=_decimal_or_none(body, "qty"),
        type=str(body.get("type") or body.get("order_type") or ""),
        limit_price=_decimal_or_none(body, "limit_price"),
        status=_text(body, "status"),
        filled_qty=_decimal_or_none(body, "filled_qty") or Decimal(0),
        filled_avg_price=_decimal_or_none(body, "filled_avg_price"),
        submitted_at=_time_or_none(body, "submitted_at"),
        updated_at=_time_or_none(body, "updated_at"),
        replaced_by=_text_or_none(body, "replaced_by"),
        replaces=_text_or_none(body, "replaces"),
        raw=body,
    )


def parse_fill(raw: Any) -> BrokerFillActivity:
    """A FILL activity from its JSON object; the execution id is what follows ``::`` in the activity id."""
    body = _object(raw)
    activity_id = _text(body, "id")
    kind = EXECUTION_KINDS.get(str(body.get("type")), "fill")
    return BrokerFillActivity(
        execution_id=activity_id.rpartition("::")[2],
        activity_id=activity_id,
        broker_order_id=_text(body, "order_id"),
        symbol=_text(body, "symbol"),
        side=_side(body),
        qty=_decimal(body, "qty"),
        price=_decimal(body, "price"),
        occurred_at=_time(body, "transaction_time"),
        raw=body,
        kind=kind,
        corrects=_text(body, "previous_execution_id") if kind != "fill" else "",
    )


def parse_cash_flow(raw: Any) -> BrokerCashFlow:
    """A cash activity from its JSON object; a deposit and a withdrawal have their kind's sign, whichever came."""
    body = _object(raw)
    kind, amount = _text(body, "activity_type"), _decimal(body, "net_amount")
    day = _date_or_none(body, "date")
    if day is None:
        raise ValueError("date is missing or not a day")
    return BrokerCashFlow(
        activity_id=_text(body, "id"),
        kind=kind,
        amount={"CSD": abs(amount), "CSW": -abs(amount)}.get(kind, amount),
        occurred_on=day,
        occurred_at=_time_or_none(body, "created_at"),
        status=str(body.get("status") or "executed"),
        description=str(body.get("description") or ""),
        raw=body,
    )


def parse_activity(raw: Any) -> BrokerActivity:
    """Any activity from its JSON object; only its id is looked at."""
    body = _object(raw)
    return BrokerActivity(activity_id=_text(body, "id"), raw=body)


def parse_account(raw: Any) -> BrokerAccount:
    """The account from its JSON object; every amount must be there."""
    body = _object(raw)
    amounts = {name: _decimal(body, name) for name in ("cash", "equity", "last_equity", "buying_power")}
    return BrokerAccount(
        account_number=_text(body, "account_number"),
        status=_text(body, "status"),
        last_equity_on=_date_or_none(body, "balance_asof"),
        raw=body,
        **amounts,
    )


def parse_position(raw: Any) -> BrokerPosition:
    """A position from its JSON object; the sign follows ``side`` whichever sign ``qty`` came with."""
    body = _object(raw)
    qty = _decimal(body, "qty")
    if body.get("side") == "short":
        qty = -abs(qty)
    return BrokerPosition(symbol=_text(body, "symbol"), qty=qty, avg_price=_decimal(body, "avg_entry_price"), raw=body)


def parse_clock(raw: Any) -> BrokerClock:
    """The clock from its JSON object."""
    body = _object(raw)
    if not isinstance(body.get("is_open"), bool):
        raise ValueError("is_open is not true or false")
    times = {name: _time(body, name) for name in ("timestamp", "next_open", "next_close")}
    return BrokerClock(is_open=body["is_open"], raw=body, **times)


def parse_cancel_result(raw: Any) -> CancelResult:
    """One item of a 207 answer: ``{"id": ..., "status": 200}``."""
    body = _object(raw)
    status = body.get("status")
    if not isinstance(status, int) or isinstance(status, bool):
        raise ValueError("status of a cancel item is not a number")
    return CancelResult(broker_order_id=_text(body, "id"), status=status, requested=200 <= status < 300, raw=body)


def _object(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, got {type(raw).__name__}")
    return raw


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing or not text")
    return value


def _text_or_none(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def _side(body: dict[str, Any]) -> str:
    side = _text(body, "side")
    if side == "sell_short":  # activities name a short sale so; orders say "sell"
        return "sell"
    if side not in ("buy", "sell"):
        raise ValueError(f"side is neither buy nor sell: {side[:20]}")
    return side


def _decimal(body: dict[str, Any], name: str) -> Decimal:
    value = _decimal_or_none(body, name)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def _decimal_or_none(body: dict[str, Any], name: str) -> Decimal | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{name} is not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{name} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{name} is not finite")
    return number


def _time(body: dict[str, Any], name: str) -> datetime:
    value = _time_or_none(body, name)
    if value is None:
        raise ValueError(f"{name} is missing or not a time")
    return value


def _date_or_none(body: dict[str, Any], name: str) -> date | None:
    value = body.get(name)
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def _time_or_none(body: dict[str, Any], name: str) -> datetime | None:
    """The time in UTC; digits past the microsecond are cut off."""
    value = body.get(name)
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
