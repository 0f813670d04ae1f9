"""Trips, resets and error counts. Each is a transaction of its own, so that a failing order cannot roll a trip back.

Invariants: a breaker acts only under its row's lock, restored from the row and saved to it; whatever opens it, closes
it or adds a cause is an event and an entry in the firm's journal, whose lock comes last; a stored state that cannot be
read opens the breaker. docs/breakers.md says which scope trips for what.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from backend.tradingbot.brokers.answers import BrokerInDoubtError, BrokerRejectedError, BrokerUnreachableError
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import FieldError, FieldErrors, InvalidInputError, NotFoundError, TradingbotError
from backend.tradingbot.core.parsing import SYMBOL
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, Breaker, BreakerEvent, Strategy
from backend.tradingbot.risk.circuit_breaker import BreakerLimits, BreakerState, CircuitBreaker
from backend.tradingbot.risk.promotion import ramp_share
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, account_scope, lock_risk

log = structlog.get_logger(__name__)

TRIP, CAUSE, RESET = "breaker_trip", "breaker_cause", "breaker_reset"
BAD_STATE = "bad-state"
NOT_COUNTED = frozenset({"broker_rate_limited", "order_not_found", "order_not_cancelable"})
THE_ACCOUNTS_FAULT = frozenset({"broker_unauthorized"})
SCOPE = re.compile(rf"firm|(account|strategy):[A-Za-z0-9_-]{{1,32}}|symbol:{SYMBOL.pattern}")
SCOPE_REMEDY = "use firm, account:<code>, strategy:<code> or symbol:<SYMBOL>"
SAVED = (
    "state",
    "tripped_at",
    "reason",
    "session",
    "start_source",
    "start_asked_at",
    "realized_before",
    "evaluated_at",
    "reset_at",
)


def strategy_scope(code: str) -> str:
    return f"strategy:{code}"


def limits_of(row: Breaker) -> BreakerLimits:
    return BreakerLimits(
        row.max_daily_drawdown, row.max_error_rate_per_min, row.max_data_staleness_sec, row.cooldown_sec
    )


def check_ramp(row: Breaker) -> None:
    """Raise InvalidInputError when the ramp after a reset makes no sense."""
    errors = FieldErrors()
    row.ramp_sec, row.ramp_start_pct = Decimal(row.ramp_sec), Decimal(row.ramp_start_pct)
    if not row.ramp_sec.is_finite() or not 0 <= row.ramp_sec <= 86_400:
        errors.add("ramp_sec", row.ramp_sec, "must be from 0 to 86400 seconds", "0 means no ramp")
    if not row.ramp_start_pct.is_finite() or not 0 < row.ramp_start_pct <= 100:
        errors.add("ramp_start_pct", row.ramp_start_pct, "must be above 0 and at most 100", "25 is a quarter")
    if errors:
        raise InvalidInputError(errors.errors)


def share_of_size(row: Breaker, now: datetime) -> Decimal:
    """How much of the largest order that adds risk is left in the breaker's scope, as a fraction: below 1 only for its
    ramp's time after a reset."""
    if row.reset_at is None:
        return Decimal(1)
    since = Decimal(str(round((now - row.reset_at).total_seconds(), 6)))
    return ramp_share(since, row.ramp_sec, row.ramp_start_pct / 100)


def restore(row: Breaker, clock: Clock) -> CircuitBreaker:
    """The pure breaker of a stored row; one that cannot be read is open. Nothing is changed."""
    return _restored(row, clock)[0]


def _restored(row: Breaker, clock: Clock) -> tuple[CircuitBreaker, str]:
    """The breaker, and why the row could not be read. One that was never used starts with a nominal equity of 1."""
    try:
        if row.state == {}:
            return CircuitBreaker(1.0, limits_of(row), clock=clock), ""
        return CircuitBreaker.restore(BreakerState.from_dict(row.state), limits_of(row), clock=clock), ""
    except (InvalidInputError, TypeError, AttributeError) as error:
        log.exception("breaker_state_unreadable", scope=row.scope)
        broken = CircuitBreaker(1.0, clock=clock)
        broken.trip(row.reason or BAD_STATE)
        return broken, str(error)


@dataclass
class LockedBreaker:
    """A breaker under its row's lock: act on ``pure``, and on the fields of ``row`` that say what it was shown.

    ``reason`` is what a reset is recorded with; ``evidence`` goes into the event with the breaker's own figures.
    """

    row: Breaker
    pure: CircuitBreaker
    actor: str
    clock: Clock
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        """Store what the breaker is now, and record what became of it."""
        row, state = self.row, self.pure.snapshot()
        was_open, known = row.tripped_at is not None, len(row.state.get("later_causes", ()))
        row.state = state.as_dict()
        row.tripped_at = None if state.tripped_at is None else datetime.fromtimestamp(state.tripped_at, UTC)
        row.reason = (state.reason or "")[:200]
        if was_open and row.tripped_at is None:
            row.reset_at = self.clock.now()
        row.save(update_fields=SAVED)
        if not was_open and row.tripped_at is not None:
            self._record(TRIP, row.reason)
        elif was_open and row.tripped_at is None:
            self._record(RESET, self.reason)
        elif was_open and len(state.later_causes) > known:
            self._record(CAUSE, "; ".join(state.later_causes[known:]))

    def _record(self, kind: str, reason: str) -> None:
        firm, now = lock_risk(FIRM), self.clock.now()
        values = {name: _plain(value) for name, value in (self.pure.status() | self.evidence).items()}
        if kind == TRIP:  # for the chart: when the errors came, as seconds before the trip
            values["errors_before"] = [round(now.timestamp() - at, 1) for at in self.pure.snapshot().error_times[-200:]]
        BreakerEvent.objects.create(
            breaker=self.row,
            kind=kind,
            at=now,
            actor=self.actor,
            reason=reason[:500],
            values=values,
            trace_id=TRACE_ID.get(),
            build_id=build_id(),
        )
        data = {"reason": reason, "values": values}
        journal.append(firm, kind=kind, actor=self.actor, subject=self.row.scope, data=data, at=now)
        log.warning(kind, scope=self.row.scope, reason=reason, actor=self.actor)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | None) else str(value)


