"""What a promotion asks for, as versions: set by one person, approved by another where it asks for less.

Invariants: the firm's risk row is locked, so versions follow each other; what asks for more is in force at once; what
asks for less, and a profile that is new, waits for a second person, who is never the first; a profile without a version
in force promotes nobody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from backend.tradingbot.core.actors import person
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError, NotAllowedError, NotFoundError
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import PromotionBar, PromotionRequest, RiskRow, Strategy, StrategyBuild
from backend.tradingbot.risk.promotion import Bar
from backend.tradingbot.risk.promotion_profiles import SHIPPED
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, lock_risk

NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")
FIELDS = tuple(field.name for field in fields(Bar))
WHOLE = {
    "min_days": 1_000, "min_orders": 1_000_000, "max_hard_verdicts": 1_000, "max_open_breaks": 1_000,
    "max_open_breakers": 100,
}  # fmt: skip
BOUNDS = {"max_slippage_bps": 10_000.0, "max_fill_rate_difference": 1.0}


def bar_in_force(profile: str, to_mode: str) -> Bar | None:
    """What the profile asks for the step to ``to_mode`` now; None when nothing is in force, which promotes nobody."""
    row = _in_force(profile, str(to_mode))
    return None if row is None else bar_of(row)


def bar_of(row: PromotionBar) -> Bar:
    return Bar(**{name: getattr(row, name) for name in FIELDS})


def profiles() -> list[str]:
    """The names of the profiles that have a version in force."""
    rows = PromotionBar.objects.filter(state="in_force").order_by("profile")
    return list(rows.values_list("profile", flat=True).distinct())


def check_bar(profile: Any, to_mode: Any, values: Mapping[str, Any]) -> Bar:
    """The bar that ``values`` (one for each of ``FIELDS``) make; raises InvalidInputError naming every wrong field."""
    errors = FieldErrors()
    if not isinstance(profile, str) or not NAME.fullmatch(profile):
        errors.add("profile", profile, "is not a profile's name", "a-z, 0-9 and _, beginning with a letter, at most 16")
    if to_mode not in ("canary", "live"):
        errors.add("to_mode", to_mode, "is not a step up", "use canary or live")
    for name in sorted(set(values) ^ set(FIELDS)):
        problem = "is missing" if name in FIELDS else "is not a known field"
        errors.add(name, values.get(name), problem, "send " + ", ".join(FIELDS))
    for name, most in WHOLE.items():
        value = values.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            errors.add(name, value, f"must be a whole number from 0 to {most}", "send such a number")
    for name, largest in BOUNDS.items():
        bound = values.get(name)
        number = isinstance(bound, int | float) and not isinstance(bound, bool)
        if bound is not None and not (number and math.isfinite(bound) and 0 <= bound <= largest):
            errors.add(name, bound, f"must be a number from 0 to {largest:g}, or null", "null asks for nothing")
    two = values.get("second_person", True)
    if not isinstance(two, bool):
        errors.add("second_person", two, "must be true or false", "send true or false")
    elif to_mode == "live" and not two:
        errors.add("second_person", two, "must be true for the step to live", "two people let real money trade")
    if errors:
        raise InvalidInputError(errors.errors)
    return Bar(**values)


def set_bar(
    profile: Any, to_mode: Any, values: Mapping[str, Any], *, actor: str, reason: Any, clock: Clock
) -> PromotionBar:
    """A new version, in force at once or waiting for a second person. Raises ConflictError ``bar_unchanged``."""
    bar = check_bar(profile, to_mode, values)
    errors, now = FieldErrors(), clock.now()
    why = parse_reason(reason, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        before = bar_in_force(profile, to_mode)
        waiting = PromotionBar.objects.filter(profile=profile, to_mode=to_mode, state="waiting").first()
        if before == bar and waiting is None:
            raise ConflictError(
                f"{profile} to {to_mode} asks for that already", code="bar_unchanged", remedy="nothing is to do"
            )
        row = _row(profile, to_mode, bar, actor, why, now)
        row.loosens = before is None or before.is_loosening(bar)
        row.state = "waiting" if row.loosens else "in_force"
        if waiting is not None:
            _decide(waiting, "refused", by="gateway", reason=f"followed by version {row.version}", now=now)
        row.save()
        _note(firm, "promotion_bar_set", row, actor, why, now)
    return row


def decide_bar(number: int, *, approve: bool, actor: str, reason: Any, clock: Clock) -> PromotionBar:
    """The second person's word. Raises NotFoundError, ConflictError ``bar_not_waiting``, NotAllowedError
    ``maker_is_checker``."""
    errors, now = FieldErrors(), clock.now()
    why = parse_reason(reason, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        row = PromotionBar.objects.filter(pk=number).first()
        if row is None:
            raise NotFoundError(f"there is no version {number}", remedy="see GET promotion-profiles")
        if row.state != "waiting":
            raise ConflictError(f"{row} is {row.state}", code="bar_not_waiting", remedy="see GET promotion-profiles")
        own = person(row.set_by) == person(actor)
        if own and approve:
            raise NotAllowedError("who asks for less may not approve it", code="maker_is_checker", remedy="ask another")
        by = "withdrawn by its maker" if own else actor
        _decide(row, "in_force" if approve else "refused", by=by, reason=why, now=now)
        _note(firm, "promotion_bar_approved" if approve else "promotion_bar_refused", row, actor, why, now)
    return row


def start_profiles(*, now: datetime) -> None:
    """The first versions of the profiles that ship, where they are not there. The caller holds the firm's risk row."""
    known = set(PromotionBar.objects.values_list("profile", "to_mode"))
    made = [
        _row(profile, to_mode, bar, "setup", "as shipped", now, version=1)
        for profile, steps in SHIPPED.items()
        for to_mode, bar in steps.items()
        if (profile, to_mode) not in known
    ]
    for row in made:
        row.state, row.loosens = "in_force", True
    PromotionBar.objects.bulk_create(made)


