"""The faults that are planted in the generated market: what goes wrong, under which kind it has to be found, its cure.

A fault is a function of the account, the day and a symbol that trades nothing else on that day. It returns what the
day's run has to find and what happens next: ``people`` after the run, ``morning`` before the next session's trades
(late messages), ``next_statement`` while the next statement is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from backend.tradingbot.brokers.answers import BrokerFillActivity
from backend.tradingbot.data.calendar import next_session, previous_session
from backend.tradingbot.models import Order
from tests.integration.market_broker import Happening, Market
from tests.integration.recon_house import D, noon

Key = tuple[str, str]
Act = Callable[[Market, date], None]


@dataclass
class Planted:
    """``found`` are the breaks by (kind, subject). ``people`` is the resolution that two people give it on the evening;
    empty: it clears by itself after ``morning`` or ``next_statement``, in the run of the next session or, for a
    statement that was no use, in the run of its own session anew. ``content`` spoils the day's statement; None in it
    means that nothing comes. ``again`` are breaks that the next run has to find on top."""

    found: tuple[Key, ...]
    people: str = ""
    morning: Act | None = None
    next_statement: Act | None = None
    content: Callable[[bytes], bytes | None] | None = None
    refused: str = ""
    again: tuple[Key, ...] = ()


FAULTS: dict[str, Callable[[Market, date, str], Planted]] = {}
BOOKS_SPOILED: set[str] = set()


def fault(function: Callable[[Market, date, str], Planted]) -> Callable[[Market, date, str], Planted]:
    FAULTS[function.__name__] = function
    return function


def spoils(function: Callable[[Market, date, str], Planted]) -> Callable[[Market, date, str], Planted]:
    """The day's statement is no use, so that no other fault of the day can be seen."""
    BOOKS_SPOILED.add(function.__name__)
    return fault(function)


def _lines(house: Market, fill: BrokerFillActivity) -> list[dict[str, str]]:
    return [row for row in house.fills if row["id"].endswith(f"::{fill.execution_id}")]


def _takes_back(house: Market, day: date, fill: BrokerFillActivity, kind: str, **terms: object) -> BrokerFillActivity:
    """The line by which the broker takes ``fill`` back, and the report of it as a stream would bring it."""
    house.number += 1
    name, word = f"{house.code}-t{house.number}", "bust" if kind == "trade_bust" else "correction"
    report = replace(
        fill, execution_id=name, activity_id=f"x::{house.number}", corrects=fill.execution_id, kind=word,
        occurred_at=noon(day, 300 + house.number % 60), **terms,
    )  # fmt: skip
    house.print_line(report, type=kind, previous_execution_id=fill.execution_id)
    return report


# -- executions


@fault
def lost_fill(house: Market, day: date, symbol: str) -> Planted:
    """The broker filled an order and we never heard; the message comes the next morning."""
    fill, order = house.ours(day, symbol, book=False)
    house.tell(fill)
    house.tell_order(order)
    return Planted((("missing_internal", fill.execution_id),), morning=lambda house, _: house.book(fill))


@fault
def double_fill_here(house: Market, day: date, symbol: str) -> Planted:
    """One execution was booked here twice, under two ids."""
    fill = house.both(day, symbol, of=2)
    second = replace(fill, execution_id=f"{fill.execution_id}-again", activity_id=f"{fill.activity_id}9")
    house.book(second)
    return Planted((("duplicate", second.execution_id),), people="written_off")


@fault
def double_fill_there(house: Market, day: date, symbol: str) -> Planted:
    """The broker counted one execution twice, and busts the second the next day."""
    fill = house.both(day, symbol)
    second = replace(fill, execution_id=f"{fill.execution_id}-again")
    row = house.happen(second)
    house.print_line(second)

    def bust(house: Market, day: date) -> None:
        house.undo(row)
        _takes_back(house, day, second, "trade_bust")

    return Planted((("duplicate", second.execution_id),), next_statement=bust)


@fault
def told_twice(house: Market, day: date, symbol: str) -> Planted:
    """The statement has one line twice; the broker's books do not."""
    fill = house.both(day, symbol)
    house.fills.append(dict(_lines(house, fill)[0]))
    _untold(house, fill, -1)
    return Planted((("duplicate", fill.execution_id),), people="explained")


