"""Setting up and changing accounts and strategies, with everything that an order needs: risk rows, breakers and
trading states.

Every change is in the firm's journal with who and why; a broker's account belongs to one account here, for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import transaction

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import Account, AccountExposure, Breaker, RiskRow, Strategy, StrategyBuild, TradingState
from backend.tradingbot.models.modes import MODES
from backend.tradingbot.risk.exposure import NOTHING
from backend.tradingbot.services import journal
from backend.tradingbot.services.account_fields import (
    check_account_change,
    check_new_account,
    check_new_strategy,
    check_strategy_change,
)
from backend.tradingbot.services.breakers import check_ramp, limits_of, lock_breaker
from backend.tradingbot.services.constraints import refused_by
from backend.tradingbot.services.limits import start_limits
from backend.tradingbot.services.locks import FIRM, account_scope, lock_risk
from backend.tradingbot.services.marking import first_mark
from backend.tradingbot.services.promotion_bars import check_profile_change, start_profiles


def ensure_firm() -> None:
    RiskRow.objects.get_or_create(scope=FIRM)
    Breaker.objects.get_or_create(scope=FIRM)
    TradingState.objects.get_or_create(scope=FIRM)


def create_account(
    *,
    code: str,
    cash: Decimal | None,
    breaker: dict[str, Any] | None = None,
    limits: Mapping[str, Decimal | None] | None = None,
    actor: str = "setup",
    clock: Clock = SYSTEM_CLOCK,
    **fields: Any,
) -> Account:
    """An account with its risk row and its breaker. ``cash`` None means unknown, which denies every purchase.

    It holds nothing yet, so its equity is its cash: the breaker is marked here, and a first order need not wait.
    It starts with the limits of its ``profile``; ``limits`` stand in their place or beside them, None leaves one out.
    Raises InvalidInputError naming every wrong field, ConflictError when the code or the broker's account is taken.
    """
    check_new_account(code=code, **fields)
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
    check_ramp(guard)
    with transaction.atomic():
        ensure_firm()
        whole = lock_breaker(FIRM, actor=actor, clock=clock)
        firm = lock_risk(FIRM)
        with refused_by(taken):
            account = Account.objects.create(code=code, **fields)
        row = RiskRow.objects.create(
            scope=account_scope(code), account=account, cash=cash, equity=cash, equity_floor=cash
        )
        guard.save()
        TradingState.objects.create(scope=guard.scope)
        AccountExposure.objects.create(account=account, low=list(NOTHING), high=list(NOTHING), updated_at=clock.now())
        start_limits(account, limits or {}, actor=actor, now=clock.now())
        data = {"cash": plain(cash), "broker_account": broker_account, "breaker": _texts(breaker or {})}
        data |= {**_texts(fields), "limits": {kind: plain(value) for kind, value in (limits or {}).items()}}
        journal.append(
            firm, kind="account_created", actor=actor, subject=account_scope(code), data=data, at=clock.now()
        )
        first_mark(account, row, whole, clock=clock)
    return account


def create_strategy(
    *,
    code: str,
    mode: str = "shadow",
    breaker: dict[str, Any] | None = None,
    actor: str = "setup",
    clock: Clock = SYSTEM_CLOCK,
    **fields: Any,
) -> Strategy:
    """A strategy with its breaker and its mode, which is ``shadow`` unless another is asked for: to be live from the
    first day is for set-ups such as the demo's. Raises as ``create_account`` does."""
    check_new_strategy(code=code, **fields)
    if mode not in MODES:
        raise InvalidInputError([FieldError("mode", mode, "is not a mode", "use " + ", ".join(MODES))])
    taken = ConflictError(
        f"there is a strategy {code} already", code="strategy_code_used", remedy="choose another code"
    )
    guard = Breaker(scope=f"strategy:{code}", **(breaker or {}))
    limits_of(guard)
    check_ramp(guard)
    with transaction.atomic():
        ensure_firm()
        firm = lock_risk(FIRM)
        with refused_by({"strategy_code_once": taken}):
            strategy = Strategy.objects.create(code=code, **fields)
        guard.save()
        TradingState.objects.create(scope=guard.scope)
        now = clock.now()
        start_profiles(now=now)
        StrategyBuild.objects.create(
            strategy=strategy, mode=mode, mode_since=now, registered_at=now, registered_by=actor
        )
        data = {"mode": mode, "breaker": _texts(breaker or {}), **_texts(fields)}
        journal.append(
            firm, kind="strategy_created", actor=actor, subject=f"strategy:{code}", data=data, at=clock.now()
        )
    return strategy


def change_account(
    code: str, changes: Mapping[str, Any], *, actor: str, reason: str, clock: Clock = SYSTEM_CLOCK
) -> Account:
    """Change what may be changed while orders flow (``ACCOUNT_CHANGES``); what is equal already is no change."""
    check_account_change(changes, reason)
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
    check_strategy_change(changes, reason)
    with transaction.atomic():
        firm = lock_risk(FIRM)
        strategy = Strategy.objects.select_for_update().filter(code=code).first()
        if strategy is None:
            raise NotFoundError(f"there is no strategy {code}", code="strategy_not_found", remedy="see the strategies")
        check_profile_change(strategy, changes.get("promotion_profile", strategy.promotion_profile))
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


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """As the journal takes it: JSON without floats."""
    return {
        name: value if isinstance(value, bool | int | str | list | None) else str(value)
        for name, value in values.items()
    }
