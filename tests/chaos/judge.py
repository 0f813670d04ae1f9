"""The judge: the broker's own ledger against our books and what our clients were told. Pure; nothing is repaired.

It knows nothing of the product's code: two sets of books in, findings out. Findings are ``duplicated`` (an id was
sent or kept more than once), ``lost`` (the broker or a client knows what we do not), ``unresolved`` (we still do not
know), and ``books`` (both know, and disagree).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

ZERO = Decimal(0)
WORKING_HERE = frozenset({"accepted", "partially_filled"})
UNRESOLVED_HERE = frozenset({"new", "pending_submit", "in_doubt", "pending_cancel"})
NEVER_THERE = frozenset({"denied", "never_arrived"})
WORKING_THERE = frozenset({"new", "accepted", "partially_filled"})


@dataclass(frozen=True)
class TheirOrder:
    """One order in the broker's ledger."""

    client_order_id: str
    broker_order_id: str
    symbol: str
    side: str
    qty: Decimal
    status: str
    filled_qty: Decimal = ZERO
    filled_value: Decimal = ZERO
    refused_duplicates: int = 0


@dataclass(frozen=True)
class OurOrder:
    """One order in our database; ``journal_status`` is where its last journal entry leaves it, None without one.

    ``watched`` is an order that was given up and is still looked for: its reservation stays until its day ends.
    """

    client_order_id: str
    broker_order_id: str | None
    symbol: str
    side: str
    qty: Decimal
    status: str
    filled_qty: Decimal = ZERO
    avg_price: Decimal | None = None
    reserved_price: Decimal = ZERO
    journal_status: str | None = None
    watched: bool = False


@dataclass(frozen=True)
class Execution:
    """One execution, in either set of books."""

    execution_id: str
    broker_order_id: str
    symbol: str
    side: str
    qty: Decimal
    price: Decimal


@dataclass(frozen=True)
class TheirBooks:
    """The broker's ledger."""

    orders: Sequence[TheirOrder]
    executions: Sequence[Execution]
    positions: Mapping[str, Decimal]
    cash: Decimal