def _untold(house: Market, fill: BrokerFillActivity, times: int) -> None:
    signed = fill.qty * (1 if fill.side == "buy" else -1) * times
    house.untold[fill.symbol] += signed
    house.untold["cash"] -= signed * fill.price


def _other_terms(kind: str, house: Market, day: date, traded: str, people: str, **terms: object) -> Planted:
    fill, order = house.ours(day, traded, "buy", 60)
    changes = {name: value(fill) if callable(value) else value for name, value in terms.items()}
    row = house.happen(fill, **changes)
    house.print_line(fill, **changes)
    house.tell_order(order, filled=changes.get("qty"))

    def correct(house: Market, day: date) -> None:
        house.undo(row)
        house.happen(fill)
        _takes_back(house, day, fill, "trade_correct")

    if people:
        return Planted(((kind, fill.execution_id),), people=people)
    return Planted(((kind, fill.execution_id),), next_statement=correct)


@fault
def wrong_side(house: Market, day: date, symbol: str) -> Planted:
    """The broker has it on the other side, and corrects itself the next day."""
    return _other_terms("side", house, day, symbol, "", side="sell")


@fault
def price_off_by_a_tick(house: Market, day: date, symbol: str) -> Planted:
    return _other_terms("price", house, day, symbol, "written_off", price=lambda fill: fill.price + D("0.01"))


@fault
def other_quantity(house: Market, day: date, symbol: str) -> Planted:
    return _other_terms("qty", house, day, symbol, "written_off", qty=D(50))


@fault
def other_symbol(house: Market, day: date, symbol: str) -> Planted:
    """Executed in another symbol than ordered, by the statement; corrected the next day."""
    return _other_terms("symbol", house, day, symbol, "", symbol="ZZZ")


@fault
def other_trade_date(house: Market, day: date, symbol: str) -> Planted:
    """Dated on the day before: nothing moves, and two people know why."""
    fill, order = house.ours(day, symbol)
    early = fill.occurred_at - (day - previous_session(day).date)
    house.happen(fill)
    house.print_line(fill, occurred_at=early)
    house.tell_order(order)
    return Planted((("trade_date", fill.execution_id),), people="explained")


@fault
def bust(house: Market, day: date, symbol: str) -> Planted:
    """Taken back on the same day, and nobody told us until the next morning."""
    fill = house.both(day, symbol)
    house.undo(_row(house, fill))
    report = _takes_back(house, day, fill, "trade_bust")
    house.owe(day, -fill.qty)
    return Planted((("bust_or_correction", fill.execution_id),), morning=lambda house, _: house.book(report))


def _row(house: Market, fill: BrokerFillActivity) -> Happening:
    return next(row for row in house.happened if row.name == fill.execution_id)


@fault
def correction(house: Market, day: date, symbol: str) -> Planted:
    """The broker corrects the price on the same day; two people take its word."""
    fill = house.both(day, symbol)
    house.undo(_row(house, fill))
    price = fill.price - D("0.25")
    house.happen(fill, price=price)
    _takes_back(house, day, fill, "trade_correct", price=price)
    return Planted((("bust_or_correction", fill.execution_id),), people="written_off")


@fault
def late_fill(house: Market, day: date, symbol: str) -> Planted:
    """We have it, and the broker books and tells it a day later."""
    fill, order = house.ours(day, symbol)
    house.tell_order(order, "accepted", 0)

    def late(house: Market, _: date) -> None:
        house.tell(fill)
        house.tell_order(order)

    return Planted((("missing_at_broker", fill.execution_id),), next_statement=late)


@fault
def lost_line(house: Market, day: date, symbol: str) -> Planted:
    """The broker's positions and cash have it, and its line is missing; the next statement brings it."""
    fill, order = house.ours(day, symbol)
    house.happen(fill)
    house.tell_order(order)
    _untold(house, fill, 1)

    def late(house: Market, _: date) -> None:
        house.print_line(fill)
        _untold(house, fill, -1)

    return Planted((("missing_at_broker", fill.execution_id),), next_statement=late)


