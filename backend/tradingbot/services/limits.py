"""Limits are set here: a version at a time, each with who and why; the order path reads what is in force.

Invariants: the firm's risk row is locked, so versions follow each other; what tightens is in force at once; what
loosens by more than the setting waits for a second person, who is never the first; a version that another has followed
is never brought into force.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError, NotAllowedError, NotFoundError
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.core.values import plain
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, LimitVersion, RiskRow
from backend.tradingbot.risk.limit_profiles import profile_named
from backend.tradingbot.risk.limits import KINDS, check_limit, is_loosening, loosened_by, scope_kind
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, account_scope, lock_risk

CREEP_WINDOW = timedelta(days=1)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # an account was never without its first limits


def set_limit(
    scope: str,
    kind: str,
    value: Decimal | None,
    *,
    actor: str,
    reason: Any,
    clock: Clock,
    effective_from: datetime | None = None,
) -> LimitVersion:
    """A new version of one limit; None takes it away. It is in force at once, or waits for a second person.

    Raises InvalidInputError for a kind, scope, value, time or reason that makes no sense; ConflictError
    ``limit_unchanged`` when the value in force is the same.
    """
    check_limit(scope, kind, value)
    errors, now = FieldErrors(), clock.now()
    why = parse_reason(reason, "reason", errors)
    if effective_from is not None and effective_from < now - timedelta(minutes=1):
        errors.add("effective_from", effective_from, "is in the past", "leave it out for now")
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        rows = list(LimitVersion.objects.filter(scope=scope, kind=kind).order_by("version"))
        before = value_in_force(rows, now)
        waiting = [row for row in rows if row.state == "waiting"]
        if before == value and not waiting and not _scheduled(rows, now):
            raise ConflictError(
                f"{kind} of {scope} is {plain(value)} already", code="limit_unchanged", remedy="nothing is to do"
            )
        loosens = _loosens(scope, kind, rows, value, now)
        row = _new_version(scope, kind, value, rows, loosens, effective_from or now, actor, why, now)
        row.state = "waiting" if loosens and not _may_alone(kind, rows, value, now) else "in_force"
        for old in waiting:
            _decide(old, "refused", by="gateway", reason=f"followed by version {row.version}", now=now)
        row.save()
        _journal(firm, "limit_set", row, actor, before, now)
    return row


def decide_limit(version_id: int, *, approve: bool, actor: str, reason: Any, clock: Clock) -> LimitVersion:
    """The second person's word on a version that waits.

    Raises NotFoundError, ConflictError ``limit_not_waiting``, NotAllowedError ``maker_is_checker``.
    """
    errors, now = FieldErrors(), clock.now()
    why = parse_reason(reason, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic(durable=True):
        firm = lock_risk(FIRM)
        row = LimitVersion.objects.filter(pk=version_id).first()
        if row is None:
            raise NotFoundError(f"there is no limit version {version_id}", remedy="see GET limits")
        if row.state != "waiting":
            raise ConflictError(f"{row} is {row.state}", code="limit_not_waiting", remedy="see GET limits")
        if row.set_by == actor and approve:
            raise NotAllowedError(
                "who loosens a limit may not approve it", code="maker_is_checker", remedy="ask a second person"
            )
        rows = list(LimitVersion.objects.filter(scope=row.scope, kind=row.kind).order_by("version"))
        before = value_in_force(rows, now)
        by = actor if row.set_by != actor else "withdrawn by its maker"
        _decide(row, "in_force" if approve else "refused", by=by, reason=why, now=now)
        _journal(firm, "limit_approved" if approve else "limit_refused", row, actor, before, now)
    return row


def _decide(row: LimitVersion, state: str, *, by: str, reason: str, now: datetime) -> None:
    row.state, row.decided_by, row.decided_at, row.decision_reason = state, by, now, reason
    row.save(update_fields=["state", "decided_by", "decided_at", "decision_reason"])


def value_in_force(rows: list[LimitVersion], now: datetime) -> Decimal | None:
    """What the order path sees of one limit's versions, the oldest first."""
    effective = [row for row in rows if row.state == "in_force" and row.effective_from <= now]
    return effective[-1].value if effective else None


