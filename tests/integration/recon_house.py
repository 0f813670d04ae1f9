"""A small house for reconciliation tests: one account, trades through the real door, statements as files."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.db import connection

from backend.tradingbot.brokers.answers import BrokerFillActivity
from backend.tradingbot.core.clock import FixedClock
from backend.tradingbot.models import Account, Break, Order, RiskRow, Strategy
from backend.tradingbot.services import recon
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.booking import book_execution
from backend.tradingbot.services.recon_policies import set_policy
from backend.tradingbot.services.statements import receive_statement

D = Decimal
MONDAY, TUESDAY, WEDNESDAY = date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7)
BORN = datetime(2026, 1, 5, 13, 0, tzinfo=UTC)


def own_database() -> dict[str, str]:
    """The environment of a process that works on the database of this test."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    return os.environ | {"DATABASE_URL": url.geturl()}


def standing() -> list[tuple[str, str]]:
    """Every break that is not closed, as kind and subject."""
    rows = Break.objects.exclude(status="closed").order_by("kind", "subject")
    return [(row.kind, row.subject) for row in rows]


def noon(day: date, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, 17, 0, tzinfo=UTC) + timedelta(minutes=minute)


@dataclass
class House:
    """One account whose statements are uploaded. ``theirs`` is what the broker has told so far, by session."""

    code: str = "main"
    cash: Decimal = D(100_000)
    policy: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = FixedClock(at=BORN)
        create_account(code=self.code, cash=self.cash, broker_account=f"U-{self.code}", symbols=["AAPL", "MSFT"])
        Account.objects.filter(code=self.code).update(created_at=BORN)
        self.account = Account.objects.get(code=self.code)
        self.strategy = Strategy.objects.filter(code="mean").first() or create_strategy(code="mean")
        set_policy(self.account, {"upload_only": True, **self.policy}, actor="ann", reason="uploads", clock=self.clock)
        self.their_cash = self.cash
        self.held: dict[str, Decimal] = {}
        self.fills: list[dict[str, Any]] = []
        self.orders: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []
        self.number = 0

    # -- our side

    def order(self, symbol: str = "AAPL", side: str = "buy", qty: Any = 100, at: datetime | None = None) -> Order:
        self.number += 1
        moment = at or self.clock.now()
        return Order.objects.create(
            account=self.account, strategy=self.strategy, client_order_id=f"{self.code}-c{self.number}",
            broker_order_id=f"{self.code}-b{self.number}", symbol=symbol, side=side, qty=D(qty), type="market",
            time_in_force="day", status="accepted", body_digest="x", build_id="b", trace_id="t", created_at=moment,
            updated_at=moment,
        )  # fmt: skip

    def report(self, order: Order, qty: Any, price: Any, at: datetime, **changes: Any) -> BrokerFillActivity:
        self.number += 1
        fields = {
            "execution_id": f"{self.code}-e{self.number}", "activity_id": f"{at:%Y%m%d%H%M%S}::{self.number}",
            "broker_order_id": order.broker_order_id, "symbol": order.symbol, "side": order.side, "qty": D(qty),
            "price": D(price), "occurred_at": at, "raw": {}, **changes,
        }  # fmt: skip
        return BrokerFillActivity(**fields)

    def book(self, fill: BrokerFillActivity) -> None:
        assert book_execution(self.account, fill, clock=self.clock)

    # -- the broker's side

    def tell(self, fill: BrokerFillActivity, **changes: Any) -> None:
        """The broker tells of ``fill``, and its books move by it."""
        row = {
            "activity_type": "FILL", "id": fill.activity_id.split("::")[0] + f"::{fill.execution_id}",
            "order_id": fill.broker_order_id, "symbol": fill.symbol, "side": fill.side, "qty": str(fill.qty),
            "price": str(fill.price), "type": "fill", "transaction_time": fill.occurred_at.isoformat(), **changes,
        }  # fmt: skip
        self.fills.append(row)
        signed = D(row["qty"]) * (1 if row["side"] == "buy" else -1)
        self.move(row["symbol"], signed, -signed * D(row["price"]))

    def move(self, symbol: str, qty: Decimal, cash: Decimal) -> None:
        self.held[symbol] = self.held.get(symbol, D(0)) + qty
        self.their_cash += cash

    def tell_order(self, order: Order, status: str = "filled", filled: Any = None) -> None:
        self.orders.append(
            {
                "id": order.broker_order_id, "client_order_id": order.client_order_id, "symbol": order.symbol,
                "side": order.side, "qty": str(order.qty), "status": status,
                "filled_qty": str(order.qty if filled is None else filled),
            }
        )  # fmt: skip

    def trade(self, day: date, *, symbol: str = "AAPL", side: str = "buy", qty: Any = 100, price: Any = "150.00",
              minute: int = 0) -> BrokerFillActivity:  # fmt: skip
        """One order, filled and told alike on both sides."""
        at = noon(day, minute)
        self.clock.at = max(self.clock.at, at)
        order = self.order(symbol, side, qty, at)
        fill = self.report(order, qty, price, at)
        self.book(fill)
        self.tell(fill)
        self.tell_order(order)
        return fill

    def statement(self, day: date, **changes: Any) -> bytes:
        """The broker's statement of ``day``, and a fresh sheet for the next one."""
        positions = [
            {"symbol": symbol, "qty": str(abs(qty)), "side": "long" if qty > 0 else "short",
             "avg_entry_price": "150.00", "current_price": "151.00"}
            for symbol, qty in self.held.items() if qty
        ]  # fmt: skip
        worth = sum((qty * D("151.00") for qty in self.held.values()), D(0))
        body = {
            "account": {"account_number": self.account.broker_account, "cash": str(self.their_cash),
                        "equity": str(self.their_cash + worth)},
            "positions": positions, "orders": self.orders, "activities": [*self.fills, *self.others], **changes,
        }  # fmt: skip
        self.fills, self.orders, self.others = [], [], []
        return json.dumps(body).encode()

    def upload(self, day: date, content: bytes | None = None, **options: Any) -> Any:
        raw = self.statement(day) if content is None else content
        fields = {"name": f"{day}.json", "source": "alpaca_json", "actor": "ann", **options}
        return receive_statement(self.account, day, stream=io.BytesIO(raw), clock=self.clock, **fields)

    # -- closing

    def after_close(self, day: date) -> None:
        self.clock.at = datetime(day.year, day.month, day.day, 23, 0, tzinfo=UTC)

    def close(self, day: date, content: bytes | None = None) -> Any:
        self.after_close(day)
        self.upload(day, content)
        return self.run(day)

    def run(self, day: date) -> Any:
        return recon.run_session(self.account, day, actor="ann", clock=self.clock)

    def row(self) -> RiskRow:
        return RiskRow.objects.get(account=self.account)
