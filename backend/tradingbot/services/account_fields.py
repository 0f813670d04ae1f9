"""What the fields of accounts and strategies may be. Each check raises InvalidInputError naming every wrong field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from backend.tradingbot.core.errors import FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_symbol
from backend.tradingbot.data.calendar import CALENDARS, XNYS
from backend.tradingbot.risk.limit_profiles import PROFILES

CODE = re.compile(r"[A-Za-z0-9_-]{1,32}")
ACCOUNT_CHANGES = frozenset(
    {
        "name",
        "symbols",
        "max_tick_age_seconds",
        "max_mark_age_seconds",
        "market_collar_bps",
        "session_calendar",
        "profile",
        "active",
    }
)
CANARY = {
    "canary_allocation": (Decimal(0), Decimal(1)),
    "canary_lot": (Decimal(0), Decimal(1_000_000)),
    "canary_max_notional": (Decimal(-1), Decimal(10**12)),
    "canary_max_loss": (Decimal(0), Decimal(10**12)),
}
STRATEGY_CHANGES = frozenset(
    {"name", "active", "canary_at_least_one_lot", "canary_max_orders", "promotion_profile", *CANARY}
)
LONGEST = {"name": 120, "broker_account": 64}
WHOLE = {"max_tick_age_seconds": 86_400, "max_mark_age_seconds": 604_800, "market_collar_bps": 10_000}


def check_new_account(**fields: Any) -> None:
    _check(fields, needed=("code", "broker_account"))


def check_new_strategy(**fields: Any) -> None:
    _check(fields, needed=("code",))


def check_account_change(changes: Mapping[str, Any], reason: Any) -> None:
    _check_change(changes, reason, ACCOUNT_CHANGES)


def check_strategy_change(changes: Mapping[str, Any], reason: Any) -> None:
    _check_change(changes, reason, STRATEGY_CHANGES)


def check_reason(reason: Any) -> None:
    errors = FieldErrors()
    _check_reason(reason, errors)
    if errors:
        raise InvalidInputError(errors.errors)


def _check_change(changes: Mapping[str, Any], reason: Any, allowed: frozenset[str]) -> None:
    errors = FieldErrors()
    for name in sorted(set(changes) - allowed):
        errors.add(name, changes[name], "cannot be changed", "what can: " + ", ".join(sorted(allowed)))
    _check_reason(reason, errors)
    if errors:
        raise InvalidInputError(errors.errors)
    _check(changes, needed=())


def _check_reason(reason: Any, errors: FieldErrors) -> None:
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 200 or not reason.isprintable():
        errors.add("reason", reason, "must be 1 to 200 printable characters", "say why, for the record")


def _check(fields: Mapping[str, Any], *, needed: tuple[str, ...]) -> None:
    errors = FieldErrors()
    for name in needed:
        if not fields.get(name):
            errors.add(name, fields.get(name), "is missing", f"name the {name.replace('_', ' ')}")
    if fields.get("code") and not CODE.fullmatch(str(fields["code"])):
        errors.add("code", fields["code"], "is not a code", "letters, digits, - and _, at most 32")
    for name, longest in LONGEST.items():
        text = fields.get(name, "")
        if not isinstance(text, str) or len(text) > longest or not text.isprintable():
            errors.add(name, text, f"must be at most {longest} printable characters", "send a shorter, plain text")
    if fields.get("profile", "default") not in PROFILES:
        errors.add("profile", fields["profile"], "is not a profile", "use " + ", ".join(PROFILES))
    symbols = fields.get("symbols", [])
    for symbol in symbols:
        parse_symbol(symbol, "symbols", errors)
    if len(set(symbols)) != len(symbols):
        errors.add("symbols", symbols, "names a symbol twice", "name each once")
    for name, most in WHOLE.items():
        value = fields.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            errors.add(name, value, f"must be a whole number from 1 to {most}", "see the settings of the account")
    _check_canary(fields, errors)
    calendar = fields.get("session_calendar", XNYS)
    if calendar not in CALENDARS:
        errors.add("session_calendar", calendar, "is not a known calendar", "use " + ", ".join(CALENDARS))
    if errors:
        raise InvalidInputError(errors.errors)


def _check_canary(fields: Mapping[str, Any], errors: FieldErrors) -> None:
    for name, (above, most) in CANARY.items():
        value = fields.get(name, most)
        if not isinstance(value, Decimal) or not value.is_finite() or not above < value <= most:
            least = "0 or more" if above < 0 else "above 0"
            errors.add(name, value, f"must be {least} and at most {most}", "send such a number")
    orders = fields.get("canary_max_orders", 1)
    if isinstance(orders, bool) or not isinstance(orders, int) or not 0 <= orders <= 1_000_000:
        errors.add("canary_max_orders", orders, "must be a whole number from 0 to 1000000", "0 places nothing")
    if not isinstance(fields.get("canary_at_least_one_lot", True), bool):
        errors.add("canary_at_least_one_lot", fields["canary_at_least_one_lot"], "must be true or false", "send one")
