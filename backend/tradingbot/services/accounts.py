"""Setting up accounts and strategies with everything that an order needs: risk rows and breakers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import transaction

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.models import Account, Breaker, RiskRow, Strategy
from backend.tradingbot.services.breakers import open_first_day
from backend.tradingbot.services.locks import FIRM, account_scope


def ensure_firm() -> None:
    RiskRow.objects.get_or_create(scope=FIRM)
    Breaker.objects.get_or_create(scope=FIRM)


def create_account(
    *,
    code: str,
    cash: Decimal | None,
    breaker: dict[str, Any] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    **fields: Any,
) -> Account:
    """An account with its risk row and its breaker. ``cash`` None means unknown, which denies every purchase.

    It holds nothing yet, so its equity is its cash: the breaker is marked here, and a first order need not wait.
    """
    with transaction.atomic():
        ensure_firm()
        account = Account.objects.create(code=code, **fields)
        RiskRow.objects.create(scope=account_scope(code), account=account, cash=cash, equity=cash)
        guard = Breaker(scope=account_scope(code), **(breaker or {}))
        if cash is not None:
            open_first_day(guard, cash, clock=clock)
        guard.save()
    return account


def create_strategy(*, code: str, breaker: dict[str, Any] | None = None, **fields: Any) -> Strategy:
    with transaction.atomic():
        strategy = Strategy.objects.create(code=code, **fields)
        Breaker.objects.create(scope=f"strategy:{code}", **(breaker or {}))
    return strategy
