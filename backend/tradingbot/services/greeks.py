"""Greeks come in by unit, from a feed; quantities come from executions only.

Invariants: a batch is taken as a whole or not at all; what no option could have is refused by name; the account is
revalued with what came in, so that its sums never mix old and new.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.occ import parse_option
from backend.tradingbot.core.parsing import parse_decimal, parse_symbol, parse_time
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import Account, NameExposure
from backend.tradingbot.risk.exposure import NOTHING
from backend.tradingbot.selectors.exposure import account_now
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import account_scope, locked_risk
from backend.tradingbot.services.revaluation import prices_of, revalue_now

GREEKS = {"delta", "gamma", "theta", "vega", "beta", "iv", "dividend_yield"}
MOST_ROWS = 10_000
CLOCK_SKEW_SECONDS = 2

Supplied = tuple[dict[str, Decimal], datetime]


def put_greeks(code: str, body: Any, *, may_feed: frozenset[str], actor: str, clock: Clock) -> dict[str, Any]:
    """``{"greeks": [{symbol, delta, gamma, theta, vega, beta?, iv?, dividend_yield?, time?}]}``: the Greeks of one
    share, or of an option on one share. All are taken or none."""
    account = Account.objects.filter(code=code).first()
    if account is None:
        raise NotFoundError(f"there is no account {code}", remedy="check the name")
    now = clock.now()
    rows = _parse(body, may_feed, now)
    held = NameExposure.objects.filter(account=account).values_list("symbol", flat=True)
    prices = prices_of(account, {*rows, *held}, now)
    with locked_risk(account_scope(code)) as row:
        for symbol, (values, as_of) in rows.items():
            supplied = {name: plain(value) for name, value in values.items()}
            said = {"supplied": supplied, "supplied_at": as_of, "supplied_by": actor}
            nothing = {"low": list(NOTHING), "high": list(NOTHING)}
            NameExposure.objects.update_or_create(
                account=account, symbol=symbol, defaults=said, create_defaults={**said, **nothing}
            )
        revalue_now(account, account_now(account.pk), prices)
        data = {"symbols": sorted(rows), "count": len(rows)}
        journal.append(row, kind="greeks_supplied", actor=actor, subject=f"account:{code}", data=data, at=now)
    return {"accepted": len(rows)}


def _parse(body: Any, may_feed: frozenset[str], now: datetime) -> dict[str, Supplied]:
    errors = FieldErrors()
    rows = body.get("greeks") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_ROWS:
        errors.add("greeks", rows, f"must be a list of 1 to {MOST_ROWS} rows", 'send {"greeks": [...]}')
        raise InvalidInputError(errors.errors)
    parsed = {}
    for index, raw in enumerate(rows):
        where = f"greeks[{index}]"
        if not isinstance(raw, dict) or set(raw) - GREEKS - {"symbol", "time"}:
            errors.add(where, raw, "must be an object of known fields", "symbol, time, " + ", ".join(sorted(GREEKS)))
            continue
        symbol = parse_symbol(raw.get("symbol"), f"{where}.symbol", errors)
        if symbol and symbol not in may_feed:
            remedy = "this key feeds " + ", ".join(sorted(may_feed))
            errors.add(f"{where}.symbol", symbol, "is not yours to feed", remedy)
        if symbol in parsed:
            errors.add(f"{where}.symbol", symbol, "comes twice", "send each symbol once")
        parsed[symbol] = _parse_row(raw, where, parse_option(symbol) is not None, now, errors)
    if errors:
        raise InvalidInputError(errors.errors)
    return parsed


def _parse_row(raw: Mapping[str, Any], where: str, is_option: bool, now: datetime, errors: FieldErrors) -> Supplied:
    as_of = now if raw.get("time") is None else parse_time(raw["time"], f"{where}.time", errors)
    if as_of is not None and (as_of - now).total_seconds() > CLOCK_SKEW_SECONDS:
        errors.add(f"{where}.time", raw.get("time"), "is in the future", "check the sender's clock")
    values = {}
    for name in sorted(GREEKS & set(raw)):
        value = parse_decimal(raw[name], f"{where}.{name}", errors, positive=False)
        if value is not None:
            values[name] = value
    _plausible(values, where, is_option, errors)
    return values, min(as_of or now, now)


def _plausible(values: Mapping[str, Decimal], where: str, is_option: bool, errors: FieldErrors) -> None:
    zero = Decimal(0)
    if abs(values.get("delta", zero)) > 1:
        errors.add(f"{where}.delta", values["delta"], "is beyond 1", "send it for one share, without the multiplier")
    for name in ("gamma", "vega"):
        if values.get(name, zero) < 0:
            errors.add(f"{where}.{name}", values[name], "is below zero", "send it for a long position of one")
    if "iv" in values and not 0 < values["iv"] <= 10:
        errors.add(f"{where}.iv", values["iv"], "must be above 0 and at most 10", "25 % is 0.25")
    if is_option and "iv" not in values and not {"delta", "gamma", "theta", "vega"} <= set(values):
        errors.add(where, sorted(values), "is incomplete", "send delta, gamma, theta and vega, or iv")