def check_profile_change(strategy: Strategy, profile: str) -> None:
    """Raise when ``profile`` may not become the strategy's: it must exist, and nobody changes what is asked of a build
    that is trusted with real risk already."""
    if profile == strategy.promotion_profile:
        return
    if profile not in profiles():
        errors = FieldErrors()
        errors.add("promotion_profile", profile, "is not a profile in force", "use " + ", ".join(profiles()))
        raise InvalidInputError(errors.errors)
    trusted = StrategyBuild.objects.filter(strategy=strategy, withdrawn_at=None).exclude(mode="shadow").first()
    if trusted is not None:
        raise ConflictError(
            f"{trusted} is in {trusted.mode}", code="build_not_in_shadow", remedy="demote it to shadow first"
        )
    now, why = timezone.now(), {"state": "refused", "decided_by": "change of profile"}
    PromotionRequest.objects.filter(build__strategy=strategy, state="waiting").update(**why, decided_at=now)


def _in_force(profile: str, to_mode: str) -> PromotionBar | None:
    rows = PromotionBar.objects.filter(profile=profile, to_mode=to_mode, state="in_force")
    return rows.order_by("-version").first()


def _row(
    profile: str, to_mode: str, bar: Bar, actor: str, reason: str, now: datetime, version: int | None = None
) -> PromotionBar:
    newest = PromotionBar.objects.filter(profile=profile, to_mode=to_mode).order_by("-version") if not version else None
    last = None if newest is None else newest.first()
    return PromotionBar(
        profile=profile, to_mode=to_mode, version=version or (1 if last is None else last.version + 1), set_by=actor,
        set_at=now, reason=reason, build_id=build_id(), **vars(bar),
    )  # fmt: skip


def _decide(row: PromotionBar, state: str, *, by: str, reason: str, now: datetime) -> None:
    row.state, row.decided_by, row.decided_at, row.decision_reason = state, by, now, reason
    row.save(update_fields=["state", "decided_by", "decided_at", "decision_reason"])


def _note(firm: RiskRow, kind: str, row: PromotionBar, actor: str, reason: str, now: datetime) -> None:
    asks = {name: None if value is None else str(value) for name, value in vars(bar_of(row)).items()}
    data = {"version": row.version, "state": row.state, "reason": reason, "asks": asks}
    journal.append(firm, kind=kind, actor=actor, subject=f"promotion:{row.profile}/{row.to_mode}", data=data, at=now)
