"""One message of the broker's trade_updates stream, read tolerantly.

Invariants: an unknown event, or an order with an unknown status, is read like any other and nothing of it is dropped; a
message that names no order raises ``ValueError``. An execution has the same id here as among the account's activities.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backend.tradingbot.brokers.answers import EXECUTION_KINDS, BrokerFillActivity, BrokerOrder, parse_order
from backend.tradingbot.brokers.reading import decimal_of, object_of, side_of, text_of, text_or_none, time_of

FILLS = ("fill", "partial_fill")
CANCEL_REFUSED = "order_cancel_rejected"


@dataclass(frozen=True)
class TradeUpdate:
    """``event`` is the broker's word, ``order`` the order after it, ``execution`` what was executed or taken back."""

    event: str
    order: BrokerOrder
    execution: BrokerFillActivity | None
    at: datetime | None


def parse_trade_update(raw: Any) -> TradeUpdate:
    """The ``data`` of a trade_updates message."""
    body = object_of(raw)
    event, order = text_of(body, "event"), parse_order(body.get("order"))
    executed = event in FILLS or event in EXECUTION_KINDS
    moment = time_of(body, "timestamp") if executed or body.get("timestamp") else None
    return TradeUpdate(event, order, _execution(event, body, order) if executed else None, moment)


def _execution(event: str, body: dict[str, Any], order: BrokerOrder) -> BrokerFillActivity:
    kind = EXECUTION_KINDS.get(event, "fill")
    return BrokerFillActivity(
        execution_id=text_of(body, "execution_id"),
        activity_id="",  # only the listing of activities has a place in an order of time
        broker_order_id=order.broker_order_id,
        symbol=order.symbol,
        side=side_of(order.raw),
        qty=decimal_of(body, "qty"),
        price=decimal_of(body, "price"),
        occurred_at=time_of(body, "timestamp"),
        raw=body,
        kind=kind,
        corrects="" if kind == "fill" else (text_or_none(body, "previous_execution_id") or ""),
    )
