"""What options are at a close: their marks, those of their underlyings, the volatility that they imply, and the Greeks.

Invariants: nothing is guessed: without a mark of both there is no state, without an implied volatility no Greeks; an
option that has expired is worth what exercising it is worth. Dividends before expiry are left out; the rate is the
RISK_FREE_RATE of the settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal

from django.conf import settings

from backend.tradingbot.core.occ import OptionContract, parse_option
from backend.tradingbot.data.calendar import session_on
from backend.tradingbot.ops.pnl_options import OptionState, intrinsic
from backend.tradingbot.risk.greeks import black_scholes, implied_volatility
from backend.tradingbot.services.recon_marks import last_prices

STEP = Decimal("1e-12")
SECONDS_A_DAY = 86_400


def days_between(since: date | None, until: date, calendar: str) -> Decimal:
    """Calendar days from one session's close to the other's; 0 without a session before."""
    before, after = (None if each is None else session_on(each, calendar) for each in (since, until))
    if before is None or after is None:
        return Decimal(0)
    seconds = Decimal(str((after.closes_at - before.closes_at).total_seconds()))
    return (seconds / SECONDS_A_DAY).quantize(Decimal("1e-6"))


def option_states(
    symbols: Iterable[str], marks: Mapping[str, Decimal], session: date, calendar: str, cut: datetime,
    kept: Mapping[str, OptionState],
) -> dict[str, OptionState]:  # fmt: skip
    """The state of each option of ``symbols`` at the close of ``session``; those without marks are left out. ``kept``
    are those that the day was closed with before: they stand while the mark is the same."""
    contracts = {symbol: found for symbol in symbols if (found := parse_option(symbol)) is not None}
    known = {symbol: kept[symbol] for symbol in contracts if symbol in kept and kept[symbol].price == marks.get(symbol)}
    contracts = {symbol: found for symbol, found in contracts.items() if symbol not in known}
    if not contracts:
        return known
    wanted = {each.underlying for each in contracts.values()} | {*contracts}
    prices = {**last_prices(wanted - marks.keys(), cut), **marks}
    day = session_on(session, calendar)
    moment = cut if day is None else min(day.closes_at, cut)
    states = known
    for symbol, contract in contracts.items():
        underlying, price = prices.get(contract.underlying), prices.get(symbol)
        gone = contract.expires_at <= moment
        if underlying is not None and (gone or price is not None):
            worth = intrinsic(symbol, underlying) if gone or price is None else price
            states[symbol] = _state(contract, worth, underlying, contract.years_left(moment))
    return states


def _state(contract: OptionContract, price: Decimal, underlying: Decimal, years: float) -> OptionState:
    rate = settings.TRADINGBOT.risk_free_rate
    terms = (float(underlying), float(contract.strike), rate)
    vol = float(implied_volatility(float(price), *terms, years, contract.is_call)) if years > 0 else math.nan
    if not math.isfinite(vol):
        return OptionState(price, underlying)
    found = black_scholes(*terms, vol, years, contract.is_call)
    numbers = [vol, *(float(getattr(found, name)) for name in ("delta", "gamma", "vega", "theta"))]
    if not all(map(math.isfinite, numbers)):
        return OptionState(price, underlying)
    return OptionState(price, underlying, *(Decimal(repr(number)).quantize(STEP) for number in numbers))
