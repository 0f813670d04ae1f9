"""Halting a scope, letting it reduce only, and re-activating it. Each change is committed on its own and journalled.

Invariants: a change names who and why; nothing re-activates but a person; when a halt is answered, no order of its
scope that was decided before it is still to be sent, or the answer names it.
"""

from __future__ import annotations

import time

import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, NotFoundError
from backend.tradingbot.models import Breaker, KillSwitchRun, TradingState
from backend.tradingbot.risk.trading_state import Trading
from backend.tradingbot.selectors.scopes import in_flight
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import lock_chain

log = structlog.get_logger(__name__)

DRAIN_SECONDS, DRAIN_STEP = 2.0, 0.01


def set_state(scope: str, state: Trading, *, actor: str, reason: str, clock: Clock) -> TradingState:
    """``scope`` trades as ``state`` says, from this commit on. What is so already is no change and no entry."""
    with transaction.atomic(durable=True):
        return change_state(scope, state, actor=actor, reason=reason, clock=clock)


def change_state(scope: str, state: Trading, *, actor: str, reason: str, clock: Clock) -> TradingState:
    """The same, inside a transaction of the caller's that holds no account yet."""
    is_symbol = scope.startswith("symbol:")
    if not is_symbol and not Breaker.objects.filter(scope=scope).exists():
        raise NotFoundError(f"there is no {scope}", code="scope_not_found", remedy="see GET trading-state")
    chain = lock_chain(scope)
    if state is not Trading.HALTED and KillSwitchRun.objects.filter(scope=scope, finished_at__isnull=True).exists():
        message = f"the kill switch of {scope} is not done"
        remedy = "wait until nothing is open, or stop it by POST kill-switch/<run>/stop"
        raise ConflictError(message, code="kill_switch_running", remedy=remedy)
    row, missing = TradingState.objects.select_for_update().get_or_create(scope=scope)
    before, now = row.state, clock.now()
    if missing and not is_symbol:
        before = "missing"
    elif before == state:
        return row
    row.state, row.reason, row.actor, row.changed_at = str(state), reason, actor, now
    row.save()
    data = {"before": before, "after": row.state, "reason": reason}
    journal.append(chain, kind="trading_state_changed", actor=actor, subject=scope, data=data, at=now)
    log.warning("trading_state_changed", scope=scope, before=before, after=row.state, actor=actor)
    return row


def wait_for_sends(scope: str, *, clock: Clock, seconds: float = DRAIN_SECONDS) -> list[str]:
    """Wait until no order decided earlier is under way to the broker; the client order ids of those that still are.

    Called after a halt is committed: every order decided later sees it, and so does every one that had not looked for
    the last time. What is left has been sent already, or is about to be within the time it takes to write to a socket.
    """
    for step in range(round(seconds / DRAIN_STEP) + 1):
        if step:
            time.sleep(DRAIN_STEP)
        sending = in_flight(scope, clock.now(), settings.TRADINGBOT.broker_read_timeout)
        under_way = list(sending.values_list("client_order_id", flat=True)[:500])
        if not under_way:
            break
    return under_way
