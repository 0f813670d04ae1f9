"""What the broker does with orders and quotes: checks them, books them, matches them and tells the stream.

Invariants: nothing is acknowledged that is not in the ledger; a fill never spends cash the account has not got; every
event that goes out describes a committed state.
"""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

from backend.paperbroker.arrivals import CANCEL, KEEP, ORDER, REJECT, Arrivals
from backend.paperbroker.books import Books
from backend.paperbroker.instruments import is_option, is_tradable, multiplier
from backend.paperbroker.ledger import OPEN, DuplicateClientOrderId, Ledger, text, time_text
from backend.paperbroker.matching import Fill, Quote, Resting, match
from backend.paperbroker.refusals import Fault, Refused
from backend.paperbroker.session_end import FeeDesk, expiry
from backend.paperbroker.stream import Hub

ZERO = Decimal(0)
WORKING = (
    "select o.symbol, o.side, o.qty, o.filled_qty, o.limit_price, q.bid, q.ask, coalesce(p.qty, '0') as held"
    " from orders o left join quotes q on q.symbol = o.symbol left join positions p on p.symbol = o.symbol"
    " where o.status in ('new', 'accepted', 'partially_filled', 'pending_cancel')"
)


def number(value: Any, name: str, positive: bool = True) -> Decimal:
    """Parse a decimal given as string or number. Raises Refused 422."""
    try:
        parsed = Decimal(str(value))
    except InvalidOperation:
        raise Refused(422, 40010001, f"{name} is invalid") from None
    if not parsed.is_finite() or (positive and parsed <= 0) or parsed < 0 or abs(parsed) >= Decimal("1e12"):
        raise Refused(422, 40010001, f"{name} must be > 0")
    return parsed


def parse_order(body: Any) -> dict[str, Any]:
    """Return the ledger fields of a POST /v2/orders body. Raises Refused 422."""
    if not isinstance(body, dict):
        raise Refused(422, 40010001, "request body format is invalid")
    allowed = {"side": ("buy", "sell"), "type": ("market", "limit"), "time_in_force": ("day", "gtc", "ioc")}
    for name, values in allowed.items():
        if body.get(name) not in values:
            raise Refused(422, 40010001, f"invalid {name}")
    symbol = body.get("symbol")
    if not is_tradable(symbol):
        raise Refused(422, 42210000, f'asset "{symbol}" not found')
    if body.get("qty") is None:
        raise Refused(422, 40010001, "qty is required")
    qty = number(body["qty"], "qty")
    if qty != round(qty, 9):
        raise Refused(422, 40010001, "qty is limited to 9 decimal places")
    if is_option(symbol):
        _check_option(qty, body)
    client_id = body.get("client_order_id")
    if not isinstance(client_id, str) or not 0 < len(client_id) <= 128:
        raise Refused(422, 40010001, "client_order_id must be 1 to 128 characters")
    return {
        "client_order_id": client_id, "symbol": symbol, "side": body["side"], "type": body["type"],
        "time_in_force": body["time_in_force"], "qty": text(qty), "limit_price": _limit_price(body),
        "extended_hours": int(body.get("extended_hours") is True),
    }  # fmt: skip


def _check_option(qty: Decimal, body: dict[str, Any]) -> None:
    """What the broker asks of an option order beyond a share's."""
    if qty % 1:
        raise Refused(422, 40010001, "options trading requires integer qty")
    if body["time_in_force"] != "day":
        raise Refused(422, 42210000, "order_time_in_force provided not supported for options trading")
    if body.get("extended_hours") is True:
        raise Refused(422, 42210000, "extended hours are not supported for options trading")


def _limit_price(body: dict[str, Any]) -> str | None:
    if body["type"] == "market":
        if body.get("limit_price") is not None:
            raise Refused(422, 40010001, "market orders require no limit price")
        return None
    if body.get("limit_price") is None:
        raise Refused(422, 40010001, "limit orders require limit price")
    price = number(body["limit_price"], "limit_price")
    if price != round(price, 2 if price >= 1 or is_option(body["symbol"]) else 4):
        message = f"invalid limit_price {price}. sub-penny increment does not fulfill minimum pricing criteria"
        raise Refused(422, 42210000, message)
    return text(price)


