"""The dead man's switch: a strategy that promised signs of life and falls silent may only reduce from then on.

Invariants: silence only ever tightens; a heartbeat that comes back re-arms nothing by itself, a person re-activates the
strategy first; losing one is committed with its journal entry and its notification; the cancels that may follow are
wished again until that is done, whatever dies in between. docs/dead-mans-switch.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import (
    ConflictError,
    FieldError,
    FieldErrors,
    InvalidInputError,
    NotFoundError,
    TradingbotError,
)
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.models import Strategy, StrategyHeartbeat, TradingState
from backend.tradingbot.models.heartbeats import LOSS_ACTIONS
from backend.tradingbot.risk.trading_state import Trading
from backend.tradingbot.selectors.scopes import open_orders, simulated_orders
from backend.tradingbot.services import journal, mass_cancel, shadow
from backend.tradingbot.services.breakers import strategy_scope
from backend.tradingbot.services.locks import FIRM, lock_risk
from backend.tradingbot.services.trading_states import change_state

log = structlog.get_logger(__name__)

ACTOR = "dead-mans-switch"
LONGEST_SECONDS = 3600


def beat(strategy: Strategy, asked: Any, *, actor: str, clock: Clock) -> StrategyHeartbeat:
    """A sign of life of ``strategy``; the first one, or one with other terms, registers ``interval`` and ``action``.

    Raises InvalidInputError naming the field; for a first one without an interval too.
    """
    interval, action = _terms(asked)
    now = clock.now()
    with transaction.atomic(durable=True):
        row, made = _row_of(strategy, interval, actor, now)
        fresh = made or row.ended_at is not None
        if fresh and interval is None:
            raise _no_interval()
        terms = (interval or row.interval_seconds, action or row.action)
        changed = fresh or terms != (row.interval_seconds, row.action)
        (row.interval_seconds, row.action), row.last_at, row.ended_at = terms, now, None
        rearmed = row.lost_at is not None and _is_active(strategy)
        if rearmed:
            row.lost_at = row.cancelled_at = None
        row.save()
        if rearmed or changed:
            kind = "heartbeat_rearmed" if rearmed else "heartbeat_registered"
            _journal(kind, row, {"interval": row.interval_seconds, "action": row.action}, actor, clock)
    return row


def _row_of(strategy: Strategy, interval: int | None, actor: str, now: datetime) -> tuple[StrategyHeartbeat, bool]:
    """The locked row, and whether it was made for this heartbeat."""
    rows = StrategyHeartbeat.objects.select_related("strategy").select_for_update(of=("self",))
    found = rows.filter(strategy=strategy).first()
    if found is not None:
        return found, False
    if interval is None:
        raise _no_interval()
    first = {
        "interval_seconds": interval, "action": settings.TRADINGBOT.heartbeat_action, "last_at": now,
        "registered_at": now, "registered_by": actor,
    }  # fmt: skip
    return rows.get_or_create(strategy=strategy, defaults=first)


def _no_interval() -> InvalidInputError:
    remedy = "the first heartbeat says how many seconds may pass between two"
    return InvalidInputError([FieldError("interval", None, "is missing", remedy)])


def _terms(asked: Any) -> tuple[int | None, str | None]:
    body, errors = asked if isinstance(asked, dict) else {}, FieldErrors()
    if asked and not isinstance(asked, dict):
        errors.add("body", asked, "is not an object", 'send {"interval": 10}, or nothing')
    for name in sorted(body.keys() - {"interval", "action"}):
        errors.add(name, body[name], "is not a known field", "known: interval action")
    interval, action = body.get("interval"), body.get("action")
    if interval is not None and not (str(interval).isascii() and str(interval).isdigit()):
        errors.add("interval", interval, "is not a whole number of seconds", f"1 to {LONGEST_SECONDS}")
    elif interval is not None and not 1 <= int(interval) <= LONGEST_SECONDS:
        errors.add("interval", interval, "is out of range", f"1 to {LONGEST_SECONDS} seconds")
    if action is not None and action not in LOSS_ACTIONS:
        errors.add("action", action, "is not an action", "use " + " or ".join(LOSS_ACTIONS))
    if errors:
        raise InvalidInputError(errors.errors)
    return None if interval is None else int(interval), action


def _is_active(strategy: Strategy) -> bool:
    state = TradingState.objects.filter(scope=strategy_scope(strategy.code)).values_list("state", flat=True).first()
    return state == Trading.ACTIVE


def end(strategy: Strategy, *, actor: str, reason: Any, clock: Clock) -> StrategyHeartbeat:
    """Stop watching on purpose, for a strategy that is switched off. One that is lost stays lost: ConflictError."""
    errors = FieldErrors()
    why = parse_reason(reason, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic(durable=True):
        row = StrategyHeartbeat.objects.select_for_update().filter(strategy=strategy, ended_at__isnull=True).first()
        if row is None:
            message = f"{strategy.code} has registered no heartbeat"
            raise NotFoundError(message, code="heartbeat_not_found", remedy="nothing is watched")
        if row.lost_at is not None:
            remedy = "a person re-activates the strategy by PUT trading-state, then it beats again or is ended"
            raise ConflictError(f"the heartbeat of {strategy.code} is lost", code="heartbeat_lost", remedy=remedy)
        row.ended_at = clock.now()
        row.save(update_fields=["ended_at"])
        _journal("heartbeat_ended", row, {"reason": why}, actor, clock)
    return row


def watch(*, clock: Clock) -> int:
    """What beat does every second: act on every heartbeat that is overdue; how many were lost."""
    lost = sum(_lose(pk, clock) for pk in _overdue(clock))
    for row in StrategyHeartbeat.objects.filter(lost_at__isnull=False, action="cancel", cancelled_at__isnull=True):
        try:
            _cancel(row, clock)
        except TradingbotError as error:
            log.error("heartbeat_cancel_failed", strategy=row.strategy.code, problem=error.message)
    return lost


def _overdue(clock: Clock) -> list[int]:
    rows = StrategyHeartbeat.objects.filter(lost_at__isnull=True, ended_at__isnull=True)
    return [row.pk for row in rows if clock.now() > row.last_at + timedelta(seconds=row.interval_seconds)]


def _lose(pk: int, clock: Clock) -> bool:
    """Under the row's lock, so that a sign of life that came meanwhile counts."""
    with transaction.atomic(durable=True):
        row = StrategyHeartbeat.objects.select_related("strategy").select_for_update(of=("self",)).get(pk=pk)
        now = clock.now()
        silent = (now - row.last_at).total_seconds()
        if row.lost_at is not None or row.ended_at is not None or silent <= row.interval_seconds:
            return False
        row.lost_at, row.cancelled_at = now, None
        row.save(update_fields=["lost_at", "cancelled_at"])
        scope = strategy_scope(row.strategy.code)
        lock_risk(FIRM)  # before the state, as everybody does who changes one
        state = TradingState.objects.filter(scope=scope).first()
        if state is None or state.state == Trading.ACTIVE:
            reason = f"no heartbeat for {silent:.0f} s, promised every {row.interval_seconds} s"
            change_state(scope, Trading.REDUCING, actor=ACTOR, reason=reason, clock=clock)
        data = {"interval": row.interval_seconds, "silent": round(silent), "action": row.action}
        _journal("heartbeat_lost", row, data, ACTOR, clock)
    return True


def _cancel(row: StrategyHeartbeat, clock: Clock) -> None:
    """Wish every open order away; recovery sends the wishes."""
    scope = strategy_scope(row.strategy.code)
    shadow.cancel_parts(list(simulated_orders(scope)), actor=ACTOR, clock=clock)
    mass_cancel.store_wishes(list(open_orders(scope)), actor=ACTOR, clock=clock)
    StrategyHeartbeat.objects.filter(pk=row.pk).update(cancelled_at=clock.now())


def _journal(kind: str, row: StrategyHeartbeat, data: dict[str, Any], actor: str, clock: Clock) -> None:
    firm, scope = lock_risk(FIRM), strategy_scope(row.strategy.code)
    journal.append(firm, kind=kind, actor=actor, subject=scope, data=data, at=clock.now())
    (log.critical if kind == "heartbeat_lost" else log.info)(kind, scope=scope, actor=actor, **data)
