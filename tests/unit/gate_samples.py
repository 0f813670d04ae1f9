"""A calm snapshot for the gates' tests, orders to judge by it, and how to say what is different."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.values import OrderIntent, OrderType, Side, TimeInForce
from backend.tradingbot.risk.exposure import EMPTY_BOOK, EMPTY_NAME, BookRisk, UnitRisk, name_risk, part_risk
from backend.tradingbot.risk.gates import GATES, Check, Quote, RiskSnapshot, evaluate
from backend.tradingbot.risk.limit_profiles import PROFILES
from backend.tradingbot.risk.limits import Limit, LimitSet
from backend.tradingbot.risk.snapshot import Book, MarketSession, Permit, Rates, Recent, Resting, StrategyMode
from backend.tradingbot.risk.trading_state import ScopeState
from backend.tradingbot.risk.unit_risk import Known, Mark, SuppliedGreeks, unit_risk

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
QUOTE = Quote(Decimal("100"), NOW, bid=Decimal("99"), ask=Decimal("101"))
ACCOUNT = "account:main"
CALM_SECOND = int(NOW.timestamp())
OPTION = "AAPL260619C00100000"


def order(
    side: Side = Side.BUY,
    qty: str = "10",
    limit: str | None = "100",
    symbol: str = "AAPL",
    tif: TimeInForce = TimeInForce.DAY,
    **more: Any,
) -> OrderIntent:
    kind = OrderType.MARKET if limit is None else OrderType.LIMIT
    price = None if limit is None else Decimal(limit)
    return OrderIntent("order-1", "main", "trend", symbol, side, Decimal(qty), kind, tif, limit_price=price, **more)


def buy(qty: str = "10", limit: str | None = "100", **more: Any) -> OrderIntent:
    return order(Side.BUY, qty, limit, **more)


def sell(qty: str = "10", limit: str | None = "100", **more: Any) -> OrderIntent:
    return order(Side.SELL, qty, limit, **more)


def share_unit(price: str = "100", beta: str | None = "1") -> UnitRisk:
    supplied = None if beta is None else SuppliedGreeks({"beta": Decimal(beta)}, NOW, "feed")
    mark = Mark(Decimal(price), NOW)
    unit, problem = unit_risk(Known("AAPL", NOW, mark, None, supplied, None, Decimal(900), Decimal("0.04")))
    assert unit is not None, problem
    return unit


def option_unit(spot: str = "100", symbol: str = OPTION, **greeks: str) -> UnitRisk:
    values = {name: Decimal(value) for name, value in {"iv": "0.25", **greeks}.items()}
    supplied = SuppliedGreeks(values, NOW, "feed")
    mark = Mark(Decimal(spot), NOW)
    unit, problem = unit_risk(Known(symbol, NOW, None, mark, supplied, None, Decimal(900), Decimal("0.04")))
    assert unit is not None, problem
    return unit


def limits(profile: str = "default", elsewhere: tuple[Limit, ...] = (), **changes: str | int | None) -> LimitSet:
    """The profile's limits of the account with ``changes`` (None takes one away), and rows at other scopes."""
    required = PROFILES[profile].values
    values: dict[str, Any] = {**required, **changes}
    rows = tuple(Limit(ACCOUNT, kind, Decimal(value), 1) for kind, value in values.items() if value is not None)
    return LimitSet(ACCOUNT, tuple(required), (*rows, *elsewhere))


def book(
    position: Decimal | None,
    buys: Decimal,
    sells: Decimal,
    *,
    unit: UnitRisk | None,
    others: BookRisk = EMPTY_BOOK,
    **changes: Any,
) -> Book:
    """The book in which the name stands as given, beside ``others``."""
    name = name_risk(unit, position or Decimal(0), buys, sells)
    part = part_risk(unit, position or Decimal(0), buys, sells)
    whole = Book(
        sums=others.replaced(EMPTY_NAME, name),
        name=name,
        unit=unit,
        unit_problem="" if unit else "no price of AAPL",
        equity=Decimal(1_000_000),
        oldest_greeks=None,
        strategy_gross=name.gross,
        strategy_position=position or Decimal(0),
        strategy_buys=buys,
        strategy_sells=sells,
        strategy_low=part.low,
        strategy_high=part.high,
        strategy_known=part.known,
    )
    return replace(whole, **changes)