@dataclass(frozen=True)
class OurBooks:
    """Our database: one account, with everything that is derived from its orders.

    ``running`` are running sums by name: what is kept, and what it comes to when it is added up again.
    """

    orders: Sequence[OurOrder]
    executions: Sequence[Execution]
    positions: Mapping[str, Decimal]
    cash: Decimal | None
    reserved_cash: Decimal
    journal_problems: Sequence[str] = ()
    running: Mapping[str, tuple[Decimal, Decimal]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a client was told about one of its ids."""

    client_order_id: str
    http_status: int
    status: str
    broker_order_id: str | None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: str
    subject: str
    text: str


@dataclass
class Verdict:
    """Everything that is wrong."""

    findings: list[Finding] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many ids or things of this kind are wrong."""
        return len({finding.subject for finding in self.findings if finding.kind == kind})

    @property
    def clean(self) -> bool:
        return not self.findings

    def books(self) -> str:
        """``books agree``, or how many things disagree."""
        return "books agree" if not self.count("books") else f"books disagree in {self.count('books')}"


def judge(theirs: TheirBooks, ours: OurBooks, sends: Mapping[str, int], answers: Iterable[Answer]) -> Verdict:
    """Compare everything. ``sends`` counts, by client order id, how often a send began."""
    told = list(answers)
    return Verdict([
        *_duplicates(theirs, ours, sends),
        *_orders(theirs, ours),
        *_executions(theirs, ours),
        *_sums(theirs, ours),
        *_running(ours),
        *_journal(ours),
        *_clients(theirs, ours, told),
    ])  # fmt: skip


def _duplicates(theirs: TheirBooks, ours: OurBooks, sends: Mapping[str, int]) -> Iterator[Finding]:
    for name, count in Counter(order.client_order_id for order in theirs.orders).items():
        if count > 1:
            yield Finding("duplicated", name, f"{count} orders at the broker")
    for order in theirs.orders:
        if order.refused_duplicates:
            yield Finding("duplicated", order.client_order_id, f"sent again {order.refused_duplicates} time(s)")
    for name, count in sends.items():
        if count > 1:
            yield Finding("duplicated", name, f"{count} sends began")
    for name, count in Counter(order.client_order_id for order in ours.orders).items():
        if count > 1:
            yield Finding("duplicated", name, f"{count} orders here")


def _orders(theirs: TheirBooks, ours: OurBooks) -> Iterator[Finding]:
    there = {order.client_order_id: order for order in theirs.orders}
    here: dict[str, list[OurOrder]] = defaultdict(list)
    for order in ours.orders:
        here[order.client_order_id].append(order)
    for name in there.keys() - here.keys():
        yield Finding("lost", name, f"{there[name].status} at the broker, not known here")
    for name, orders in here.items():
        for order in orders:
            if order.status in UNRESOLVED_HERE:
                yield Finding("unresolved", name, f"{order.status} here")
            yield from _pair(order, there.get(name))


def _pair(ours: OurOrder, theirs: TheirOrder | None) -> Iterator[Finding]:
    """One order here and what the broker has under its id."""
    name = ours.client_order_id
    if theirs is None:
        if ours.status not in UNRESOLVED_HERE | NEVER_THERE | {"rejected"} or ours.broker_order_id:
            yield Finding("books", name, f"{ours.status} here, not at the broker")
        return
    expected = {theirs.status} if theirs.status not in WORKING_THERE else WORKING_HERE
    if ours.status not in expected | UNRESOLVED_HERE:
        yield Finding("books", name, f"{ours.status} here, {theirs.status} at the broker")
    if ours.broker_order_id != theirs.broker_order_id and ours.status not in UNRESOLVED_HERE:
        yield Finding("books", name, f"broker order {ours.broker_order_id} here, {theirs.broker_order_id} there")
    if (ours.symbol, ours.side, ours.qty) != (theirs.symbol, theirs.side, theirs.qty):
        yield Finding("books", name, f"{ours.side} {ours.qty} {ours.symbol} here, {theirs.side} {theirs.qty} "
                                     f"{theirs.symbol} at the broker")  # fmt: skip
    if ours.filled_qty != theirs.filled_qty:
        yield Finding("books", name, f"filled {ours.filled_qty} here, {theirs.filled_qty} at the broker")
    elif theirs.filled_qty and not _same_price(ours.avg_price, theirs.filled_value / theirs.filled_qty):
        yield Finding("books", name, f"average price {ours.avg_price} here, "
                                     f"{theirs.filled_value / theirs.filled_qty} at the broker")  # fmt: skip


def _same_price(ours: Decimal | None, theirs: Decimal) -> bool:
    """Within a rounding of the ninth decimal, once for each partial fill of a small order."""
    return ours is not None and abs(ours - theirs) <= Decimal("1e-7")


def _executions(theirs: TheirBooks, ours: OurBooks) -> Iterator[Finding]:
    there = {execution.execution_id: execution for execution in theirs.executions}
    here = {execution.execution_id: execution for execution in ours.executions}
    if len(here) != len(ours.executions):
        yield Finding("books", "executions", f"{len(ours.executions) - len(here)} booked twice")
    for name in there.keys() - here.keys():
        yield Finding("lost", name, f"an execution of {there[name].qty} {there[name].symbol} is not booked here")
    for name in here.keys() - there.keys():
        yield Finding("books", name, "an execution is booked here that the broker has not got")
    for name in there.keys() & here.keys():
        if there[name] != here[name]:
            yield Finding("books", name, f"{here[name]} here, {there[name]} at the broker")


def _sums(theirs: TheirBooks, ours: OurBooks) -> Iterator[Finding]:
    for symbol in sorted(theirs.positions.keys() | ours.positions.keys()):
        there, here = theirs.positions.get(symbol, ZERO), ours.positions.get(symbol, ZERO)
        if there != here:
            yield Finding("books", symbol, f"position {here} here, {there} at the broker")
    if ours.cash != theirs.cash:
        yield Finding("books", "cash", f"{ours.cash} here, {theirs.cash} at the broker")
    still_open = [o for o in ours.orders if o.status in WORKING_HERE | UNRESOLVED_HERE or o.watched]
    owed = sum((order.reserved_price * max(order.qty - order.filled_qty, ZERO) for order in still_open), ZERO)
    if ours.reserved_cash != owed:
        yield Finding("books", "reserved cash", f"{ours.reserved_cash} is reserved, {len(still_open)} open orders "
                                                f"account for {owed}")  # fmt: skip


def _running(ours: OurBooks) -> Iterator[Finding]:
    for name, (kept, added_up) in ours.running.items():
        if kept != added_up:
            yield Finding("books", name, f"{kept} is kept, it adds up to {added_up}")


def _journal(ours: OurBooks) -> Iterator[Finding]:
    for problem in ours.journal_problems:
        yield Finding("books", "journal", problem)
    for order in ours.orders:
        if order.journal_status != order.status:
            yield Finding("books", order.client_order_id, f"{order.status}, but the journal leaves it "
                                                          f"{order.journal_status}")  # fmt: skip


def _clients(theirs: TheirBooks, ours: OurBooks, answers: Sequence[Answer]) -> Iterator[Finding]:
    here = {order.client_order_id: order for order in ours.orders}
    there = {order.client_order_id for order in theirs.orders}
    told: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        name = answer.client_order_id
        if name not in here:
            yield Finding("lost", name, f"a client was answered {answer.http_status} {answer.status}; not known here")
            continue
        if answer.broker_order_id:
            told[name].add(answer.broker_order_id)
        if answer.status == "denied" and name in there:
            yield Finding("books", name, "a client was told denied; the broker has it")
    for name, ids in told.items():
        if ids != {here[name].broker_order_id}:
            yield Finding("books", name, f"clients were told {sorted(ids)}, it is {here[name].broker_order_id}")
