"""The one frozen snapshot that an order is judged by. Read under the account's lock when the order is to be placed.

Everything that the gates may know comes in one statement, made of sections (``risk_sections``) whose answers become
parts of the snapshot (``risk_parts``); the market data store was asked before, in its one round trip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.data.calendar import session_date
from backend.tradingbot.execution.routing import CanaryRule
from backend.tradingbot.hot_state import HotState
from backend.tradingbot.models import Account, RiskRow, Strategy
from backend.tradingbot.risk.gates import OpenBreaker, Quote, RiskSnapshot
from backend.tradingbot.risk.limits import scopes_of
from backend.tradingbot.risk.promotion import CanaryCaps, CanaryDay
from backend.tradingbot.risk.snapshot import Rates
from backend.tradingbot.risk.trading_state import ScopeState
from backend.tradingbot.risk.unit_risk import get_ready_for_options
from backend.tradingbot.selectors import modes
from backend.tradingbot.selectors import risk_parts as parts
from backend.tradingbot.selectors.blocks import blocks_of
from backend.tradingbot.selectors.risk_parts import MarketReading, shared_scopes
from backend.tradingbot.selectors.risk_sections import COMMON, SECTIONS, STOPS, TRUST


@dataclass(frozen=True)
class Reading:
    """What the database said, by section, and the moment by its own clock at which it said so."""

    at: datetime
    sections: Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """The snapshot on the real book, the strategy's shadow book, its canary's rule, caps and day so far, the account's
    session date, and the database's clock then."""

    snapshot: RiskSnapshot
    shadow: modes.ShadowBook
    canary: CanaryRule | None
    caps: CanaryCaps | None
    day: CanaryDay
    session: date
    at: datetime


def read_quote(hot: HotState, symbol: str) -> tuple[Quote | None, str | None]:
    """The last tick and, when the store cannot say, why. One round trip."""
    try:
        return hot.quote(symbol), None
    except UnavailableError as error:
        return None, error.message


def read_market(hot: HotState, order: OrderIntent, actor: str, clock: Clock, *, consume: bool) -> MarketReading:
    """The last ticks of the symbol and of what it derives from, and the rate windows, in one round trip.

    ``consume`` counts the order, once for its id; without it the windows are shown as they would be with the order.
    """
    contract = parse_option(order.symbol)
    symbols = [order.symbol, *([contract.underlying] if contract else [])]
    if contract:
        get_ready_for_options()
    windows = (f"key:{actor}", f"strategy:{order.strategy}", f"account:{order.account}")
    now = Decimal(str(round(clock.time(), 3)))
    try:
        found = hot.market(symbols, windows, f"{order.account}:{order.client_order_id}", now, consume=consume)
    except UnavailableError as error:
        return MarketReading(None, None, None, error.message)
    rates = Rates(now, *found.windows)
    if found.problems:
        return MarketReading(None, None, rates, "; ".join(found.problems))
    return MarketReading(found.quotes[order.symbol], found.quotes[symbols[-1]], rates, None)


def read_sections(
    sections: Mapping[str, str],
    order: OrderIntent,
    account_id: int,
    strategy_id: int | None,
    now: datetime,
    session: date | None = None,
) -> Reading:
    """All ``sections`` by one statement."""
    contract = parse_option(order.symbol)
    about = {
        "account": account_id,
        "strategy": strategy_id,
        "symbol": order.symbol,
        "side": order.side.value,
        "qty": order.qty,
        "limit_price": order.limit_price,
        "permit_id": order.permit_id,
        "scopes": [*_required_scopes(order), f"symbol:{order.symbol}"],
        "limit_scopes": list(scopes_of(order)),
        "shared_scopes": shared_scopes(order),
        "data_symbols": [order.symbol, *([contract.underlying] if contract else [])],
        "client_order_id": order.client_order_id,
        "volatility_symbol": settings.TRADINGBOT.volatility_symbol,
        "strategy_build": order.strategy_build,
        "session": session,
        "now": now,
    }
    columns = ", ".join(f"({sql}) AS {name}" for name, sql in sections.items())
    common = COMMON if "limits" in sections else ""
    with connection.cursor() as cursor:
        cursor.execute(f"{common} SELECT clock_timestamp(), {columns}", about)
        at, *found = cursor.fetchone()
    values = (None if text is None else json.loads(text) for text in found)
    return Reading(at, dict(zip(sections, values, strict=True)))