def rates(key: int = 1, strategy: int = 1, account: int = 1) -> Rates:
    """That many orders in this very second, this one included."""
    return Rates(Decimal(CALM_SECOND), *(((CALM_SECOND, count),) for count in (key, strategy, account)))


def snapshot(**changes: Any) -> RiskSnapshot:
    """Calm but for ``changes``; ``others``, ``unit`` and what else begins with ``book_`` shape the book."""
    shape = {name.removeprefix("book_"): changes.pop(name) for name in list(changes) if name.startswith("book_")}
    unit, others = changes.pop("unit", share_unit()), changes.pop("others", EMPTY_BOOK)
    held = {name: changes.get(name, Decimal(0)) for name in ("position", "working_buys", "working_sells")}
    told = (value if value is not None and value.is_finite() else Decimal(0) for value in held.values())
    whole = book(*told, unit=unit, others=others, **shape)
    calm = RiskSnapshot(
        now=NOW,
        id_used=False,
        missing_breakers=(),
        open_breakers=(),
        ramps=(),
        missing_states=(),
        trading_states=(ScopeState("firm", "active"),),
        flattening=False,
        quote=QUOTE,
        market_data_error=None,
        data_stops=(),
        feeds=(),
        max_tick_age=Decimal("30"),
        symbols=frozenset({"AAPL", "MSFT", OPTION}),
        cash=Decimal("1000"),
        reserved_cash=Decimal("0"),
        position=Decimal("0"),
        working_buys=Decimal("0"),
        working_sells=Decimal("0"),
        doubtful_orders=0,
        market_collar_bps=100,
        equity_known=True,
        evaluated_age=Decimal(0),
        firm_evaluated_age=Decimal(0),
        max_evaluated_age=Decimal(15),
        limits=limits(),
        headroom=(),
        book=whole,
        resting=Resting(None, None, 0, 0),
        recent=Recent(0, 0, 0, None),
        rates=rates(),
        session=MarketSession("XNYS", True, None, NOW.replace(hour=21), False),
        blocks=(),
        volatility=None,
        permit=None,
        strategy_mode=StrategyMode("live", "", False, False, False, ""),
    )
    return replace(calm, **changes)


def denials(asked: OrderIntent, **changes: Any) -> dict[str, str]:
    """Gate to code, of the gates that refused; the decision must agree with them."""
    decision = evaluate(asked, snapshot(**changes))
    assert tuple(check.gate for check in decision.checks) == tuple(GATES)
    refused = {check.gate: check.code for check in decision.checks if not check.passed}
    assert decision.allowed is (refused == {})
    return refused


def answer(gate: str, asked: OrderIntent, **changes: Any) -> Check:
    return next(check for check in evaluate(asked, snapshot(**changes)).checks if check.gate == gate)


def figures(gate: str, asked: OrderIntent, **changes: Any) -> tuple[bool, str, str | None, str | None, str | None]:
    """Passed, code, value, limit, headroom."""
    check = answer(gate, asked, **changes)
    return check.passed, check.code, check.value, check.limit, check.headroom


def permit_for(asked: OrderIntent, **changes: Any) -> Permit:
    given = Permit(
        permit_id=str(asked.permit_id),
        account=asked.account,
        strategy=asked.strategy,
        symbol=asked.symbol,
        side=asked.side.value,
        qty=asked.qty,
        limit_price=asked.limit_price,
        expires_at=NOW.replace(minute=5),
        used=False,
        by="risk officer",
    )
    return replace(given, **changes)
