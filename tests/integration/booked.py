"""Broker's words made by hand, an order that waits for them, and the book that they leave behind."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from backend.tradingbot.brokers.answers import BrokerFillActivity, BrokerOrder, parse_fill, parse_order
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.models import Account, Break, Execution, HeldReport, JournalEntry, Order, Position, RiskRow
from backend.tradingbot.models import Strategy as StrategyRow
from backend.tradingbot.services import journal
from backend.tradingbot.services.accounts import create_account, create_strategy

START = datetime(2031, 1, 6, 15, 0, tzinfo=UTC)  # after any account of a test was made
CASH = Decimal(100_000)


class NoBroker:
    """A broker that must not be asked: everything needed came along."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the broker was asked: {name}")


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def shown(**changes: Any) -> BrokerOrder:
    body = {"id": "b-1", "client_order_id": "c-1", "symbol": "AAPL", "side": "buy", "qty": "10", "type": "limit",
            "limit_price": "100", "status": "new", "filled_qty": "0", "updated_at": at(0)}  # fmt: skip
    return parse_order(body | changes)


def execution(name: str, qty: str, price: str = "100", second: float = 1, **changes: Any) -> BrokerFillActivity:
    body = {"id": f"{name}-stamp::{name}", "order_id": "b-1", "symbol": "AAPL", "side": "buy", "qty": qty,
            "price": price, "transaction_time": at(second), "type": "fill"}  # fmt: skip
    return parse_fill(body | changes)


class Book:
    """One account with one order of 10 AAPL at 100 that was sent and not answered yet."""

    def __init__(self, status: str = "pending_submit", side: str = "buy") -> None:
        name = secrets.token_hex(6)
        self.clock = FixedClock(START)
        self.account: Account = create_account(code=name, cash=CASH, broker_account=name, symbols=["AAPL"])
        if not StrategyRow.objects.filter(code="mean").exists():
            create_strategy(code="mean", mode="live")
        self.strategy = StrategyRow.objects.get(code="mean")
        self.order = self.place("c-1", status, side)

    def place(self, name: str, status: str = "pending_submit", side: str = "buy") -> Order:
        reserved = Decimal(100 if side == "buy" else 0)
        order = Order.objects.create(
            account=self.account, strategy=self.strategy, client_order_id=name, symbol="AAPL", side=side, qty=10,
            type="limit", limit_price=100, time_in_force="day", status=status, reserved_price=reserved,
            send_by=START, created_at=START, updated_at=START, build_id="test",
        )  # fmt: skip
        if status in ("pending_submit", "in_doubt"):
            RiskRow.objects.filter(account=self.account).update(reserved_cash=self.row.reserved_cash + reserved * 10)
        return order

    @property
    def row(self) -> RiskRow:
        return RiskRow.objects.get(account=self.account)

    @property
    def now(self) -> Order:
        return Order.objects.get(pk=self.order.pk)

    def breaks(self) -> list[tuple[str, str, str]]:
        found = Break.objects.filter(account=self.account).order_by("kind", "subject")
        return [(b.kind, b.subject, b.severity) for b in found]

    def kinds(self) -> list[str]:
        return [entry.kind for entry in JournalEntry.objects.filter(chain=self.row.scope).order_by("seq")]

    def position(self, symbol: str = "AAPL") -> tuple[Decimal, Decimal, Decimal]:
        found = Position.objects.filter(account=self.account, symbol=symbol).first()
        return (found.qty, found.avg_price, found.realized_pnl) if found else (Decimal(0),) * 3

    def contents(self) -> dict[str, Any]:
        """Everything that must not depend on the order in which things were heard."""
        fields = ("client_order_id", "status", "qty", "filled_qty", "reported_qty", "avg_price", "broker_order_id",
                  "past_broker_order_ids", "broker_status", "broker_filled_qty", "reserved_price")  # fmt: skip
        rows = ("execution_id", "kind", "corrects", "symbol", "side", "qty", "price", "order__client_order_id")
        places = ("symbol", "qty", "avg_price", "realized_pnl")
        mine = {"account": self.account}
        return {
            "orders": list(Order.objects.filter(**mine).order_by("client_order_id").values_list(*fields)),
            "executions": list(Execution.objects.filter(**mine).order_by("execution_id").values_list(*rows)),
            "held": HeldReport.objects.filter(**mine, booked_at=None).count(),
            "positions": list(Position.objects.filter(**mine).order_by("symbol").values_list(*places)),
            "cash": self.row.cash,
            "reserved": self.row.reserved_cash,
            "breaks": self.breaks(),
            "chain": journal.verify(self.row.scope).intact,
        }
