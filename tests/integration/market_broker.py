"""A broker for the generated market: books of its own, folded from what happened, and a statement that may be wrong.

What the broker did (``Happening``) and what its statement tells are kept apart, so that a fault can be in either. The
figures are added up here by plain loops that share nothing with the code under test.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.brokers.answers import BrokerFillActivity
from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.models import Order
from tests.integration.recon_house import BORN, D, House, noon

SYMBOLS = ("AAPL", "MSFT", "NVDA", "XOM", "JPM", "KO")
NINE = D("1e-9")
FEE_A_SHARE = D("0.005")


@dataclass
class Happening:
    """One thing that moved a position at the broker: a trade, a split (``ratio``), or another cost (``cost``)."""

    at: datetime
    name: str
    symbol: str
    signed: Decimal = D(0)
    price: Decimal = D(0)
    ratio: Decimal = D(1)
    cost: Decimal = D(0)


def unit_of(symbol: str) -> int:
    return 100 if parse_option(symbol) else 1


@dataclass
class Market(House):
    """One account of the market. ``untold`` is by how much the broker's books move on a day without its statement
    telling why, by symbol and for ``cash``: what its own proofs have to show as unexplained."""

    seed: int = 1
    with_fees: bool = False
    marks: dict[str, Decimal] = field(default_factory=lambda: {symbol: D(50 + 30 * n) for n, symbol in
                                                                enumerate(SYMBOLS)})  # fmt: skip

    def __post_init__(self) -> None:
        if self.with_fees:
            self.policy = {**self.policy, "fees": {"name": "a share", "share": str(FEE_A_SHARE)}}
        super().__post_init__()
        self.random = random.Random(self.seed)
        self.happened: list[Happening] = []
        self.untold: Counter[str] = Counter()
        self.fees_due: dict[date, Decimal] = {}
        self.equity_error = D(0)
        self.minute = 0

    # -- what happened there

    def happen(self, fill: BrokerFillActivity, **changes: Any) -> Happening:
        """``fill`` moves the broker's books, with ``changes``; its statement does not tell of it by that."""
        terms = {name: changes.get(name, getattr(fill, name)) for name in ("symbol", "side", "qty", "price")}
        signed = D(terms["qty"]) * (1 if terms["side"] == "buy" else -1)
        row = Happening(fill.occurred_at, fill.execution_id, terms["symbol"], signed, D(terms["price"]))
        self.happened.append(row)
        self.their_cash -= signed * row.price * unit_of(row.symbol)
        return row

    def undo(self, row: Happening) -> None:
        self.happened.remove(row)
        self.their_cash += row.signed * row.price * unit_of(row.symbol)

    def tell(self, fill: BrokerFillActivity, **changes: Any) -> None:
        """The broker executes and its statement tells of it."""
        self.happen(fill, **changes)
        self.print_line(fill, **changes)

    def print_line(self, fill: BrokerFillActivity, **changes: Any) -> dict[str, Any]:
        moment = changes.pop("occurred_at", fill.occurred_at)
        terms = {name: changes.pop(name, getattr(fill, name)) for name in ("symbol", "side", "qty", "price")}
        row = {
            "activity_type": "FILL", "id": f"{moment:%Y%m%d%H%M%S}::{fill.execution_id}", "type": "fill",
            "order_id": fill.broker_order_id, "transaction_time": moment.isoformat(),
            **{name: str(value) for name, value in terms.items()}, **changes,
        }  # fmt: skip
        self.fills.append(row)
        if row["type"] == "fill" and unit_of(row["symbol"]) == 1:
            self.owe(moment.date(), D(row["qty"]))
        return row

    def owe(self, day: date, shares: Decimal) -> None:
        if self.with_fees:
            self.fees_due[day] = self.fees_due.get(day, D(0)) + shares * FEE_A_SHARE

    def other(self, code: str, name: str, amount: Any = 0, **more: Any) -> str:
        """The statement tells of an activity that is no trade, and the broker's cash moved by it."""
        number = f"{self.code}-{name}"
        self.others.append({"activity_type": code, "id": number, "net_amount": str(amount), **more})
        self.their_cash += D(amount)
        return number

    def holdings(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Quantity and average cost by symbol."""
        held: dict[str, tuple[Decimal, Decimal]] = {}
        for row in sorted(self.happened, key=lambda each: (each.at, each.name)):
            qty, cost = held.get(row.symbol, (D(0), D(0)))
            if row.ratio != 1:
                held[row.symbol] = (qty * row.ratio, (cost / row.ratio).quantize(NINE))
            elif row.cost:
                held[row.symbol] = (qty, cost + row.cost)
            elif row.signed:
                held[row.symbol] = _after(qty, cost, row.signed, row.price)
        return {symbol: each for symbol, each in held.items() if each[0]}

    def qty(self, symbol: str) -> Decimal:
        return self.holdings().get(symbol, (D(0), D(0)))[0]

    def mark(self, symbol: str) -> Decimal:
        return self.marks.get(symbol, D("2.50"))

    # -- trades without a fault

    def both(
        self, day: date, symbol: str, side: str | None = None, qty: int | None = None, *, of: int = 1
    ) -> BrokerFillActivity:
        """An order filled and told alike; ``of`` is how much more was ordered than is filled here."""
        fill, order = self.ours(day, symbol, side, qty, of=of)
        self.tell(fill)
        self.tell_order(order, "filled" if of == 1 else "canceled", fill.qty)
        return fill

    def ours(
        self, day: date, symbol: str, side: str | None = None, qty: int | None = None, *, of: int = 1, book: bool = True
    ) -> tuple[BrokerFillActivity, Order]:
        """An order of ours and its execution; the broker's side is the caller's to tell."""
        self.minute += 1
        at = noon(day, self.minute)
        self.clock.at = max(self.clock.at, at)
        amount = qty or 10 * self.random.randint(1, 9)
        order = self.order(symbol, side or self.random.choice(("buy", "buy", "sell")), amount * of, at)
        price = self.mark(symbol) + D(self.random.randint(-50, 50)) / 100
        fill = self.report(order, amount, price, at)
        if book:
            self.book(fill)
        return fill, order

    # -- the statement

    def charge_fees(self, day: date, factor: int = 1) -> None:
        """Fees of earlier days are charged, rounded up to a cent a day; what is earned late, on a line of its own."""
        for earned in sorted(each for each in self.fees_due if each < day):
            amount = -(self.fees_due.pop(earned).quantize(D("0.01"), "ROUND_UP") * factor)
            self.number += 1
            name = f"fee {earned} on {day} {self.number}"
            self.other("FEE", name, amount, date=str(day), description=f"fees on {earned}")

    def statement(self, day: date, **changes: Any) -> bytes:
        """The broker's statement of ``day``, and a fresh sheet for the next one."""
        held = self.holdings()
        positions = [
            {"symbol": symbol, "qty": str(abs(qty)), "side": "long" if qty > 0 else "short",
             "avg_entry_price": str(cost), "current_price": str(self.mark(symbol))}
            for symbol, (qty, cost) in held.items()
        ]  # fmt: skip
        worth = sum((qty * self.mark(symbol) * unit_of(symbol) for symbol, (qty, _) in held.items()), D(0))
        body = {
            "account": {"account_number": self.account.broker_account, "cash": str(self.their_cash),
                        "equity": str(self.their_cash + worth + self.equity_error)},
            "positions": positions, "orders": self.orders, "activities": [*self.fills, *self.others], **changes,
        }  # fmt: skip
        for name in ("orders", "activities"):
            self.random.shuffle(body[name])
        self.fills, self.orders, self.others = [], [], []
        return json.dumps(body).encode()


def _after(qty: Decimal, cost: Decimal, signed: Decimal, price: Decimal) -> tuple[Decimal, Decimal]:
    total = qty + signed
    if qty * signed >= 0:
        return total, ((cost * abs(qty) + price * abs(signed)) / abs(total)).quantize(NINE)
    if not total:
        return D(0), D(0)
    return total, price if abs(signed) > abs(qty) else cost


__all__ = ["BORN", "SYMBOLS", "Happening", "Market", "unit_of"]
