"""Resets that need two people, where RESET_SECOND_PERSON says so: asked for by one, carried out by another.

Invariants: a request stands for one trip only and for a limited time; who asked cannot carry it out; what would be
refused now is not even asked for; each step (asked, carried out, refused, expired) is in the firm's journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, NotFoundError
from backend.tradingbot.core.people import same_person
from backend.tradingbot.models import Breaker, ResetRequest
from backend.tradingbot.services import journal
from backend.tradingbot.services.breakers import LockedBreaker, locked_breaker, need_reason, reset, restore
from backend.tradingbot.services.locks import FIRM, lock_risk


@dataclass(frozen=True)
class ResetAnswer:
    """``request`` waits for another person; None when the breaker is closed now."""

    row: Breaker
    request: ResetRequest | None = None


def ask_reset(scope: str, *, actor: str, reason: Any, force: bool, clock: Clock) -> ResetAnswer:
    """Reset ``scope``, or ask for it where a second person is needed, or carry out what another person asked for.

    Raises as ``breakers.reset``; ConflictError ``second_person_needed`` for who asked already, ``force_needed`` when
    the request that stands was forced and this call is not, ``breaker_closed`` when there is nothing to reset.
    """
    if not settings.TRADINGBOT.reset_second_person:
        return ResetAnswer(reset(scope, actor=actor, reason=reason, force=force, clock=clock))
    why = need_reason(reason)
    expire_due(clock=clock)
    with locked_breaker(scope, actor=actor, clock=clock) as guard:
        if guard.row.tripped_at is None:
            raise ConflictError(f"{scope} is closed", code="breaker_closed", remedy="there is nothing to reset")
        waiting = ResetRequest.objects.select_for_update().filter(breaker=guard.row, state="waiting").first()
        if waiting is None:
            return ResetAnswer(guard.row, _ask(guard, why, force, clock))
        _carry_out(guard, waiting, why, force, clock)
    return ResetAnswer(guard.row)


def _ask(guard: LockedBreaker, why: str, force: bool, clock: Clock) -> ResetRequest:
    restore(guard.row, clock).reset(guard.actor, why, force=force)  # a rehearsal: what would be refused is not asked
    now = clock.now()
    request = ResetRequest.objects.create(
        breaker=guard.row, tripped_at=guard.row.tripped_at, reason=why, forced=force, requested_by=guard.actor,
        requested_at=now, expires_at=now + timedelta(seconds=settings.TRADINGBOT.reset_request_seconds),
    )  # fmt: skip
    _note(request, "breaker_reset_asked", guard.actor, why, clock)
    return request


def _carry_out(guard: LockedBreaker, request: ResetRequest, why: str, force: bool, clock: Clock) -> None:
    if same_person(request.requested_by, guard.actor):
        raise ConflictError(
            f"{guard.actor} asked for this reset", code="second_person_needed",
            remedy=f"another person has to carry it out before {request.expires_at:%H:%M:%S} UTC",
        )  # fmt: skip
    if request.forced and not force:
        raise ConflictError(
            "the reset was asked for as a forced one", code="force_needed",
            remedy="carry it out with force, or wait until it expires and ask anew",
        )  # fmt: skip
    guard.pure.reset(guard.actor, why, force=request.forced)
    forced = ", forced" if request.forced else ""
    guard.reason = f"{request.reason}: {why} (asked by {request.requested_by}{forced})"
    _decide(request, "approved", guard.actor, why, clock)
    _note(request, "breaker_reset_approved", guard.actor, why, clock)


def refuse(request_id: int, *, actor: str, reason: Any, clock: Clock) -> ResetRequest:
    """Turn a waiting request down, or take one's own back."""
    why = need_reason(reason)
    with transaction.atomic(durable=True):
        request = ResetRequest.objects.select_for_update().select_related("breaker").filter(pk=request_id).first()
        if request is None:
            raise NotFoundError(f"there is no request {request_id}", code="request_not_found", remedy="see the breaker")
        if request.state != "waiting":
            raise ConflictError(f"the request is {request.state}", code="request_decided", remedy="it is at an end")
        _decide(request, "refused", actor, why, clock)
        _note(request, "breaker_reset_refused", actor, why, clock)
    return request


def expire_due(*, clock: Clock) -> int:
    """End the requests whose time is over, and those whose trip is not the one that is open any more."""
    ended = 0
    for pk in ResetRequest.objects.filter(state="waiting").values_list("pk", flat=True):
        with transaction.atomic(durable=True):
            request = ResetRequest.objects.select_for_update(of=("self",)).select_related("breaker").get(pk=pk)
            now_open = request.breaker.tripped_at
            if request.state != "waiting" or (request.expires_at > clock.now() and now_open == request.tripped_at):
                continue
            why = "nobody carried it out in time" if now_open == request.tripped_at else "that trip is over"
            _decide(request, "expired", "gateway", why, clock)
            _note(request, "breaker_reset_expired", "gateway", why, clock)
            ended += 1
    return ended


def _decide(request: ResetRequest, state: str, actor: str, why: str, clock: Clock) -> None:
    request.state, request.decided_by, request.decided_at, request.decision_reason = state, actor, clock.now(), why
    request.save(update_fields=["state", "decided_by", "decided_at", "decision_reason"])


def _note(request: ResetRequest, kind: str, actor: str, why: str, clock: Clock) -> None:
    data = {"request": request.pk, "reason": why, "forced": request.forced, "asked_by": request.requested_by}
    journal.append(lock_risk(FIRM), kind=kind, actor=actor, subject=request.breaker.scope, data=data, at=clock.now())
