"""Trusting a strategy's build more, by evidence and people; and less, at once.

Invariants: one step at a time; a step to live needs a second person, who is not the one who asked; the evidence that a
step was made on is stored with it; a demotion needs one person, or one bound that was passed, and leaves the strategy
reducing until it is flat; every change is one append-only row and one journal entry.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.db import transaction

from backend.tradingbot.core.actors import person
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from backend.tradingbot.execution.routing import Mode
from backend.tradingbot.infra.build_info import build_id as gateway_build
from backend.tradingbot.models import ModeChange, PromotionRequest, RiskRow, Strategy, StrategyBuild
from backend.tradingbot.risk.promotion import Bar, Condition, judge
from backend.tradingbot.selectors.evidence import evidence_of
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, lock_risk
from backend.tradingbot.services.promotion_bars import bar_in_force, profiles

BUILD_ID = re.compile(r"[A-Za-z0-9._+-]{1,64}")
REQUEST_LIVES = timedelta(days=1)


def register_build(strategy: Strategy, build_id: str, *, actor: str, clock: Clock, reason: str = "") -> StrategyBuild:
    """Put a build on file. A new one begins in shadow; one that is there already is returned as it stands."""
    if not isinstance(build_id, str) or not BUILD_ID.fullmatch(build_id):
        problem = "must be 1 to 64 of A-Z a-z 0-9 . _ + -"
        raise InvalidInputError([FieldError("build_id", build_id, problem, "send the strategy's commit id")])
    now = clock.now()
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        build, made = StrategyBuild.objects.get_or_create(
            strategy=strategy,
            build_id=build_id,
            defaults={"mode": Mode.SHADOW, "mode_since": now, "registered_at": now, "registered_by": actor},
        )
        if made:
            _note(firm, "build_registered", build, actor, {"mode": str(build.mode), "reason": reason}, clock)
    return build


def withdraw_build(strategy: Strategy, build_id: str, *, actor: str, reason: Any, clock: Clock) -> StrategyBuild:
    """Stop a build: no order of it passes any more, not even a reduction; people flatten instead."""
    why = need_reason(reason)
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        build = _locked(strategy, build_id)
        if build.withdrawn_at is None:
            build.withdrawn_at, build.withdrawn_by, build.withdrawn_why = clock.now(), actor, why
            build.save()
            _note(firm, "build_withdrawn", build, actor, {"reason": why}, clock)
    return build


def conditions(build: StrategyBuild, *, clock: Clock) -> tuple[Mode | None, list[Condition]]:
    """The next mode up and every condition of the step to it; None for a build that is live already."""
    mode = Mode(build.mode)
    if mode is Mode.LIVE:
        return None, []
    target = list(Mode)[mode.rank + 1]
    return target, judge(_bar(build, target), evidence_of(build, clock=clock))


def promote(
    strategy: Strategy, build_id: str, *, actor: str, reason: Any, clock: Clock
) -> StrategyBuild | PromotionRequest:
    """One step up, or a request that waits for a second person where the step needs one.

    Raises ConflictError ``promotion_refused`` that names every condition not met, ``already_live``,
    ``build_withdrawn`` or ``promotion_waits``.
    """
    why = need_reason(reason)
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        build = _locked(strategy, build_id)
        target, asked = _judged(build, clock)
        shown = [vars(condition) for condition in asked]
        if not _bar(build, target).second_person:
            return _change(firm, build, target, actor, "", why, shown, clock, demoted=False)
        now = clock.now()
        PromotionRequest.objects.filter(build=build, state="waiting", expires_at__lte=now).update(state="expired")
        if PromotionRequest.objects.filter(build=build, state="waiting").exists():
            remedy = "a second person approves or refuses it"
            raise ConflictError("a request of this build waits already", code="promotion_waits", remedy=remedy)
        request = PromotionRequest.objects.create(
            build=build, to_mode=target, reason=why, evidence=shown, requested_by=actor, requested_at=now,
            expires_at=now + REQUEST_LIVES,
        )  # fmt: skip
        _note(firm, "promotion_requested", build, actor, {"to": str(target), "reason": why}, clock)
        return request


def decide(
    strategy: Strategy, build_id: str, *, approve: bool, actor: str, clock: Clock, reason: str = ""
) -> StrategyBuild:
    """The second person's word, with a reason where one is given. The evidence is looked at again: what held yesterday
    may not hold now.

    Raises ConflictError ``same_person``, ``request_expired`` or ``promotion_refused``, NotFoundError without a request.
    """
    now = clock.now()
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        build = _locked(strategy, build_id)
        request = PromotionRequest.objects.select_for_update().filter(build=build, state="waiting").first()
        if request is None:
            raise NotFoundError("no promotion of this build waits", code="no_request", remedy="ask for one first")
        if person(request.requested_by) == person(actor):
            remedy = "somebody else must decide"
            raise ConflictError("who asked may not approve", code="same_person", remedy=remedy)
        if now >= request.expires_at:
            raise ConflictError("the request has expired", code="request_expired", remedy="ask again")
        asked: list[Condition] = _judged(build, clock)[1] if approve else []
        request.state, request.decided_by, request.decided_at = ("approved" if approve else "refused"), actor, now
        request.save()
        if not approve:
            _note(firm, "promotion_refused", build, actor, {"to": request.to_mode, "reason": reason}, clock)
            return build
        shown = [vars(condition) for condition in asked]
        return _change(
            firm, build, Mode(request.to_mode), request.requested_by, actor,
            f"{request.reason}; {actor}: {reason}"[:200] if reason else request.reason, shown, clock, demoted=False,
        )  # fmt: skip


def demote(strategy: Strategy, build_id: str, *, to: Any, actor: str, reason: Any, clock: Clock) -> StrategyBuild:
    """Down to ``to`` (shadow or canary), at once. Raises InvalidInputError when that is no step down."""
    why = need_reason(reason)
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        build = _locked(strategy, build_id)
        if to not in ("shadow", "canary") or Mode(to).rank >= Mode(build.mode).rank:
            problem = f"is no step down from {build.mode}"
            raise InvalidInputError([FieldError("to", to, problem, "demote to shadow or canary")])
        PromotionRequest.objects.filter(build=build, state="waiting").update(
            state="refused", decided_by=f"demotion by {actor}"[:120], decided_at=clock.now()
        )
        return _change(firm, build, Mode(to), actor, "", why, [], clock, demoted=True)


def need_reason(reason: Any) -> str:
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 200 or not reason.isprintable():
        problem = "must be 1 to 200 printable characters"
        raise InvalidInputError([FieldError("reason", reason, problem, "say why, for the record")])
    return reason.strip()


def _judged(build: StrategyBuild, clock: Clock) -> tuple[Mode, list[Condition]]:
    if build.withdrawn_at is not None:
        raise ConflictError("the build was withdrawn", code="build_withdrawn", remedy="register another build")
    target, asked = conditions(build, clock=clock)
    if target is None:
        raise ConflictError("the build is live already", code="already_live", remedy="nothing to do")
    missing = [one for one in asked if not one.met]
    if missing:
        told = "; ".join(f"{one.name}: {one.wanted} wanted, {one.found} found" for one in missing)
        raise ConflictError(
            f"the evidence for {target} is not enough: {told}",
            code="promotion_refused",
            remedy="gather what is missing, then ask again",
            conditions=[vars(one) for one in asked],
        )
    return target, asked


def _bar(build: StrategyBuild, target: Mode) -> Bar:
    bar = bar_in_force(build.strategy.promotion_profile, target)
    if bar is None:
        raise ConflictError(
            f"{build.strategy.promotion_profile} is not a promotion profile with a step to {target}",
            code="profile_unknown",
            remedy="use one of " + ", ".join(profiles()),
        )
    return bar


def _locked(strategy: Strategy, build_id: str) -> StrategyBuild:
    rows = StrategyBuild.objects.select_related("strategy").select_for_update(of=("self",))
    build = rows.filter(strategy=strategy, build_id=build_id).first()
    if build is None:
        raise NotFoundError(
            f"{strategy.code} has no build {build_id or 'without a name'}", code="build_not_found", remedy="register it"
        )
    return build


def _change(
    firm: RiskRow, build: StrategyBuild, to: Mode, actor: str, second: str, reason: str, evidence: list[dict[str, Any]],
    clock: Clock, *, demoted: bool,
) -> StrategyBuild:  # fmt: skip
    before, now = build.mode, clock.now()
    build.mode, build.mode_since, build.demoted = to, now, demoted
    build.save()
    ModeChange.objects.create(
        build=build, before=before, after=to, at=now, actor=actor, second=second, reason=reason, evidence=evidence,
        gateway_build_id=gateway_build(),
    )  # fmt: skip
    data = {"before": str(before), "after": str(to), "second": second, "reason": reason, "evidence": evidence}
    _note(firm, "strategy_demoted" if demoted else "strategy_promoted", build, actor, data, clock)
    return build


def _note(firm: RiskRow, kind: str, build: StrategyBuild, actor: str, data: dict[str, Any], clock: Clock) -> None:
    subject = f"strategy:{build.strategy.code}"
    data = {"strategy_build": build.build_id, **data}
    journal.append(firm, kind=kind, actor=actor, subject=subject, data=data, at=clock.now())