def _scheduled(rows: list[LimitVersion], now: datetime) -> bool:
    return any(row.state == "in_force" and row.effective_from > now for row in rows)


def _required(scope: str, kind: str) -> bool:
    if scope_kind(scope) != "account":
        return False
    account = Account.objects.filter(code=scope.partition(":")[2]).first()
    return account is not None and kind in profile_named(account.profile).values


def _loosens(scope: str, kind: str, rows: list[LimitVersion], value: Decimal | None, now: datetime) -> bool:
    """Against what is in force, and against what is about to be: a scheduled tightening may not be undone unseen."""
    required = _required(scope, kind)
    others = [value_in_force(rows, now)]
    others += [row.value for row in rows if row.state == "in_force" and row.effective_from > now]
    return any(is_loosening(kind, scope, other, value, required) for other in others)


def _may_alone(kind: str, rows: list[LimitVersion], value: Decimal | None, now: datetime) -> bool:
    """Whether one person may loosen this much: held against the tightest value of the last day, so that many small
    steps do not add up to a great one."""
    since, before = now - CREEP_WINDOW, value_in_force(rows, now)
    if before is None:
        return False  # to allow what was not allowed at all is never a small step
    lately = [row.value for row in rows if row.state == "in_force" and row.set_at >= since]
    lately += [before, value_in_force([r for r in rows if r.set_at < since], since)]
    known = [each for each in lately if each is not None]
    if not known:
        return False
    tightest = max(known) if KINDS[kind].higher_is_tighter else min(known)
    by = loosened_by(kind, tightest, value)
    return by is not None and by * 100 <= Decimal(str(settings.TRADINGBOT.loosening_alone_pct))


def _new_version(
    scope: str,
    kind: str,
    value: Decimal | None,
    rows: list[LimitVersion],
    loosens: bool,
    effective_from: datetime,
    actor: str,
    reason: str,
    now: datetime,
) -> LimitVersion:
    return LimitVersion(
        scope=scope,
        kind=kind,
        version=rows[-1].version + 1 if rows else 1,
        value=value,
        effective_from=effective_from,
        loosens=loosens,
        set_by=actor,
        reason=reason,
        set_at=now,
        previous=rows[-1] if rows else None,
        trace_id=TRACE_ID.get(),
        build_id=build_id(),
    )


def _journal(firm: RiskRow, kind: str, row: LimitVersion, actor: str, before: Decimal | None, now: datetime) -> None:
    data = {
        "scope": row.scope,
        "kind": row.kind,
        "version": row.version,
        "before": plain(before),
        "after": plain(row.value),
        "state": row.state,
        "effective_from": row.effective_from.isoformat(),
        "reason": row.decision_reason or row.reason,
    }
    journal.append(firm, kind=kind, actor=actor, subject=f"limit:{row.scope}", data=data, at=now)


def start_limits(account: Account, values: Mapping[str, Decimal | None], *, actor: str, now: datetime) -> None:
    """The first version of each limit that the account's profile requires, with ``values`` in the place of the
    profile's or beside them; None leaves one out. The caller holds the firm's risk row and journals the account."""
    profile, scope = profile_named(account.profile), account_scope(account.code)
    first: dict[str, Decimal | None] = {**profile.values, **values}
    for kind, value in first.items():
        check_limit(scope, kind, value)
    reason = f"profile {profile.name}"
    made = [
        _new_version(scope, kind, value, [], True, BEGINNING, actor, reason, now)
        for kind, value in first.items()
        if value is not None
    ]
    for row in made:
        row.state = "in_force"
    LimitVersion.objects.bulk_create(made)
