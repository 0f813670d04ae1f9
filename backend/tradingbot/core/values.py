"""The words of the trade as frozen values: sides, order types, an order as it was asked for, a verdict.

Money, prices and quantities are ``Decimal``; nothing here rounds. Decimals leave the system as plain strings
(``plain``), never in exponent notation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"


class Severity(StrEnum):
    """How much a verdict weighs: ``H`` stops, ``W`` warns."""

    HARD = "H"
    WARN = "W"


def plain(value: Decimal | None) -> str | None:
    """``value`` as plain digits without trailing zeros: ``Decimal('1E+2')`` -> ``"100"``, ``190.10`` -> ``"190.1"``."""
    if value is None:
        return None
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


@dataclass(frozen=True)
class OrderRequest:
    """What an execution client is asked to place. ``qty`` is unsigned; ``side`` carries the direction."""

    client_order_id: str
    symbol: str
    qty: Decimal
    side: str
    type: str
    time_in_force: str = "day"
    limit_price: Decimal | None = None


@dataclass(frozen=True)
class OrderIntent:
    """One order as a strategy asked for it, parsed once and exact: the whole body of ``POST orders``, and the build of
    the strategy that sent it, which is no part of the order itself."""

    client_order_id: str
    account: str
    strategy: str
    symbol: str
    side: Side
    qty: Decimal
    type: OrderType
    time_in_force: TimeInForce = TimeInForce.DAY
    limit_price: Decimal | None = None
    greeks: dict[str, Decimal] = field(default_factory=dict)
    permit_id: str | None = None
    strategy_build: str = ""

    @property
    def signed_qty(self) -> Decimal:
        return self.qty * self.side.sign

    def canonical(self) -> dict[str, Any]:
        """The body in canonical form: two bodies that mean the same order give the same dictionary."""
        return {
            "client_order_id": self.client_order_id,
            "account": self.account,
            "strategy": self.strategy,
            "symbol": self.symbol,
            "side": self.side.value,
            "qty": plain(self.qty),
            "type": self.type.value,
            "limit_price": plain(self.limit_price),
            "time_in_force": self.time_in_force.value,
            "greeks": {name: plain(value) for name, value in sorted(self.greeks.items())},
            "permit_id": self.permit_id,
        }

    def request(self) -> OrderRequest:
        """The same order as an execution client takes it."""
        return OrderRequest(
            client_order_id=self.client_order_id,
            symbol=self.symbol,
            qty=self.qty,
            side=self.side.value,
            type=self.type.value,
            time_in_force=self.time_in_force.value,
            limit_price=self.limit_price,
        )


@dataclass(frozen=True)
class Verdict:
    """What a data check found: which check, how bad, where, with what evidence and how many rows."""

    check: str
    severity: Severity
    symbol: str
    evidence: dict[str, Any]
    rows: int = 1
