"""Marks accounts to market: what an account is worth now, and what its breaker says to that.

Invariants: ticks are read before the lock is taken; equity is exact or unknown, never a guess; unknown equity trips
nothing, it only denies.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import structlog
from django.db import OperationalError

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import NotFoundError
from backend.tradingbot.models import Account, Breaker, Position
from backend.tradingbot.risk.gates import Quote
from backend.tradingbot.selectors.risk import read_quote
from backend.tradingbot.services import breakers
from backend.tradingbot.services.locks import account_scope, locked_risk
from backend.tradingbot.services.orders import hot_state

log = structlog.get_logger(__name__)


def mark_account(account: Account, *, clock: Clock) -> Decimal | None:
    """The account's equity in its currency, stored and shown to its breaker; None when it is not known.

    Raises NotFoundError when the account has no risk row or no breaker.
    """
    scope, hot = account_scope(account.code), hot_state()
    held = Position.objects.filter(account=account).exclude(qty=0)
    quotes = {symbol: read_quote(hot, symbol)[0] for symbol in held.values_list("symbol", flat=True)}
    with locked_risk(scope) as row:
        positions = dict(held.values_list("symbol", "qty"))
        equity = _equity(row.cash, positions, quotes, account.max_mark_age_seconds, clock.now())
        row.equity = equity
        row.save(update_fields=["equity"])
    if equity is None:
        # it was looked at, and the answer is "unknown": the order is told that, and nothing trips
        Breaker.objects.filter(scope=scope, session__isnull=False).update(evaluated_at=clock.now())
    else:
        breakers.mark_equity(scope, equity, clock=clock)
    return equity


def _equity(
    cash: Decimal | None,
    positions: dict[str, Decimal],
    quotes: dict[str, Quote | None],
    max_age: int,
    now: datetime,
) -> Decimal | None:
    if cash is None:
        return None
    total = cash
    for symbol, qty in positions.items():
        quote = quotes.get(symbol)
        if quote is None or (now - quote.as_of).total_seconds() > max_age:
            return None
        total += qty * quote.price
    return total.quantize(Decimal("1e-9"))


def mark_accounts(accounts: Iterable[Account], *, clock: Clock) -> None:
    """Mark each; one that fails is logged and stays unevaluated, which denies, and the others are still marked."""
    for account in accounts:
        try:
            mark_account(account, clock=clock)
        except (NotFoundError, OperationalError) as error:
            log.warning("mark_failed", account=account.code, problem=str(error))


def mark_holders(symbols: Iterable[str], *, clock: Clock) -> None:
    """Mark the accounts that hold any of ``symbols``."""
    holders = Position.objects.filter(symbol__in=list(symbols)).exclude(qty=0).values("account")
    mark_accounts(Account.objects.filter(active=True, pk__in=holders), clock=clock)
