"""Positions and open orders against the broker's, every few minutes: what does not fit halts its symbol.

Invariants: a failed question says nothing and halts nothing; a difference counts only when it is there on two looks
with the broker's executions booked in between, and our books did not move while the broker was asked; a halt is lifted
by a person alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import structlog
from django.conf import settings

from backend.tradingbot.brokers.answers import BrokerQueryError
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.core.values import plain
from backend.tradingbot.execution.order_state import UNRESOLVED, WORKING
from backend.tradingbot.models import Account, Order, Position
from backend.tradingbot.risk.trading_state import Trading
from backend.tradingbot.services import fills
from backend.tradingbot.services.breaks import open_break
from backend.tradingbot.services.locks import account_scope, locked_risk
from backend.tradingbot.services.recon_policies import policy_of
from backend.tradingbot.services.trading_states import set_state
from backend.tradingbot.services.turns import Turns

log = structlog.get_logger(__name__)

ACTOR = "reconciliation"
LOOKS = 2
ZERO = Decimal(0)


@dataclass(frozen=True)
class Standing:
    """One side at a moment: signed quantities by symbol, and the working orders by the broker's id."""

    positions: Mapping[str, Decimal]
    orders: Mapping[str, str]


def compare_all(*, clock: Clock) -> dict[str, list[str]]:
    """Every active account; the symbols that were halted, by account. One that fails is logged, the others go on; the
    first error that nobody thought of is raised at the end."""
    halted = {}
    with Turns() as turns:
        for account in Account.objects.filter(active=True).order_by("pk"):
            with turns.each("intraday_failed", account=account.code):
                try:
                    halted[account.code] = compare_account(account, clock=clock)
                except TradingbotError as error:
                    log.warning("intraday_unknown", account=account.code, code=error.code, problem=error.message)
    return halted


def compare_account(account: Account, *, clock: Clock) -> list[str]:
    """Compare one account now; the symbols that were halted. Raises BrokerQueryError: then nothing is known."""
    if policy_of(account).upload_only:
        return []
    client = execution_client(settings.TRADINGBOT)
    if client.account().account_number != account.broker_account:
        raise BrokerQueryError("the broker answers for another account")
    suspects: dict[str, str] | None = None
    for _ in range(LOOKS):
        fills.poll_account(account, clock=clock)
        before = _ours(account)
        theirs = _theirs(account)
        if _ours(account) != before:
            return []  # our books moved while we asked: the next look will tell
        found = _differences(before, theirs)
        suspects = found if suspects is None else {name: text for name, text in found.items() if name in suspects}
        if not suspects:
            return []
    assert suspects is not None
    for symbol, text in sorted(suspects.items()):
        _halt(account, symbol, text, clock)
    return sorted(suspects)


def _ours(account: Account) -> Standing:
    held = Position.objects.filter(account=account).exclude(qty=0).values_list("symbol", "qty")
    states = [state.value for state in WORKING]
    orders = Order.objects.filter(account=account, status__in=states, broker_order_id__isnull=False)
    return Standing(
        dict(held), {str(number): symbol for number, symbol in orders.values_list("broker_order_id", "symbol")}
    )


def _theirs(account: Account) -> Standing:
    client = execution_client(settings.TRADINGBOT)
    positions = {position.symbol: position.qty for position in client.positions() if position.qty}
    unresolved = Order.objects.filter(account=account, status__in=[state.value for state in UNRESOLVED])
    doubtful = set(unresolved.values_list("client_order_id", flat=True))
    orders = {
        order.broker_order_id: order.symbol
        for order in client.list_open_orders()
        if order.client_order_id not in doubtful  # its fate is recovery's to find out
    }
    return Standing(positions, orders)


def _differences(ours: Standing, theirs: Standing) -> dict[str, str]:
    found: dict[str, str] = {}
    for symbol in {*ours.positions, *theirs.positions}:
        mine, other = ours.positions.get(symbol, ZERO), theirs.positions.get(symbol, ZERO)
        if mine != other:
            found[symbol] = f"position {plain(mine)} here, {plain(other)} at the broker"
    for number in {*ours.orders} ^ {*theirs.orders}:
        symbol = ours.orders.get(number) or theirs.orders[number]
        where = "here" if number in ours.orders else "at the broker"
        found.setdefault(symbol, f"order {number} works {where} alone")
    return found


def _halt(account: Account, symbol: str, text: str, clock: Clock) -> None:
    """The break first, so that whoever sees the halt finds why; then the symbol's trading state."""
    with locked_risk(account_scope(account.code)) as row:
        kind = "position_qty" if text.startswith("position") else "order_status"
        open_break(
            row, kind=kind, subject=f"intraday {symbol}", severity="critical", cause=f"{ACTOR} intraday", clock=clock,
            symbol=symbol[:32], difference={"intraday": text},
            explanation="our books and the broker's do not fit while the market is open; the symbol is halted",
        )  # fmt: skip
    set_state(f"symbol:{symbol}", Trading.HALTED, actor=ACTOR, reason=f"{account.code}: {text}"[:200], clock=clock)
    log.error("intraday_mismatch", account=account.code, symbol=symbol, problem=text)
