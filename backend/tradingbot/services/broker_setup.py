"""Setting up an account from what the broker itself says: its number and its cash.

Invariant: only an account at rest is taken over. Positions and open orders that were not made by orders here would be
counted by nobody, and old executions must not be booked on top of the cash that they already moved.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import BrokerAccount
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import ConflictError
from backend.tradingbot.models import Account, RiskRow
from backend.tradingbot.services.account_fields import check_new_account
from backend.tradingbot.services.accounts import create_account
from backend.tradingbot.services.locks import account_scope


def create_account_from_broker(
    *, code: str, actor: str, clock: Clock = SYSTEM_CLOCK, **fields: Any
) -> tuple[Account, BrokerAccount]:
    """An account with the broker's number and cash; executions from before are never booked.

    Raises ConflictError ``broker_account_not_active``, ``broker_account_not_flat`` or ``broker_account_moving``,
    BrokerQueryError when the broker does not answer, and whatever ``create_account`` raises.
    """
    check_new_account(code=code, broker_account="read from the broker", **fields)
    client = execution_client(settings.TRADINGBOT)
    cursor = _last_activity(client)
    found = client.account()
    _refuse_unless_at_rest(client, found)
    if _last_activity(client) != cursor:
        raise ConflictError(
            "an execution came in while the account was read",
            code="broker_account_moving",
            remedy="run this again when nothing trades on it",
        )
    with transaction.atomic():
        account = create_account(
            code=code, cash=found.cash, broker_account=found.account_number, actor=actor, clock=clock, **fields
        )
        RiskRow.objects.filter(pk=account_scope(code)).update(fills_cursor=cursor)
    return account, found


def _refuse_unless_at_rest(client: AlpacaClient, found: BrokerAccount) -> None:
    if found.status != "ACTIVE":
        raise ConflictError(
            f"the broker says that account {found.account_number} is {found.status}",
            code="broker_account_not_active",
            remedy="settle that with the broker first",
        )
    held = [f"{position.qty} {position.symbol}" for position in client.positions()]
    working = [f"{order.side} {order.symbol}" for order in client.list_open_orders()]
    if held or working:
        what = "; ".join(
            f"{name}: {', '.join(items[:5])}{' ...' if len(items) > 5 else ''}"
            for name, items in (("positions", held), ("open orders", working))
            if items
        )
        raise ConflictError(
            f"account {found.account_number} is not flat at the broker ({what})",
            code="broker_account_not_flat",
            remedy="close its positions and cancel its orders at the broker, or use a fresh account",
        )


def _last_activity(client: AlpacaClient) -> str:
    fills = client.fills()
    return fills[-1].activity_id if fills else ""