@fault
def external_trade(house: Market, day: date, symbol: str) -> Planted:
    """Placed elsewhere: an order and an execution that nobody here knows."""
    house.number += 1
    order = Order(symbol=symbol, side="buy", qty=D(7), broker_order_id=f"{house.code}-web{house.number}",
                  client_order_id=f"web-{house.code}-{house.number}")  # fmt: skip
    fill = house.report(order, 7, house.mark(symbol), noon(day, 200))
    house.tell(fill)
    house.tell_order(order)
    return Planted((("missing_internal", fill.execution_id),), people="written_off")


# -- positions, cash and fees


def _make_long(house: Market, day: date, symbol: str) -> Decimal:
    """At least something to hold; returns the quantity."""
    if house.qty(symbol) <= 0:
        house.both(day, symbol, "buy", int(-house.qty(symbol)) + 40)
    return house.qty(symbol)


def _split(house: Market, day: date, symbol: str) -> None:
    house.happened.append(Happening(noon(day, 400), "split", symbol, ratio=D(2)))
    house.marks[symbol] = (house.marks[symbol] / 2).quantize(D("0.01"))


@fault
def split_told(house: Market, day: date, symbol: str) -> Planted:
    qty = _make_long(house, day, symbol)
    _split(house, day, symbol)
    name = house.other("SPLIT", f"split {day}", symbol=symbol, qty=str(qty), date=str(day), description="2 for 1")
    return Planted((("corporate_action", f"activity {name}"),), people="written_off")


@fault
def split_untold(house: Market, day: date, symbol: str) -> Planted:
    house.untold[symbol] += _make_long(house, day, symbol)
    _split(house, day, symbol)
    return Planted((("corporate_action", f"position {symbol}"),), people="written_off")


@fault
def transfer_told(house: Market, day: date, _: str) -> Planted:
    name = house.other("CSW", f"wire {day}", "-2500.00", date=str(day), description="wire out")
    return Planted((("cash", f"activity {name}"),), people="written_off")


@fault
def transfer_untold(house: Market, day: date, _: str) -> Planted:
    house.their_cash += D("725.50")
    house.untold["cash"] += D("725.50")
    return Planted((("cash", "cash USD"),), people="written_off")


@fault
def dividend_of_nothing_held(house: Market, day: date, _: str) -> Planted:
    name = house.other("DIV", f"odd dividend {day}", "12.00", symbol="IBM", date=str(day), description="IBM")
    return Planted((("cash", f"activity {name}"),), people="written_off")


@fault
def other_cost(house: Market, day: date, symbol: str) -> Planted:
    """The broker carries the position at another cost: a wash sale."""
    _make_long(house, day, symbol)
    house.happened.append(Happening(noon(day, 400), "wash", symbol, cost=D("0.35")))
    return Planted((("cost_basis", f"cost {symbol}"),), people="written_off")


@fault
def activity_told_twice(house: Market, day: date, symbol: str) -> Planted:
    """One dividend on two lines, paid once."""
    _make_long(house, day, symbol)
    name = house.other("DIV", f"twice {day}", "6.40", symbol=symbol, date=str(day), description="quarterly")
    house.others.append(dict(house.others[-1]))
    house.untold["cash"] -= D("6.40")
    return Planted((("duplicate", f"activity {name}"),), people="explained")


def _option(house: Market, day: date, symbol: str) -> str:
    contract = f"{symbol}{day:%y%m%d}C00900000"
    house.both(day, contract, "buy", 2)
    return contract


@fault
def option_expired(house: Market, day: date, symbol: str) -> Planted:
    contract = _option(house, day, symbol)
    house.happened.append(Happening(noon(day, 400), "expiry", contract, signed=D(-2)))
    name = house.other("OPEXP", f"expiry {contract}", symbol=contract, qty="-2", date=str(day), description="expired")
    return Planted((("option_event", f"activity {name}"),), people="written_off")


@fault
def option_gone(house: Market, day: date, symbol: str) -> Planted:
    contract = _option(house, day, symbol)
    house.happened.append(Happening(noon(day, 400), "expiry", contract, signed=D(-2)))
    house.untold[contract] -= 2
    return Planted((("option_event", f"position {contract}"),), people="written_off")


