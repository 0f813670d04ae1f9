"""What marking reads: what accounts are exposed to, what they have realised, and what the firm is made of."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Sum

from backend.tradingbot.core.cash_kinds import FUNDING
from backend.tradingbot.execution.order_state import OPEN
from backend.tradingbot.models import Account, CashFlow, Order, Position

FIRM_PARTS = """
SELECT breaker.state->>'start_equity', breaker.state->>'last_realized', risk.equity, risk.equity_floor,
  breaker.evaluated_at, breaker.session
FROM tradingbot_riskrow risk
JOIN tradingbot_account account ON account.id = risk.account_id AND account.active
JOIN tradingbot_breaker breaker ON breaker.scope = risk.scope
WHERE breaker.session IS NOT NULL
ORDER BY account.code
"""


@dataclass(frozen=True)
class FirmPart:
    """One account's share in the firm: its day's start, what the day has realised, and what it is worth.

    ``start`` and ``realized`` are exact text as the breaker stores them. ``floor`` is what it is worth at least.
    """

    start: str
    realized: str | None
    equity: Decimal | None
    floor: Decimal | None
    evaluated_at: datetime | None
    session: Any


def firm_parts() -> list[FirmPart]:
    """Every active account that was ever valued.

    One statement, because a cash flow moves an account's start and its equity together: read one after the other, a
    deposit between them would look like a loss.
    """
    with connection.cursor() as cursor:
        cursor.execute(FIRM_PARTS)
        return [FirmPart(*row) for row in cursor.fetchall()]


def holdings(account: Account) -> dict[str, Decimal]:
    """The signed quantity of each symbol that is held."""
    return dict(Position.objects.filter(account=account).exclude(qty=0).values_list("symbol", "qty"))


def realized_ever(account: Account) -> Decimal:
    """The sum of everything that the account has realised since it was opened."""
    total = Position.objects.filter(account=account).aggregate(total=Sum("realized_pnl"))["total"]
    return total or Decimal(0)


def exposed_symbols() -> dict[int, set[str]]:
    """The symbols that each account (by primary key) holds, or has an order in that works or may work."""
    found: dict[int, set[str]] = defaultdict(set)
    held = Position.objects.exclude(qty=0).values_list("account_id", "symbol")
    working = Order.objects.filter(status__in=[status.value for status in OPEN]).values_list("account_id", "symbol")
    for account, symbol in held.union(working):
        found[account].add(symbol)
    return found


def cash_flows_after(account: Account, moment: datetime) -> Decimal:
    """The sum of the recorded deposits and withdrawals that happened after ``moment``."""
    flows = CashFlow.objects.filter(account=account, occurred_at__gt=moment, kind__in=FUNDING)
    return flows.aggregate(total=Sum("amount"))["total"] or Decimal(0)
