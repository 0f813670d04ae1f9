"""Bodies become values here, once and exactly. Every wrong field is named with its value and the remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.ids import CLIENT_ORDER_ID_REMEDY, is_client_order_id
from backend.tradingbot.core.values import OrderIntent, OrderType, Side, TimeInForce

SYMBOL = re.compile(r"[A-Z0-9./-]{1,32}")
CODE = re.compile(r"[A-Za-z0-9_-]{1,32}")
CENT, SUB_DOLLAR_TICK = Decimal("0.01"), Decimal("0.0001")
LARGEST = Decimal("1e12")
GREEKS = ("delta", "gamma", "theta", "vega", "beta", "iv")
REQUIRED = ("client_order_id", "account", "strategy", "symbol", "side", "qty", "type")
OPTIONAL = ("limit_price", "time_in_force", "greeks", "permit_id")


def parse_decimal(raw: Any, name: str, errors: FieldErrors, *, positive: bool = True) -> Decimal | None:
    """``raw`` as an exact Decimal, or None with the reason added to ``errors``. Only strings are numbers here."""
    if not isinstance(raw, str):
        errors.add(name, raw, "must be a decimal string", f'send it as a string, for example "{name}": "10"')
        return None
    try:
        value = Decimal(raw if raw.isascii() and "_" not in raw else "")
    except InvalidOperation:
        errors.add(name, raw, "is not a decimal number", 'send plain digits, for example "190.10"')
        return None
    if not value.is_finite():
        errors.add(name, raw, "must be finite", "NaN and infinity are refused")
        return None
    if positive and value <= 0:
        errors.add(name, raw, "must be greater than zero", "the side says the direction, not the sign")
        return None
    exponent = value.as_tuple().exponent
    if abs(value) >= LARGEST or (isinstance(exponent, int) and exponent < -9):
        errors.add(name, raw, "is out of range", "at most 12 digits before the point and 9 behind it")
        return None
    return value


def parse_price(raw: Any, name: str, errors: FieldErrors) -> Decimal | None:
    """A price on the tick: a cent from one dollar up, a hundredth of a cent below (Reg NMS rule 612)."""
    price = parse_decimal(raw, name, errors)
    if price is None:
        return None
    tick = CENT if price >= 1 else SUB_DOLLAR_TICK
    if price % tick:
        errors.add(name, raw, f"is not a multiple of the tick {tick}", "round it to the tick")
        return None
    return price


def parse_time(raw: Any, name: str, errors: FieldErrors) -> datetime | None:
    """An RFC 3339 time with its offset, as UTC."""
    try:
        moment = datetime.fromisoformat(raw)
        utc = moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        errors.add(name, raw, "is not an RFC 3339 time", 'for example "2026-01-05T15:00:00Z"')
        return None
    if moment.tzinfo is None:
        errors.add(name, raw, "has no time zone", 'end it with "Z" for UTC')
        return None
    return utc


def parse_symbol(raw: Any, name: str, errors: FieldErrors) -> str:
    if isinstance(raw, str) and SYMBOL.fullmatch(raw):
        return raw
    errors.add(name, raw, "is not a symbol", "upper-case letters and digits, at most 32, for example AAPL")
    return ""


def parse_scope(raw: Any, name: str, errors: FieldErrors) -> str:
    """``firm``, ``account:<code>``, ``strategy:<code>`` or ``symbol:<sym>``; whether it is there is not asked here."""
    if raw == "firm":
        return "firm"
    kind, _, key = raw.partition(":") if isinstance(raw, str) else ("", "", "")
    if (kind in ("account", "strategy") and CODE.fullmatch(key)) or (kind == "symbol" and SYMBOL.fullmatch(key)):
        return f"{kind}:{key}"
    errors.add(name, raw, "is not a scope", "use firm, account:<code>, strategy:<code> or symbol:<symbol>")
    return ""


def parse_reason(raw: Any, name: str, errors: FieldErrors) -> str:
    """Why somebody acts, in words that can be kept: 1 to 200 printable characters."""
    if isinstance(raw, str) and raw.strip() and len(raw) <= 200 and raw.isprintable():
        return raw.strip()
    errors.add(name, raw, "must be 1 to 200 printable characters", "say why, for the record")
    return ""


def _wrong(body: Mapping[str, Any], name: str, problem: str) -> str:
    """``problem``, but for a field that was not sent at all."""
    return problem if name in body else "is missing"


def _missing(name: str, example: str, errors: FieldErrors) -> str:
    errors.add(name, None, "is missing", f'send it as a string, for example "{name}": "{example}"')
    return ""


def _choice(body: Mapping[str, Any], name: str, kind: Any, errors: FieldErrors, default: Any = None) -> Any:
    raw = body.get(name, default)
    try:
        return kind(raw)
    except ValueError:
        problem = _wrong(body, name, "is not one of the allowed values")
        errors.add(name, raw, problem, "use " + " or ".join(f'"{each}"' for each in kind))
        return None


def _text(body: Mapping[str, Any], name: str, errors: FieldErrors) -> str:
    raw = body.get(name)
    if isinstance(raw, str) and 1 <= len(raw) <= 48 and raw.isprintable():
        return raw
    problem = _wrong(body, name, "must be a string of 1 to 48 characters")
    errors.add(name, raw, problem, f"send the code of the {name} that your key is bound to")
    return ""


def _greeks(raw: Any, errors: FieldErrors) -> dict[str, Decimal]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping) or set(raw) - set(GREEKS):
        errors.add("greeks", raw, "must be an object of known Greeks", "use " + ", ".join(GREEKS))
        return {}
    parsed = {name: parse_decimal(value, f"greeks.{name}", errors, positive=False) for name, value in raw.items()}
    return {name: value for name, value in parsed.items() if value is not None}


def parse_order(body: Any) -> OrderIntent:
    """The body of ``POST orders``; raises :class:`InvalidInputError` with code ``invalid_order`` naming every fault."""
    errors = FieldErrors()
    if not isinstance(body, Mapping):
        errors.add("body", body, "must be a JSON object", "see /api/docs/")
        raise InvalidInputError(errors.errors, code="invalid_order")
    for name in body.keys() - {*REQUIRED, *OPTIONAL}:
        errors.add(str(name), body[name], "is not a known field", "known: " + ", ".join((*REQUIRED, *OPTIONAL)))
    client_order_id = body.get("client_order_id")
    if not is_client_order_id(client_order_id):
        errors.add("client_order_id", client_order_id, _wrong(body, "client_order_id", "is not an order id"),
                   CLIENT_ORDER_ID_REMEDY)  # fmt: skip
    account, strategy = _text(body, "account", errors), _text(body, "strategy", errors)
    symbol = parse_symbol(body["symbol"], "symbol", errors) if "symbol" in body else _missing("symbol", "AAPL", errors)
    side = _choice(body, "side", Side, errors)
    kind = _choice(body, "type", OrderType, errors)
    time_in_force = _choice(body, "time_in_force", TimeInForce, errors, "day")
    qty = parse_decimal(body["qty"], "qty", errors) if "qty" in body else None
    if "qty" not in body:
        _missing("qty", "10", errors)
    raw_limit = body.get("limit_price")
    limit_price = None if raw_limit is None else parse_price(raw_limit, "limit_price", errors)
    if kind is OrderType.LIMIT and raw_limit is None:
        errors.add("limit_price", None, "is missing", "a limit order needs one")
    if kind is OrderType.MARKET and raw_limit is not None:
        errors.add("limit_price", raw_limit, "does not fit a market order", 'leave it out, or use "type": "limit"')
    permit_id = body.get("permit_id")
    if permit_id is not None and not is_client_order_id(permit_id):
        errors.add("permit_id", permit_id, "is not a permit id", "leave it out")
    greeks = _greeks(body.get("greeks"), errors)
    if errors or qty is None:
        raise InvalidInputError(errors.errors, code="invalid_order")
    return OrderIntent(
        client_order_id=str(client_order_id),
        account=account,
        strategy=strategy,
        symbol=symbol,
        side=side,
        qty=qty,
        type=kind,
        time_in_force=time_in_force,
        limit_price=limit_price,
        greeks=greeks,
        permit_id=permit_id,
    )
