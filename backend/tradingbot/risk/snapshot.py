"""What the gates see and what they say: one frozen snapshot in, one check a gate out.

Invariants: every field is required, so that nothing passes because somebody forgot it; None means "no answer", which
denies; a snapshot holds plain values only, so that it can be stored and judged again (``snapshot_json``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.occ import multiplier_of
from backend.tradingbot.core.values import OrderIntent, Side
from backend.tradingbot.risk.exposure import BookRisk, NameRisk, UnitRisk, name_risk
from backend.tradingbot.risk.limits import LimitSet
from backend.tradingbot.risk.trading_state import ScopeState
from backend.tradingbot.risk.volatility import Volatility

BPS = Decimal(10_000)


@dataclass(frozen=True)
class Quote:
    """The last good tick of a symbol. ``as_of`` is the earlier of exchange time and receipt time; ``stopped_by`` is the
    check that has refused the ticks since."""

    price: Decimal
    as_of: datetime
    bid: Decimal | None = None
    ask: Decimal | None = None
    stopped_by: str | None = None


@dataclass(frozen=True)
class StoppedData:
    """An open stop of the symbol's market data, or of its underlying's. ``evidence`` is JSON, as text."""

    symbol: str
    check: str
    source: str
    since: datetime
    evidence: str


@dataclass(frozen=True)
class FeedSeen:
    """A declared feed that brings the symbol, and when any of its symbols was heard last."""

    code: str
    last_seen_at: datetime | None
    max_silence_seconds: int


@dataclass(frozen=True)
class OpenBreaker:
    scope: str
    reason: str


@dataclass(frozen=True)
class Ramp:
    """A breaker was reset at ``reset_at``: new risk begins with ``start_pct`` percent of the largest order, and may be
    all of it again after ``seconds``."""

    scope: str
    reset_at: datetime
    seconds: Decimal
    start_pct: Decimal


@dataclass(frozen=True)
class Resting:
    """The account's own open orders in the symbol. ``unpriced`` ones are market orders: they meet any price."""

    lowest_sell: Decimal | None
    highest_buy: Decimal | None
    unpriced_sells: int
    unpriced_buys: int


@dataclass(frozen=True)
class Recent:
    """Orders that were let through lately, this one not included.

    ``duplicates``: same strategy, symbol, side, quantity and price, within the duplicate window. ``repeats``: the same
    pattern (strategy, symbol, side, quantity), within the repeat window. ``reductions``: orders of the account that
    only reduced, in 60 s. ``disabled_pattern`` says since when and why the pattern is disabled.
    """

    duplicates: int
    repeats: int
    reductions: int
    disabled_pattern: str | None


@dataclass(frozen=True)
class Rates:
    """New orders in the last 60 s by whole seconds, this one included: (epoch second, count), oldest first."""

    now: Decimal
    key: tuple[tuple[int, int], ...]
    strategy: tuple[tuple[int, int], ...]
    account: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class MarketSession:
    """The account's calendar at the moment of the order. ``opens_at`` is the next opening when it is closed now."""

    calendar: str
    is_open: bool
    opens_at: datetime | None
    closes_at: datetime | None
    early_close: bool


@dataclass(frozen=True)
class Block:
    """Somebody or the end of day forbids new risk in ``scope`` until it is resolved."""

    scope: str
    reason: str


@dataclass(frozen=True)
class Headroom:
    """What all accounts together take in a scope above the account now: gross with its limit if it has one, the
    measures before the stress cells at their lowest and highest (their limits are in the limit set), and how many
    parts have no known risk. ``oldest_greeks`` is of any account. What an older build stored had the first three.
    """

    scope: str
    limit: Decimal | None
    reserved: Decimal
    low: tuple[Decimal, ...] = ()
    high: tuple[Decimal, ...] = ()
    unknown: int = 0
    oldest_greeks: datetime | None = None


@dataclass(frozen=True)
class Book:
    """The account's sums before the order, this name's part in them, and what one unit of the name risks.

    ``strategy_gross``, ``strategy_low``, ``strategy_high`` and ``strategy_position`` are the part of this strategy in
    this name, on which headroom above the account is counted; ``strategy_buys`` and ``strategy_sells`` are its open
    orders. Measures that are not there (an older build's snapshot) are not known, which denies where they are limited.
    """

    sums: BookRisk | None
    name: NameRisk
    unit: UnitRisk | None
    unit_problem: str
    equity: Decimal | None
    oldest_greeks: datetime | None
    strategy_gross: Decimal
    strategy_position: Decimal
    strategy_buys: Decimal
    strategy_sells: Decimal
    strategy_low: tuple[Decimal, ...] = ()
    strategy_high: tuple[Decimal, ...] = ()
    strategy_known: bool = True


@dataclass(frozen=True)
class Permit:
    """A risk officer's word for one specific order."""

    permit_id: str
    account: str
    strategy: str
    symbol: str
    side: str
    qty: Decimal
    limit_price: Decimal | None
    expires_at: datetime
    used: bool
    by: str


@dataclass(frozen=True)
class StrategyMode:
    """How far the strategy's build is trusted. ``mode`` is shadow, canary or live, None when the build is not on file.

    ``reducing``: it was demoted and is not flat yet. ``cap_reached`` names the canary's daily cap that this order would
    pass, else it is empty.
    """

    mode: str | None
    build_id: str
    withdrawn: bool
    known_builds_only: bool
    reducing: bool
    cap_reached: str


