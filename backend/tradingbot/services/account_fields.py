"""What the fields of accounts and strategies may be. Each check raises InvalidInputError naming every wrong field."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
STRATEGY_CHANGES = frozenset({"name", "active"})
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
    calendar = fields.get("session_calendar", XNYS)
    if calendar not in CALENDARS:
        errors.add("session_calendar", calendar, "is not a known calendar", "use " + ", ".join(CALENDARS))
    if errors:
        raise InvalidInputError(errors.errors)
