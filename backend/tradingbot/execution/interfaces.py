"""What an execution client takes and gives: a request, an acknowledgement, a fill, and the calls a broker answers.

An acknowledgement never claims more than the broker said: ``accepted`` is False only on proof, and an answer that is
lost or cannot be read is raised by the adapter, never turned into an ``OrderAck``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.values import OrderRequest

__all__ = ["ExecutionClient", "OrderAck", "OrderFill", "OrderRequest"]


@dataclass(frozen=True)
class OrderAck:
    """The answer to one placed order. ``broker_order_id`` is None when nothing stands at the broker."""

    client_order_id: str
    broker_order_id: str | None
    accepted: bool
    reason: str | None = None


@dataclass(frozen=True)
class OrderFill:
    """What the broker executed of one order so far.

    ``filled_qty`` is unsigned shares or contracts, ``avg_price`` the quantity-weighted price a unit (None while nothing
    is filled), ``status`` the broker's own word.
    """

    broker_order_id: str
    symbol: str
    avg_price: Decimal | None
    filled_qty: Decimal
    status: str


class ExecutionClient:
    """The calls every adapter answers. Adapters for a broker add ``get_order_by_client_id``, ``fills``, ``positions``
    and ``account``, which recovery and reconciliation need.

    Every call here raises ``NotImplementedError`` until an adapter gives it a meaning: a half-written adapter cannot
    pretend to have traded.
    """

    def validate_connection(self) -> bool:
        """True when the broker answers and knows our keys."""
        raise NotImplementedError("validate_connection")

    def place_order(self, req: OrderRequest) -> OrderAck:
        """Send ``req`` once. Never retried here: a lost answer is raised, since the order may stand."""
        raise NotImplementedError("place_order")

    def get_order(self, broker_order_id: str) -> OrderFill | Mapping[str, Any] | None:
        """The order as the broker has it now; None or empty when it knows none by that id."""
        raise NotImplementedError("get_order")

    def list_open_orders(self) -> Sequence[Any]:
        """Every order that can still be executed."""
        raise NotImplementedError("list_open_orders")

    def cancel_order(self, broker_order_id: str) -> bool:
        """Ask for a cancel. True when the broker took the request, which is not yet a cancelled order."""
        raise NotImplementedError("cancel_order")

    def reconcile(self) -> Any:
        """Compare what the broker holds with what the adapter believes, and say what differs."""
        raise NotImplementedError("reconcile")
