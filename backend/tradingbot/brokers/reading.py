"""Fields of a broker's JSON, read one by one and exactly: a ``ValueError`` that names the field, or the value."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any


def object_of(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, got {type(raw).__name__}")
    return raw


def text_of(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing or not text")
    return value


def text_or_none(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def side_of(body: dict[str, Any]) -> str:
    side = text_of(body, "side")
    if side == "sell_short":  # activities name a short sale so; orders say "sell"
        return "sell"
    if side not in ("buy", "sell"):
        raise ValueError(f"side is neither buy nor sell: {side[:20]}")
    return side


def decimal_of(body: dict[str, Any], name: str) -> Decimal:
    value = decimal_or_none(body, name)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def decimal_or_none(body: dict[str, Any], name: str) -> Decimal | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{name} is not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{name} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{name} is not finite")
    return number


def time_of(body: dict[str, Any], name: str) -> datetime:
    value = time_or_none(body, name)
    if value is None:
        raise ValueError(f"{name} is missing or not a time")
    return value


def date_or_none(body: dict[str, Any], name: str) -> date | None:
    value = body.get(name)
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def time_or_none(body: dict[str, Any], name: str) -> datetime | None:
    """The time in UTC; digits past the microsecond are cut off."""
    value = body.get(name)
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def clock_time_of(body: dict[str, Any], name: str) -> time:
    """A time of the day as ``09:30``."""
    try:
        return time.fromisoformat(text_of(body, name))
    except ValueError:
        raise ValueError(f"{name} is missing or not a time of day") from None
