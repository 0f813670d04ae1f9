"""From what the database and the market data store said to the parts of the risk snapshot; no part is guessed.

Invariant: what is not there becomes None or a problem in words, never a number that passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.core.values import OrderIntent
from backend.tradingbot.data import calendar
from backend.tradingbot.risk.exposure import (
    EMPTY_NAME,
    MEASURES,
    NO_PART,
    STRESS,
    BookRisk,
    NameRisk,
    PartRisk,
    UnitRisk,
)
from backend.tradingbot.risk.gates import Quote
from backend.tradingbot.risk.limit_profiles import profile_named
from backend.tradingbot.risk.limits import SHARED, Limit, LimitSet, scopes_of
from backend.tradingbot.risk.snapshot import (
    Block,
    Book,
    FeedSeen,
    Headroom,
    MarketSession,
    Permit,
    Ramp,
    Rates,
    Recent,
    Resting,
    StoppedData,
)
from backend.tradingbot.risk.snapshot_json import from_json
from backend.tradingbot.risk.unit_risk import Known, Mark, SuppliedGreeks, unit_risk
from backend.tradingbot.risk.volatility import Level, Volatility
from backend.tradingbot.selectors.blocks import OpenBlock

ALWAYS_FRESH = Decimal(10**9)
NOTHING_TAKEN: Mapping[str, Any] = {"reserved": "0", "low": ["0"] * STRESS, "high": ["0"] * STRESS, "unknown": 0}


@dataclass(frozen=True)
class MarketReading:
    """What the market data store said in its one round trip; ``error`` when it could not."""

    quote: Quote | None
    underlying: Quote | None
    rates: Rates | None
    error: str | None


def limit_set(account_scope: str, profile: str, rows: list[list[Any]]) -> LimitSet:
    limits = tuple(Limit(scope, kind, Decimal(value), version) for scope, kind, value, version in rows)
    return LimitSet(account_scope, tuple(profile_named(profile).values), limits)


def shared_scopes(order: OrderIntent) -> list[str]:
    """The scopes above the account, in the order in which their rows are locked."""
    return sorted(scope for scope in scopes_of(order) if not scope.startswith("account:"))


def headroom(
    order: OrderIntent, limits: LimitSet, taken: Mapping[str, Mapping[str, Any]], oldest_greeks: datetime | None
) -> tuple[Headroom, ...]:
    """Each scope above the account, with what is taken of it and its limit. Where nobody took anything yet there is no
    row."""
    above = {row.scope: row.value for row in limits.rows if row.kind == SHARED}
    found = []
    for scope in shared_scopes(order):
        said = taken.get(scope, NOTHING_TAKEN)
        low, high = (tuple(map(Decimal, said[side])) for side in ("low", "high"))
        reserved = Decimal(said["reserved"])
        found.append(Headroom(scope, above.get(scope), reserved, low, high, said["unknown"], oldest_greeks))
    return tuple(found)


def _vector(raw: list[str]) -> tuple[Decimal, ...]:
    if len(raw) != len(MEASURES):
        raise ValueError(f"an exposure has {len(raw)} measures, this build knows {len(MEASURES)}")
    return tuple(Decimal(value) for value in raw)


def book_risk(raw: Mapping[str, Any] | None) -> BookRisk | None:
    if raw is None:
        return None
    figures = (Decimal(raw["gross"]), Decimal(raw["short"]), _vector(raw["low"]), _vector(raw["high"]))
    return BookRisk(*figures, raw["unknown"], raw["unstressed"])


def name_risk_of(raw: Mapping[str, Any] | None) -> NameRisk:
    if raw is None:
        return EMPTY_NAME
    figures = (Decimal(raw["gross"]), Decimal(raw["short"]), _vector(raw["low"]), _vector(raw["high"]))
    return NameRisk(*figures, raw["known"], raw["stressed"])


def part_risk_of(raw: Mapping[str, Any] | None) -> PartRisk:
    if raw is None:
        return NO_PART
    low, high = (tuple(map(Decimal, raw[side])) for side in ("low", "high"))
    return PartRisk(Decimal(raw["gross"]), low, high, raw["known"])


def stored_unit(raw: Mapping[str, Any] | None) -> UnitRisk | None:
    """The unit as it was last known; None when it never was, or when this build cannot read it."""
    if raw is None or raw["unit"] is None:
        return None
    try:
        unit: UnitRisk = from_json(UnitRisk, raw["unit"], "unit")
    except InvalidInputError:
        return None
    return unit if len(unit.measures) == len(MEASURES) else None


def supplied_greeks(raw: Mapping[str, Any] | None) -> SuppliedGreeks | None:
    if raw is None or raw["supplied_at"] is None:
        return None
    values = {name: Decimal(value) for name, value in raw["supplied"].items()}
    return SuppliedGreeks(values, datetime.fromisoformat(raw["supplied_at"]), "feed")


def _mark(quote: Quote | None) -> Mark | None:
    return None if quote is None else Mark(quote.price, quote.as_of)


def unit_of(
    order: OrderIntent,
    market: MarketReading,
    name: Mapping[str, Any] | None,
    limits: LimitSet,
    now: datetime,
    rate: Decimal,
) -> tuple[UnitRisk | None, str]:
    """What one unit risks now. A share without a quote keeps what was last known of it, so that people are let out."""
    oldest = limits.tightest("greeks_max_age_seconds")
    offered = SuppliedGreeks(order.greeks, now, "order") if order.greeks else None
    known = Known(
        symbol=order.symbol,
        now=now,
        mark=_mark(market.quote),
        underlying=_mark(market.underlying),
        stored=supplied_greeks(name),
        offered=offered,
        max_age=ALWAYS_FRESH if oldest is None else oldest.value,
        rate=rate,
    )
    unit, problem = unit_risk(known)
    if unit is None and parse_option(order.symbol) is None:
        return stored_unit(name), problem
    return unit, problem


def book(sections: Mapping[str, Any], unit: UnitRisk | None, problem: str, equity: Decimal | None) -> Book:
    sums, part, working = sections["sums"], sections["strategy_part"], sections["working"]
    taken = part_risk_of(part)
    oldest = None if sums is None else sums["oldest_greeks"]
    return Book(
        sums=book_risk(sums),
        name=name_risk_of(sections["name"]),
        unit=unit,
        unit_problem=problem,
        equity=equity,
        oldest_greeks=None if oldest is None else datetime.fromisoformat(oldest),
        strategy_gross=taken.gross,
        strategy_low=taken.low,
        strategy_high=taken.high,
        strategy_known=taken.known,
        strategy_position=Decimal(part["position"]) if part else Decimal(0),
        strategy_buys=Decimal(working["strategy_buys"]),
        strategy_sells=Decimal(working["strategy_sells"]),
    )


def resting(working: Mapping[str, Any]) -> Resting:
    lowest, highest = working["lowest_sell"], working["highest_buy"]
    return Resting(
        lowest_sell=None if lowest is None else Decimal(lowest),
        highest_buy=None if highest is None else Decimal(highest),
        unpriced_sells=working["unpriced_sells"],
        unpriced_buys=working["unpriced_buys"],
    )


def recent(sections: Mapping[str, Any]) -> Recent:
    counts = sections["recent"]
    return Recent(counts["duplicates"], counts["repeats"], sections["reductions"], sections["pattern"])


def blocks(scope: str, found: Iterable[OpenBlock]) -> tuple[Block, ...]:
    return tuple(Block(scope, block.reason) for block in found)


def volatility(raw: Mapping[str, Any] | None) -> Volatility | None:
    if raw is None:
        return None
    return Volatility(Level(raw["level"]), Decimal(raw["value"]), datetime.fromisoformat(raw["as_of"]))


def permit(order: OrderIntent, raw: Mapping[str, Any] | None) -> Permit | None:
    if raw is None or order.permit_id is None:
        return None
    limit_price = raw["limit_price"]
    return Permit(
        permit_id=order.permit_id,
        account=raw["account"],
        strategy=raw["strategy"],
        symbol=raw["symbol"],
        side=raw["side"],
        qty=Decimal(raw["qty"]),
        limit_price=None if limit_price is None else Decimal(limit_price),
        expires_at=datetime.fromisoformat(raw["expires_at"]),
        used=raw["used"],
        by=raw["by"],
    )


def data_stops(raw: list[dict[str, Any]]) -> tuple[StoppedData, ...]:
    return tuple(StoppedData(**{**stop, "since": datetime.fromisoformat(stop["since"])}) for stop in raw)


def ramps(breakers: Iterable[Mapping[str, Any]], now: datetime) -> tuple[Ramp, ...]:
    """The breakers that were reset so lately that new risk may only rise slowly."""
    reset = (
        Ramp(
            scope=raw["scope"],
            reset_at=datetime.fromisoformat(raw["reset_at"]),
            seconds=Decimal(raw["ramp_sec"]),
            start_pct=Decimal(raw["ramp_start_pct"]),
        )
        for raw in breakers
        if raw["reset_at"] is not None
    )
    return tuple(ramp for ramp in reset if (now - ramp.reset_at).total_seconds() < ramp.seconds)


def feeds(raw: list[dict[str, Any]]) -> tuple[FeedSeen, ...]:
    return tuple(FeedSeen(feed["code"], moment(feed["last_seen_at"]), feed["max_silence_seconds"]) for feed in raw)


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def market_session(name: str, now: datetime) -> MarketSession | None:
    """Where ``now`` stands in the account's calendar; None when the calendar has no answer, which denies."""
    try:
        if calendar.is_open(now, name):
            today = calendar.session_on(calendar.session_date(now, name), name)
            if today is None:
                return None
            return MarketSession(name, True, None, today.closes_at, today.early_close)
        coming = calendar.session_on(calendar.session_date(now, name), name)
        if coming is None or coming.opens_at <= now:
            coming = calendar.next_session(calendar.session_date(now, name), name)
        return MarketSession(name, False, coming.opens_at, None, coming.early_close)
    except InvalidInputError:
        return None