class Desk:
    """One account's trading desk over a ledger and an event hub."""

    def __init__(self, ledger: Ledger, hub: Hub) -> None:
        self.ledger, self.hub = ledger, hub
        self.books = Books(ledger)
        self.fees = FeeDesk(ledger, self.books)
        self.arrivals = Arrivals(ledger)
        self.charges_fees = True
        self.close_books()

    def close_books(self) -> None:
        """Keep the equity of a close that has passed, before anything changes it."""
        self.books.close(self.ledger.now())

    def keep_house(self) -> None:
        """Do what time brings: a close, orders that expire, fees of days past, and what was on its way."""
        self.close_books()
        now = self.ledger.now()
        for order in self.ledger.expiring(time_text(now)):
            self._end(order["id"], "expired")
        if self.charges_fees:
            self.fees.post_due(now)
        self.arrivals.happen(now, self._arrive)

    def _arrive(self, kind: str, body: Any) -> None:
        if kind == ORDER:
            if self.ledger.order_by_client_id(str(body.get("client_order_id"))) is None:
                with suppress(Refused):
                    self.match(self.accept(body)["symbol"])
            return
        order = self.ledger.order(body)
        if order is None or order["status"] not in OPEN:
            return
        if kind == REJECT:
            self._end(body, "rejected", "rejected by the fault switch")
        elif kind == CANCEL:
            self._end(body, "canceled")
        elif kind == KEEP and order["status"] == "pending_cancel":
            self.ledger.mark_order(body, "partially_filled" if Decimal(order["filled_qty"]) else "new")
            self.tell("order_cancel_rejected", body)

    def accept(self, body: Any) -> sqlite3.Row:
        """Check an order and store it; matching is a separate step. Raises Refused."""
        fields = parse_order(body)
        if self.ledger.note_duplicate(fields["client_order_id"]):
            raise Refused(422, 40010001, "client_order_id must be unique")
        self._check_funds(fields)
        try:
            order = self.ledger.add_order(self._timed(fields))
        except DuplicateClientOrderId:
            raise Refused(422, 40010001, "client_order_id must be unique") from None
        self.hub.order_event("new", order)
        return order

    def replace(self, order_id: str, body: dict[str, Any]) -> sqlite3.Row:
        """Put a new order in the place of a working one; what is not given stays. Raises Refused 404 or 422.

        The new order trades ``qty``, by default what the old one had left, and counts its own executions.
        """
        old = self.ledger.order(order_id)
        if old is None:
            raise Refused(404, 40410000, f"order not found for {order_id}")
        if old["status"] not in OPEN:
            raise Refused(422, 42210000, f'order is already in "{old["status"]}" state')
        same = {name: old[name] for name in ("symbol", "side", "type", "time_in_force", "limit_price")}
        terms = {**same, "qty": text(_leaves(old)), "client_order_id": str(uuid.uuid4())}
        terms |= {name: value for name, value in body.items() if name in terms and value is not None}
        fields = {**self._timed(parse_order(terms)), "replaces": order_id}
        if self.ledger.note_duplicate(fields["client_order_id"]):
            raise Refused(422, 40010001, "client_order_id must be unique")
        with self.ledger.transaction():
            self.ledger.end_order(order_id, "replaced")
            order = self.ledger.add_order(fields)
            self.ledger.execute("update orders set replaced_by = ? where id = ?", order["id"], order_id)
        self.tell("replaced", order_id)
        self.hub.order_event("new", order)
        return order

    def execute(self, order_id: str, qty: Decimal, price: Decimal) -> sqlite3.Row:
        """Execute an order whatever its state, beyond its quantity if asked: a broker's mistake, or a late report."""
        order = self.ledger.order(order_id)
        if order is None:
            raise Refused(404, 40410000, f"order not found for {order_id}")
        self.close_books()
        with self.ledger.transaction():
            execution = self.ledger.book_fill(Fill(order_id, order["side"], qty, price))
        self._tell(execution)
        return execution

    def _timed(self, fields: dict[str, Any]) -> dict[str, Any]:
        expires = expiry(self.ledger.now(), fields["time_in_force"], bool(fields["extended_hours"]))
        return {**fields, "expires_at": expires}

    def _check_funds(self, fields: dict[str, Any]) -> None:
        qty, symbol = Decimal(fields["qty"]), fields["symbol"]
        held = self.ledger.position(symbol)
        if fields["side"] == "sell" and held > 0:
            working = self._working(symbol, "sell")
            if qty > held - working:
                free = text(max(held - working, ZERO))
                raise Refused(403, 40310000, f"insufficient qty available for order (requested: {text(qty)}, "
                                             f"available: {free})")  # fmt: skip
            return
        needed = self._exposure(symbol, fields["side"], qty, fields["limit_price"])
        if needed > self.buying_power():
            raise Refused(403, 40310000, "insufficient buying power")

    def _working(self, symbol: str, side: str) -> Decimal:
        orders = self.ledger.open_orders(symbol)
        return sum((_leaves(order) for order in orders if order["side"] == side), ZERO)

    def _exposure(self, symbol: str, side: str, qty: Decimal, limit_price: str | None) -> Decimal:
        """Return the dollars an order may tie up: what closes a position is free, an unquoted market order unknown."""
        quote = self.ledger.quote(symbol)
        shown = (quote.ask if side == "buy" else quote.bid) if quote else None
        price = Decimal(limit_price) if limit_price else (shown or ZERO)
        return _opening(side, qty, self.ledger.position(symbol)) * price * multiplier(symbol)

    def buying_power(self) -> Decimal:
        """Return cash less open orders less twice the cost of shorts (their proceeds are in the cash)."""
        power = Decimal(self.ledger.account()["cash"])
        for row in self.ledger.rows("select cost from positions"):
            power += 2 * min(Decimal(row["cost"]), ZERO)
        for order in self.ledger.rows(WORKING):
            price = order["limit_price"] or order["ask" if order["side"] == "buy" else "bid"] or "0"
            opening = _opening(order["side"], _leaves(order), Decimal(order["held"]))
            power -= opening * Decimal(price) * multiplier(order["symbol"])
        return power

    def quote(self, quote: Quote) -> int:
        """Take a new quote and fill what it makes marketable; returns the number of executions."""
        self.close_books()
        self.ledger.store_quote(quote)
        return self.match(quote.symbol)

    def match(self, symbol: str) -> int:
        """Match the open orders of a symbol with what is left of its last quote; ends ioc orders."""
        self.close_books()
        quote = self.ledger.quote(symbol)
        resting = [
            Resting(o["id"], o["seq"], o["side"], _leaves(o), Decimal(o["limit_price"]) if o["limit_price"] else None)
            for o in self.ledger.open_orders(symbol)
        ]
        booked = sum(self._book(fill) for fill in match(resting, quote)) if quote and resting else 0
        for order in self.ledger.open_orders(symbol):
            if order["time_in_force"] == "ioc":
                self._end(order["id"], "canceled")
        return booked

    def _book(self, fill: Fill) -> int:
        order = self.ledger.order(fill.order_id)
        assert order is not None
        held = self.ledger.position(order["symbol"])
        if order["limit_price"] is None and fill.side == "buy":
            opening = max(fill.qty - max(-held, ZERO), ZERO)
            if opening * fill.price * multiplier(order["symbol"]) > Decimal(self.ledger.account()["cash"]):
                self._end(fill.order_id, "rejected", "insufficient buying power")
                return 0
        with self.ledger.transaction():
            execution = self.ledger.book_fill(fill)
            self._use_size(order["symbol"], fill)
        self._tell(execution)
        return 1

    def _use_size(self, symbol: str, fill: Fill) -> None:
        left = self.ledger.quote(symbol)
        name = "ask_size" if fill.side == "buy" else "bid_size"
        size = getattr(left, name) if left else None
        if size is not None:
            self.ledger.use_size(symbol, name, size - fill.qty)

    def _tell(self, execution: sqlite3.Row) -> None:
        order = self.ledger.order(execution["order_id"])
        assert order is not None
        self.hub.execution_event(execution, order, text(self.ledger.position(order["symbol"])) or "0")

    def _end(self, order_id: str, status: str, reason: str | None = None) -> None:
        self.ledger.end_order(order_id, status, reason)
        self.tell(status, order_id)

    def tell(self, event: str, order_id: str) -> None:
        """Tell the stream what happened to an order."""
        order = self.ledger.order(order_id)
        assert order is not None
        self.hub.order_event(event, order)

    def cancel(self, order_id: str, fault: Fault | None = None) -> None:
        """Cancel a working order, or do with it what ``fault`` says. Raises Refused 404 or 422."""
        order = self.ledger.order(order_id)
        if order is None:
            raise Refused(404, 40410000, f"order not found for {order_id}")
        if order["status"] not in OPEN or order["status"] == "pending_cancel":
            raise Refused(422, 42210000, f'order is already in "{order["status"]}" state')
        if fault is None:
            self._end(order_id, "canceled")
        elif fault.mode == "cancel_refused":
            self.tell("order_cancel_rejected", order_id)
            raise Refused(422, 42210000, "order is not cancelable")
        else:
            self.ledger.mark_order(order_id, "pending_cancel")
            self.tell("pending_cancel", order_id)
            self.arrivals.schedule(KEEP if fault.mode == "cancel_kept" else CANCEL, order_id, fault.seconds)

    def move_cash(self, kind: str, amount: Decimal, description: str) -> sqlite3.Row:
        """Book a cash activity. Raises Refused 422 when it would overdraw the account."""
        self.close_books()
        if Decimal(self.ledger.account()["cash"]) + amount < 0:
            raise Refused(422, 40010001, "not enough cash")
        return self.books.move_cash(kind, amount, description, self.ledger.now())

    def bust(self, execution_id: str, price: Decimal | None, qty: Decimal | None) -> sqlite3.Row:
        """Bust, or with a price or quantity correct, an execution. Raises Refused 404."""
        self.close_books()
        rows = self.ledger.bust(execution_id, price, qty)
        if not rows:
            raise Refused(404, 40410000, f"no execution {execution_id} to bust")
        self._tell(rows[0])
        return rows[0]


def _leaves(order: sqlite3.Row) -> Decimal:
    return Decimal(order["qty"]) - Decimal(order["filled_qty"])


def _opening(side: str, qty: Decimal, held: Decimal) -> Decimal:
    return max(qty - max(held if side == "sell" else -held, ZERO), ZERO)
