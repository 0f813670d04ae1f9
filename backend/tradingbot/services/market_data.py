"""Ticks in: a batch is checked row by row and stored in one round trip."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings

from backend.tradingbot.brokers.paper_quotes import forward_quotes
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import FieldError, FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_decimal, parse_symbol, parse_time
from backend.tradingbot.core.values import plain
from backend.tradingbot.services.marking import mark_holders
from backend.tradingbot.services.orders import hot_state

MAX_ROWS = 10_000
CLOCK_SKEW = timedelta(seconds=2)


def post_ticks(body: Any, *, may_feed: frozenset[str], clock: Clock) -> dict[str, Any]:
    """``{"ticks": [{symbol, price, bid?, ask?, size?, time}]}``: stores the good rows and names what is wrong with the
    others. The age of a tick counts from the earlier of its exchange time and now; a future time is refused."""
    rows = body.get("ticks") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS:
        raise InvalidInputError(
            [FieldError("ticks", rows, f"must be a list of 1 to {MAX_ROWS} ticks", 'send {"ticks": [...]}')]
        )
    good, refused = {}, []
    for index, raw in enumerate(rows):
        errors = FieldErrors()
        tick = _parse(raw, f"ticks[{index}]", may_feed, clock, errors)
        if errors:
            refused.append({"row": index, "errors": [error.as_dict() for error in errors.errors]})
        else:
            good[tick[0]] = tick[1]
    hot_state().store(good.items())
    if good and settings.TRADINGBOT.broker == "paper":
        quotes = [
            {
                "symbol": symbol,
                "last": row["price"],
                "bid": row["bid"] or row["price"],
                "ask": row["ask"] or row["price"],
            }
            for symbol, row in good.items()
        ]
        forward_quotes(settings.TRADINGBOT, quotes)
    mark_holders(good, clock=clock)
    return {"accepted": len(rows) - len(refused), "refused": refused}


def _parse(raw: Any, where: str, may_feed: frozenset[str], clock: Clock, errors: FieldErrors) -> tuple[str, dict]:
    if not isinstance(raw, dict):
        errors.add(where, raw, "must be an object", "send symbol, price and time")
        return "", {}
    for name in raw.keys() - {"symbol", "price", "size", "bid", "ask", "time"}:
        errors.add(f"{where}.{name}", raw[name], "is not a known field", "known: symbol price size bid ask time")
    symbol = parse_symbol(raw.get("symbol"), f"{where}.symbol", errors)
    if symbol and symbol not in may_feed:
        errors.add(f"{where}.symbol", symbol, "is not yours to feed", "this key feeds " + ", ".join(sorted(may_feed)))
    price = parse_decimal(raw.get("price"), f"{where}.price", errors)
    bid = None if raw.get("bid") is None else parse_decimal(raw["bid"], f"{where}.bid", errors)
    ask = None if raw.get("ask") is None else parse_decimal(raw["ask"], f"{where}.ask", errors)
    if bid and ask and ask < bid:
        errors.add(f"{where}.ask", raw["ask"], "is below the bid", "a crossed quote is refused")
    moment, now = parse_time(raw.get("time"), f"{where}.time", errors), clock.now()
    if moment is not None and moment > now + CLOCK_SKEW:
        errors.add(f"{where}.time", raw.get("time"), "is in the future", "check the sender's clock")
    as_of = min(moment, now).isoformat() if moment else ""
    return symbol, {"price": plain(price), "bid": plain(bid), "ask": plain(ask), "as_of": as_of}
