"""Setting up and changing accounts and strategies, with everything that an order needs: risk rows and breakers.

Every change is in the firm's journal with who and why; a broker's account belongs to one account here, for good.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import transaction

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import parse_symbol
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import Account, Breaker, RiskRow, Strategy
from backend.tradingbot.services import journal
from backend.tradingbot.services.breakers import limits_of, open_first_day
from backend.tradingbot.services.constraints import refused_by
from backend.tradingbot.services.locks import FIRM, account_scope, lock_risk

CODE = re.compile(r"[A-Za-z0-9_-]{1,32}")
ACCOUNT_CHANGES = frozenset(
    {"name", "symbols", "max_tick_age_seconds", "max_mark_age_seconds", "market_collar_bps", "active"}
)
STRATEGY_CHANGES = frozenset({"name", "active"})
WHOLE = {"max_tick_age_seconds": 86_400, "max_mark_age_seconds": 604_800, "market_collar_bps": 10_000}


def ensure_firm() -> None:
    RiskRow.objects.get_or_create(scope=FIRM)
    Breaker.objects.get_or_create(scope=FIRM)


def create_account(
    *,
    code: str,
    cash: Decimal | None,
    breaker: dict[str, Any] | None = None,
    actor: str = "setup",
    clock: Clock = SYSTEM_CLOCK,
    **fields: Any,
) -> Account:
    """An account with its risk row and its breaker. ``cash`` None means unknown, which denies every purchase.

    It holds nothing yet, so its equity is its cash: the breaker is marked here, and a first order need not wait.
    Raises InvalidInputError naming every wrong field, ConflictError when the code or the broker's account is taken.
    """
    _check({"code": code, **fields}, needed=("code", "broker_account"))
    broker_account = fields["broker_account"]
    taken = {
        "account_code_once": ConflictError(
            f"there is an account {code} already", code="account_code_used", remedy="choose another code"
        ),
        "account_broker_account_once": ConflictError(
            f"an account here has {broker_account} of the broker already",
            code="broker_account_used",
            remedy="two accounts never share one broker's account: use the one that has it",
        ),
    }
    guard = Breaker(scope=account_scope(code), **(breaker or {}))
    limits_of(guard)
    if cash is not None:
        open_first_day(guard, cash, clock=clock)
    with transaction.atomic():
        ensure_firm()
        firm = lock_risk(FIRM)
        with refused_by(taken):
            account = Account.objects.create(code=code, **fields)
        RiskRow.objects.create(scope=account_scope(code), account=account, cash=cash, equity=cash)
        guard.save()
        data = {"cash": plain(cash), "broker_account": broker_account, "breaker": _texts(breaker or {})}
        data |= _texts(fields)
        journal.append(
            firm, kind="account_created", actor=actor, subject=account_scope(code), data=data, at=clock.now()
        )
    return account


def create_strategy(
    *,
    code: str,
    breaker: dict[str, Any] | None = None,
    actor: str = "setup",
    clock: Clock = SYSTEM_CLOCK,
    **fields: Any,
) -> Strategy:
    """A strategy with its breaker. Raises as ``create_account`` does."""
    _check({"code": code, **fields}, needed=("code",))
    taken = ConflictError(
        f"there is a strategy {code} already", code="strategy_code_used", remedy="choose another code"
    )
    guard = Breaker(scope=f"strategy:{code}", **(breaker or {}))
    limits_of(guard)
    with transaction.atomic():
        ensure_firm()
        firm = lock_risk(FIRM)
        with refused_by({"strategy_code_once": taken}):
            strategy = Strategy.objects.create(code=code, **fields)
        guard.save()
        data = {"breaker": _texts(breaker or {}), **_texts(fields)}
        journal.append(
            firm, kind="strategy_created", actor=actor, subject=f"strategy:{code}", data=data, at=clock.now()
        )
    return strategy


def change_account(
    code: str, changes: Mapping[str, Any], *, actor: str, reason: str, clock: Clock = SYSTEM_CLOCK
) -> Account:
    """Change what may be changed while orders flow (``ACCOUNT_CHANGES``); what is equal already is no change."""
    _check_change(changes, reason, ACCOUNT_CHANGES)
    with transaction.atomic():
        firm = lock_risk(FIRM)
        account = Account.objects.select_for_update().filter(code=code).first()
        if account is None:
            raise NotFoundError(f"there is no account {code}", code="account_not_found", remedy="see the accounts")
        _change(firm, account, changes, "account", actor, reason, clock)
    return account


def change_strategy(
    code: str, changes: Mapping[str, Any], *, actor: str, reason: str, clock: Clock = SYSTEM_CLOCK
) -> Strategy:
    """Change what may be changed while orders flow (``STRATEGY_CHANGES``)."""
    _check_change(changes, reason, STRATEGY_CHANGES)
    with transaction.atomic():
        firm = lock_risk(FIRM)
        strategy = Strategy.objects.select_for_update().filter(code=code).first()
        if strategy is None:
            raise NotFoundError(f"there is no strategy {code}", code="strategy_not_found", remedy="see the strategies")
        _change(firm, strategy, changes, "strategy", actor, reason, clock)
    return strategy


def _change(
    firm: RiskRow,
    row: Account | Strategy,
    changes: Mapping[str, Any],
    kind: str,
    actor: str,
    reason: str,
    clock: Clock,
) -> None:
    before = {name: getattr(row, name) for name, value in changes.items() if getattr(row, name) != value}
    if not before:
        return
    for name in before:
        setattr(row, name, changes[name])
    row.save(update_fields=sorted(before))
    data = {"reason": reason, "before": _texts(before), "after": _texts({name: changes[name] for name in before})}
    journal.append(firm, kind=f"{kind}_changed", actor=actor, subject=f"{kind}:{row.code}", data=data, at=clock.now())


def _check_change(changes: Mapping[str, Any], reason: str, allowed: frozenset[str]) -> None:
    errors = FieldErrors()
    for name in sorted(set(changes) - allowed):
        errors.add(name, changes[name], "cannot be changed", "what can: " + ", ".join(sorted(allowed)))
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 200 or not reason.isprintable():
        errors.add("reason", reason, "must be 1 to 200 printable characters", "say why, for the record")
    if errors:
        raise InvalidInputError(errors.errors)
    _check(changes, needed=())


def _check(fields: Mapping[str, Any], *, needed: tuple[str, ...]) -> None:
    errors = FieldErrors()
    for name in needed:
        if not fields.get(name):
            errors.add(name, fields.get(name), "is missing", f"name the {name.replace('_', ' ')}")
    if fields.get("code") and not CODE.fullmatch(str(fields["code"])):
        errors.add("code", fields["code"], "is not a code", "letters, digits, - and _, at most 32")
    for name, longest in (("name", 120), ("broker_account", 64)):
        text = fields.get(name, "")
        if not isinstance(text, str) or len(text) > longest or not text.isprintable():
            errors.add(name, text, f"must be at most {longest} printable characters", "send a shorter, plain text")
    symbols = fields.get("symbols", [])
    for symbol in symbols:
        parse_symbol(symbol, "symbols", errors)
    if len(set(symbols)) != len(symbols):
        errors.add("symbols", symbols, "names a symbol twice", "name each once")
    for name, most in WHOLE.items():
        value = fields.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            errors.add(name, value, f"must be a whole number from 1 to {most}", "see the settings of the account")
    if errors:
        raise InvalidInputError(errors.errors)


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """As the journal takes it: JSON without floats."""
    return {
        name: value if isinstance(value, bool | int | str | list | None) else str(value)
        for name, value in values.items()
    }
