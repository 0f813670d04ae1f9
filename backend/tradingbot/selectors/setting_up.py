"""What has been set up: accounts, strategies and keys as people and commands list them. Nothing secret."""

from __future__ import annotations

from typing import Any

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.errors import NotFoundError
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import Account, ApiKey, Breaker, Position, RiskRow, Strategy


def account_named(code: str) -> Account:
    """The account with this code; NotFoundError ``account_not_found`` names those that there are."""
    found = Account.objects.filter(code=code).first()
    if found is None:
        raise _unknown("account", code, Account.objects.values_list("code", flat=True))
    return found


def strategy_named(code: str) -> Strategy:
    """The strategy with this code; NotFoundError ``strategy_not_found`` names those that there are."""
    found = Strategy.objects.filter(code=code).first()
    if found is None:
        raise _unknown("strategy", code, Strategy.objects.values_list("code", flat=True))
    return found


def key_named(name: str) -> ApiKey:
    """The key called ``name``; NotFoundError ``key_not_found``."""
    found = ApiKey.objects.filter(name=name).first()
    if found is None:
        raise _unknown("key", name, ApiKey.objects.filter(revoked_at__isnull=True).values_list("name", flat=True))
    return found


def account_facts(account: Account) -> dict[str, Any]:
    """Everything that an operator asks about one account, in the order in which it reads."""
    risk = RiskRow.objects.get(account=account)
    breaker = Breaker.objects.get(scope=risk.scope)
    since = rfc3339(breaker.tripped_at)
    held = Position.objects.filter(account=account).exclude(qty=0)
    live = ApiKey.objects.filter(account=account, revoked_at__isnull=True)
    return {
        "code": account.code,
        "name": account.name,
        "broker account": account.broker_account,
        "state": "active" if account.active else "switched off",
        "may trade": ", ".join(account.symbols) or "nothing",
        "cash": plain(risk.cash) or "unknown: every purchase is denied",
        "reserved": plain(risk.reserved_cash),
        "equity": plain(risk.equity) or "unknown",
        "positions": ", ".join(f"{plain(p.qty)} {p.symbol} at {plain(p.avg_price)}" for p in held) or "none",
        "breaker": f"open since {since}: {breaker.reason}" if since else "closed",
        "keys": ", ".join(f"{key.name} ({key.role})" for key in live) or "none",
        "journal": f"{risk.journal_seq} entries in {risk.scope}",
        "created": rfc3339(account.created_at),
    }


def _unknown(kind: str, name: str, known: Any) -> NotFoundError:
    return NotFoundError(
        f"there is no {kind} {name}", code=f"{kind}_not_found", remedy=f"there are: {', '.join(known) or 'none yet'}"
    )