def lock_breaker(scope: str, *, actor: str, clock: Clock) -> LockedBreaker:
    """The breaker of ``scope``, locked inside a transaction that is open already; the caller saves it.

    Raises NotFoundError ``breaker_not_found``.
    """
    row = _lock_row(scope)
    if row is None:
        raise NotFoundError(f"there is no breaker {scope}", code="breaker_not_found", remedy="see GET breakers")
    pure, problem = _restored(row, clock)
    guard = LockedBreaker(row, pure, actor, clock)
    if problem:
        guard.evidence = {"unreadable": str(row.state), "problem": problem}
        row.state = {}
        row.session = row.evaluated_at = None  # what it knew of the day is lost: unevaluated until a new one begins
    return guard


def _lock_row(scope: str) -> Breaker | None:
    """Row lock and read are one statement, so that nothing is restored that another is about to replace."""
    if not SCOPE.fullmatch(scope):
        return None
    return Breaker.objects.select_for_update().filter(scope=scope).first()


@contextmanager
def locked_breaker(scope: str, *, actor: str, clock: Clock) -> Iterator[LockedBreaker]:
    """The only door to a breaker: a transaction that saves it when the block ends, and does nothing when it raises."""
    with transaction.atomic(durable=True):
        guard = lock_breaker(scope, actor=actor, clock=clock)
        yield guard
        guard.save()


def ensure_breaker(scope: str) -> None:
    """Make the row of ``scope`` when it is not there; two at once make one.

    Raises InvalidInputError for what is no scope, NotFoundError for an account or a strategy that does not exist.
    """
    if not isinstance(scope, str) or not SCOPE.fullmatch(scope):
        raise InvalidInputError([FieldError("scope", scope, "is not the scope of a breaker", SCOPE_REMEDY)])
    if Breaker.objects.filter(scope=scope).exists():
        return
    kind, _, name = scope.partition(":")
    owners = {"account": Account.objects, "strategy": Strategy.objects}
    if kind in owners and not owners[kind].filter(code=name).exists():
        raise NotFoundError(f"there is no {kind} {name}", code=f"{kind}_not_found", remedy="check its code")
    Breaker.objects.bulk_create([Breaker(scope=scope)], ignore_conflicts=True)


def need_reason(reason: Any) -> str:
    """Why somebody acts on a breaker, or InvalidInputError."""
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 200 or not reason.isprintable():
        problem = "must be 1 to 200 printable characters"
        raise InvalidInputError([FieldError("reason", reason, problem, "say why, for the record")])
    return reason.strip()


def trip(scope: str, *, actor: str, reason: Any, clock: Clock) -> Breaker:
    """Open the breaker of ``scope`` now; its row is made when it is not there.

    An open breaker keeps its first reason, and a new one is recorded as a later cause. Raises as ``ensure_breaker``.
    """
    why = need_reason(reason)
    ensure_breaker(scope)
    with locked_breaker(scope, actor=actor, clock=clock) as guard:
        guard.pure.trip(why)
    return guard.row


def reset(scope: str, *, actor: str, reason: Any, force: bool, clock: Clock) -> Breaker:
    """Close it again; raises ConflictError ``cooldown_active`` or ``cause_holds`` unless ``force``."""
    why = need_reason(reason)
    with locked_breaker(scope, actor=actor, clock=clock) as guard:
        guard.pure.reset(actor, why, force=force)
        guard.reason = f"{why} (forced)" if force else why
    return guard.row


def mark_error(scope: str, *, clock: Clock, evidence: dict[str, Any] | None = None) -> Breaker:
    """Count one error; at the limit inside the sliding minute the breaker trips ``error-rate``."""
    ensure_breaker(scope)
    with locked_breaker(scope, actor="gateway", clock=clock) as guard:
        guard.evidence = evidence or {}
        guard.pure.mark_error()
    return guard.row


def scope_of_error(error: TradingbotError, *, account: str, strategy: str) -> str | None:
    """Whose error a broker's failure to take an order or a cancel is; None when it is nobody's.

    Silence, 5xx, what cannot be read, a broker that cannot be reached or refuses our key: the account's. A rejection:
    the strategy's. Being told to slow down (429) is neither, nor is a cancel that came too
    late, nor a question that failed.
    """
    if isinstance(error, BrokerInDoubtError | BrokerUnreachableError) or error.code in THE_ACCOUNTS_FAULT:
        return account_scope(account)
    if isinstance(error, BrokerRejectedError) and error.code not in NOT_COUNTED:
        return strategy_scope(strategy)
    return None


def count_broker_error(error: TradingbotError, *, account: str, strategy: str, clock: Clock) -> None:
    """Count ``error`` on the breaker whose error it is."""
    scope = scope_of_error(error, account=account, strategy=strategy)
    if scope is not None:
        mark_error(scope, clock=clock, evidence={"code": error.code, "message": error.message})
