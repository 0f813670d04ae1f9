"""Trips, resets and error counts. Each is a transaction of its own, so that a failing order cannot roll a trip back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import FieldError, InvalidInputError, NotFoundError
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Breaker, BreakerEvent
from backend.tradingbot.risk.circuit_breaker import BreakerLimits, BreakerState, CircuitBreaker
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, lock_risk

NEW_YORK = ZoneInfo("America/New_York")


def limits_of(row: Breaker) -> BreakerLimits:
    return BreakerLimits(
        row.max_daily_drawdown, row.max_error_rate_per_min, row.max_data_staleness_sec, row.cooldown_sec
    )


def restore(row: Breaker, clock: Clock) -> CircuitBreaker:
    """The pure breaker of a stored row. A row that was never used starts with a nominal equity of 1."""
    if not row.state:
        return CircuitBreaker(1.0, limits_of(row), clock=clock)
    return CircuitBreaker.restore(BreakerState.from_dict(row.state), limits_of(row), clock=clock)


def _act(scope: str, actor: str, clock: Clock, action: Callable[[CircuitBreaker, Breaker], Any]) -> Breaker:
    """Restore under the lock, let the pure breaker act, save; an opening or a closing is an event and an entry."""
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        row = Breaker.objects.select_for_update().filter(scope=scope).first()
        if row is None:
            raise NotFoundError(f"there is no breaker {scope}", code="breaker_not_found", remedy="see GET breakers")
        breaker = restore(row, clock)
        was_open = row.tripped_at is not None
        outcome = action(breaker, row)
        state = breaker.snapshot()
        row.state = state.as_dict()
        row.tripped_at = None if state.tripped_at is None else datetime.fromtimestamp(state.tripped_at, UTC)
        row.reason = (state.reason or "")[:200]
        row.save()
        if was_open != (row.tripped_at is not None):
            kind = "breaker_reset" if was_open else "breaker_trip"
            _record(row, kind, actor, str(outcome or row.reason), breaker.status(), clock, firm)
    return row


def _record(row: Breaker, kind: str, actor: str, reason: str, values: dict[str, Any], clock: Clock, firm: Any) -> None:
    now = clock.now()
    shown = {name: value if isinstance(value, bool | int | None) else str(value) for name, value in values.items()}
    BreakerEvent.objects.create(
        breaker=row,
        kind=kind,
        at=now,
        actor=actor,
        reason=reason[:500],
        values=shown,
        trace_id=TRACE_ID.get(),
        build_id=build_id(),
    )
    data = {"reason": reason, "values": shown}
    journal.append(firm, kind=kind, actor=actor, subject=row.scope, data=data, at=now)


def _need_reason(reason: Any) -> str:
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 200 or not reason.isprintable():
        problem = "must be 1 to 200 printable characters"
        raise InvalidInputError([FieldError("reason", reason, problem, "say why, for the record")])
    return reason.strip()


def trip(scope: str, *, actor: str, reason: Any, clock: Clock) -> Breaker:
    """Open the breaker of ``scope`` now. Tripping an open breaker changes nothing but its later causes."""
    why = _need_reason(reason)
    return _act(scope, actor, clock, lambda breaker, _: breaker.trip(why))


def reset(scope: str, *, actor: str, reason: Any, force: bool, clock: Clock) -> Breaker:
    """Close it again; raises ConflictError ``cooldown_active`` or ``cause_holds`` unless ``force``."""
    why = _need_reason(reason)

    def close(breaker: CircuitBreaker, _: Breaker) -> str:
        breaker.reset(actor, why, force=force)
        return f"{why} (forced)" if force else why

    return _act(scope, actor, clock, close)


def mark_error(scope: str, *, clock: Clock) -> Breaker:
    """Count one error; at the limit inside the sliding minute the breaker trips ``error-rate``."""
    return _act(scope, "gateway", clock, lambda breaker, _: breaker.mark_error())


def mark_equity(scope: str, equity: Decimal, *, clock: Clock) -> Breaker:
    """Start the New York day at its first known equity, then trip when the drawdown has reached the limit."""
    return _act(scope, "marking", clock, lambda breaker, row: _mark(breaker, row, equity, clock))


def open_first_day(row: Breaker, equity: Decimal, *, clock: Clock) -> None:
    """The first mark of a row that is not stored yet; the caller saves it."""
    breaker = restore(row, clock)
    _mark(breaker, row, equity, clock)
    row.state = breaker.snapshot().as_dict()


def _mark(breaker: CircuitBreaker, row: Breaker, equity: Decimal, clock: Clock) -> None:
    """Without a positive equity no day starts: a breaker that never had one stays unevaluated, which denies."""
    now = clock.now()
    today = now.astimezone(NEW_YORK).date()
    if equity > 0 and (row.session is None or row.session < today):
        breaker.start_day(equity)
        row.session = today
    if row.session is not None:
        breaker.check_mtm(equity)
        row.evaluated_at = now