def risk_snapshot(
    order: OrderIntent,
    account: Account,
    strategy: Strategy,
    row: RiskRow,
    market: MarketReading,
    now: datetime,
    used: bool,
    flattening: bool = False,
) -> Judged:
    """Everything the gates may know, and what it takes to split the order by its strategy's mode."""
    today = session_date(now, account.session_calendar)
    reading = read_sections(SECTIONS, order, account.pk, strategy.pk, now, today)
    said = reading.sections
    working, limits = said["working"], parts.limit_set(row.scope, account.profile, said["limits"])
    rate = Decimal(str(settings.TRADINGBOT.risk_free_rate))
    unit, problem = parts.unit_of(order, market, said["name"], limits, now, rate)
    snapshot = RiskSnapshot(
        now=now,
        id_used=used,
        flattening=flattening,
        quote=market.quote,
        market_data_error=market.error,
        feeds=parts.feeds(said["feeds"]),
        max_tick_age=Decimal(account.max_tick_age_seconds),
        symbols=frozenset(account.symbols),
        cash=row.cash,
        reserved_cash=row.reserved_cash,
        position=Decimal(said["position"] or 0),
        working_buys=Decimal(working["buys"]),
        working_sells=Decimal(working["sells"]),
        doubtful_orders=working["doubtful"],
        market_collar_bps=account.market_collar_bps,
        equity_known=row.equity is not None,
        max_evaluated_age=3 * Decimal(str(settings.TRADINGBOT.mark_seconds)),
        limits=limits,
        headroom=parts.headroom(order, limits, said["headroom"], parts.moment(said["oldest_greeks"])),
        book=parts.book(said, unit, problem, row.equity),
        resting=parts.resting(working),
        recent=parts.recent(said),
        rates=market.rates,
        session=parts.market_session(account.session_calendar, now),
        blocks=parts.blocks(row.scope, blocks_of(account, said["blocks"], row.reconciled_through, now)),
        volatility=parts.volatility(said["volatility"]),
        permit=parts.permit(order, said["permit"]),
        strategy_mode=modes.strategy_mode(order, said, settings.TRADINGBOT.known_builds_only),
        **_stops(reading, order, now),
    )
    return Judged(
        snapshot=snapshot,
        shadow=modes.shadow_book(said),
        canary=modes.canary_rule(said["mode"]),
        caps=modes.canary_caps(said["mode"]),
        day=modes.canary_day(said["canary_day"]),
        session=today,
        at=reading.at,
    )


def with_stops_of_now(
    order: OrderIntent, account: Account, strategy: Strategy, snapshot: RiskSnapshot
) -> tuple[RiskSnapshot, datetime]:
    """``snapshot`` with what stops trading and how far the build is trusted as it stands now, and the database's clock.
    One statement, no lock."""
    reading = read_sections({**STOPS, **TRUST}, order, account.pk, strategy.pk, snapshot.now)
    trust = reading.sections["trust"] or {"mode": None}
    return replace(
        snapshot, strategy_mode=replace(snapshot.strategy_mode, **trust), **_stops(reading, order, snapshot.now)
    ), reading.at


def _required_scopes(order: OrderIntent) -> tuple[str, ...]:
    """A breaker and a trading state must be there for each of these; those of the symbol may be there."""
    return "firm", f"account:{order.account}", f"strategy:{order.strategy}"


def _stops(reading: Reading, order: OrderIntent, now: datetime) -> dict[str, Any]:
    """The fields of the snapshot that ``STOPS`` make."""
    return {
        **_breakers(reading.sections["breakers"], order, now),
        **_trading_states(reading.sections["trading_states"], order),
        "data_stops": parts.data_stops(reading.sections["data_stops"]),
    }


def _breakers(found: list[dict[str, Any]], order: OrderIntent, now: datetime) -> dict[str, Any]:
    by_scope = {breaker["scope"]: breaker for breaker in found}
    return {
        "missing_breakers": tuple(scope for scope in _required_scopes(order) if scope not in by_scope),
        "open_breakers": tuple(OpenBreaker(b["scope"], b["reason"]) for b in found if b["open"]),
        "ramps": parts.ramps(found, now),
        "evaluated_age": _age(by_scope.get(f"account:{order.account}"), now),
        "firm_evaluated_age": _age(by_scope.get("firm"), now),
    }


def _age(breaker: dict[str, Any] | None, now: datetime) -> Decimal | None:
    """Seconds since it was evaluated; None when it never was."""
    if breaker is None or breaker["evaluated_at"] is None:
        return None
    seconds = (now - datetime.fromisoformat(breaker["evaluated_at"])).total_seconds()
    return Decimal(str(round(seconds, 6)))


def _trading_states(found: list[dict[str, Any]], order: OrderIntent) -> dict[str, Any]:
    known = {row["scope"] for row in found}
    return {
        "missing_states": tuple(scope for scope in _required_scopes(order) if scope not in known),
        "trading_states": tuple(ScopeState(**row) for row in found),
    }