@dataclass(frozen=True)
class RiskSnapshot:
    """All that the gates may know, read under the account's lock. None means "no answer", which denies.

    ``position`` is signed executed quantity; ``working_sells`` and ``working_buys`` are the unfilled quantities of
    orders that work or are in doubt, in this symbol. ``evaluated_age`` and ``firm_evaluated_age`` are the seconds since
    those breakers were last evaluated, None when they never were. ``flattening`` says that the flatten service placed
    the order.
    """

    now: datetime
    id_used: bool
    missing_breakers: tuple[str, ...]
    open_breakers: tuple[OpenBreaker, ...]
    ramps: tuple[Ramp, ...]
    missing_states: tuple[str, ...]
    trading_states: tuple[ScopeState, ...]
    flattening: bool
    quote: Quote | None
    market_data_error: str | None
    data_stops: tuple[StoppedData, ...]
    feeds: tuple[FeedSeen, ...]
    max_tick_age: Decimal
    symbols: frozenset[str]
    cash: Decimal | None
    reserved_cash: Decimal
    position: Decimal
    working_buys: Decimal
    working_sells: Decimal
    doubtful_orders: int
    market_collar_bps: int
    equity_known: bool
    evaluated_age: Decimal | None
    firm_evaluated_age: Decimal | None
    max_evaluated_age: Decimal
    limits: LimitSet
    headroom: tuple[Headroom, ...]
    book: Book
    resting: Resting
    recent: Recent
    rates: Rates | None
    session: MarketSession | None
    blocks: tuple[Block, ...]
    volatility: Volatility | None
    permit: Permit | None
    strategy_mode: StrategyMode

    def is_reduction(self, order: OrderIntent) -> bool:
        """Opposite to the executed position and within it, less what already works or is in doubt on that side."""
        if order.side is Side.SELL:
            return order.qty <= self.position - self.working_sells
        return order.qty <= -self.position - self.working_buys

    def has_fresh_quote(self) -> bool:
        quote = self.quote
        return quote is not None and (self.now - quote.as_of).total_seconds() <= self.max_tick_age

    def name_after(self, order: OrderIntent) -> NameRisk:
        """This name at its worst with ``order`` among the open ones."""
        return self._after(order)[1]

    def book_after(self, order: OrderIntent) -> BookRisk | None:
        """The account's sums with ``order`` among the open ones; None when they are not known."""
        return self._after(order)[2]

    def _after(self, order: OrderIntent) -> tuple[OrderIntent, NameRisk, BookRisk | None]:
        """Several gates ask for the same order, so the last answer is kept; it is no field and compares not."""
        kept: tuple[OrderIntent, NameRisk, BookRisk | None] | None = self.__dict__.get("_kept")
        if kept is None or kept[0] is not order:
            buys = self.working_buys + (order.qty if order.side is Side.BUY else 0)
            sells = self.working_sells + (order.qty if order.side is Side.SELL else 0)
            name, sums = name_risk(self.book.unit, self.position, buys, sells), self.book.sums
            kept = (order, name, None if sums is None else sums.replaced(self.book.name, name))
            self.__dict__["_kept"] = kept
        return kept


@dataclass(frozen=True)
class Check:
    """One gate's answer. Figures are plain decimal strings or None."""

    gate: str
    passed: bool
    code: str
    message: str
    remedy: str = ""
    value: str | None = None
    limit: str | None = None
    headroom: str | None = None

    def as_dict(self) -> dict[str, Any]:
        names = ("gate", "passed", "value", "limit", "headroom", "code", "message", "remedy")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Decision:
    allowed: bool
    checks: tuple[Check, ...] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        return {"allowed": self.allowed, "checks": [check.as_dict() for check in self.checks]}


def reserved_price(order: OrderIntent, snapshot: RiskSnapshot) -> Decimal | None:
    """The price at which one unit is reserved: the limit, or the touch plus the collar; None when not known."""
    if order.limit_price is not None:
        return order.limit_price
    if snapshot.quote is None:
        return None
    touch = snapshot.quote.ask if order.side is Side.BUY else snapshot.quote.bid
    collar = Decimal(snapshot.market_collar_bps) / BPS * order.side.sign
    return (touch or snapshot.quote.price) * (1 + collar)


def dearest_price(order: OrderIntent, snapshot: RiskSnapshot) -> Decimal | None:
    """The price at which the order's value is counted: for a purchase the one it reserves; a sale may fill far above
    its own limit, so for it the highest of limit, last and bid. None when not known."""
    if order.side is Side.BUY:
        return reserved_price(order, snapshot)
    quote = snapshot.quote
    known = [order.limit_price, *([quote.price, quote.bid] if quote is not None else [])]
    return max((price for price in known if price is not None), default=None)


def notional(order: OrderIntent, snapshot: RiskSnapshot) -> Decimal | None:
    """Quantity times ``dearest_price`` times multiplier; None when one of them is not known."""
    price, multiplier = dearest_price(order, snapshot), multiplier_of(order.symbol)
    return None if price is None or multiplier is None else order.qty * price * multiplier