@fault
def fee_changed(house: Market, day: date, _: str) -> Planted:
    """The broker charges for the session before more than the schedule says; without one, anything is too much."""
    since = max([*(each for each in house.fees_due if each < day)], default=None)
    if since is None:
        since = day
        house.other("FEE", f"odd fee {day}", "-3.21", date=str(day), description=f"fees on {day}")
    else:
        house.charge_fees(day, 2)
    return Planted((("fee", f"fees of {since}"),), people="written_off")


@fault
def equity_off(house: Market, day: date, _: str) -> Planted:
    """The broker's equity is 40 dollars more than its cash and positions are worth; the next day it is right again, and
    that is 40 less."""
    house.equity_error = D(40)

    def right(house: Market, _: date) -> None:
        house.equity_error = D(0)

    after = (("cash", unexplained(next_session(day).date)),)
    return Planted((("cash", unexplained(day)),), next_statement=right, again=after)


def unexplained(day: date) -> str:
    return f"pnl unexplained {day}"


# -- orders


@fault
def order_ended_differently(house: Market, day: date, symbol: str) -> Planted:
    """Canceled there, resting here until the next morning."""
    order = house.order(symbol, "buy", 5, noon(day))
    house.tell_order(order, "canceled", 0)
    return Planted(
        (("order_status", f"order {order.client_order_id}"),), morning=lambda *_: _set_status(order, "canceled")
    )


def _set_status(order: Order, status: str) -> None:
    order.status = status
    order.save(update_fields=["status"])


@fault
def order_unknown_there(house: Market, day: date, symbol: str) -> Planted:
    """It never arrived, and the next morning we know."""
    order = house.order(symbol, "buy", 5, noon(day))
    return Planted(
        (("missing_at_broker", f"order {order.client_order_id}"),),
        morning=lambda *_: _set_status(order, "never_arrived"),
    )


@fault
def order_unknown_here(house: Market, day: date, symbol: str) -> Planted:
    house.number += 1
    order = Order(symbol=symbol, side="buy", qty=D(7), broker_order_id=f"{house.code}-web{house.number}",
                  client_order_id=f"web-{house.code}-{house.number}")  # fmt: skip
    house.tell_order(order, "canceled", 0)
    return Planted((("missing_internal", f"order {order.client_order_id}"),), people="explained")


# -- statements


def _source(day: date, section: str) -> tuple[Key, ...]:
    return (("stale_or_incomplete_source", f"statement {day} {section}"),)


@spoils
def stale_file(house: Market, day: date, _: str) -> Planted:
    """No statement comes until the next morning."""
    return Planted(_source(day, "source"), content=lambda raw: None)


@spoils
def truncated(house: Market, day: date, _: str) -> Planted:
    return Planted(_source(day, "source"), content=lambda raw: raw[: len(raw) * 2 // 3], refused="statement_truncated")


@spoils
def other_account(house: Market, day: date, _: str) -> Planted:
    def spoil(raw: bytes) -> bytes:
        return raw.replace(house.account.broker_account.encode(), b"U-nobody")

    return Planted(_source(day, "source"), content=spoil, refused="statement_other_account")


@spoils
def other_date(house: Market, day: date, _: str) -> Planted:
    """The file of another day under this day's name."""

    def spoil(raw: bytes) -> bytes:
        body = json.loads(raw)
        for row in body["activities"]:
            if "transaction_time" in row:
                row["transaction_time"] = noon(day - timedelta(days=35)).isoformat()
        return json.dumps(body).encode()

    return Planted(_source(day, "source"), content=spoil, refused="statement_other_date")


@spoils
def without_positions(house: Market, day: date, _: str) -> Planted:
    """Cut short at a section: what is not told is not flat."""

    def spoil(raw: bytes) -> bytes:
        body = json.loads(raw)
        del body["positions"]
        return json.dumps(body).encode()

    return Planted(_source(day, "positions"), content=spoil)


@spoils
def answers_apart(house: Market, day: date, _: str) -> Planted:
    """The broker says itself that its answers did not fit together."""

    def spoil(raw: bytes) -> bytes:
        return json.dumps({**json.loads(raw), "complete": False}).encode()

    return Planted(_source(day, "file"), content=spoil)
