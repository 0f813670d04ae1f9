"""What people do with breaks: assign, note, explain, force-match, write off; and a second person closes or sends back.

Invariants: who resolved does not close; every step has a name and a reason, is an event of the break and an entry of
the journal; closing what was matched by force or written off books the broker's word, once; when the last blocking
break is closed, the next session is free again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import (
    ConflictError,
    FieldError,
    FieldErrors,
    InvalidInputError,
    NotFoundError,
    TradingbotError,
)
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Break, BreakEvent, Match, ReconRun, RiskRow
from backend.tradingbot.ops.break_state import BOOKED, BreakStep, check_second_person, next_break_status
from backend.tradingbot.ops.recon_kinds import MatchPass
from backend.tradingbot.services import journal, revaluation
from backend.tradingbot.services.book_entries import book_break
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.recon_blocks import settle_blocks

log = structlog.get_logger(__name__)

RESOLUTIONS = {
    "explained": BreakStep.EXPLAIN, "force_matched": BreakStep.FORCE_MATCH, "written_off": BreakStep.WRITE_OFF,
}  # fmt: skip


def assign(break_id: int, *, owner: Any, actor: str, reason: Any, clock: Clock) -> Break:
    """Give the break to ``owner``. Raises NotFoundError, ConflictError ``break_step_illegal``."""
    if not isinstance(owner, str) or not 1 <= len(owner.strip()) <= 120 or not owner.isprintable():
        raise InvalidInputError([FieldError("owner", owner, "must be 1 to 120 printable characters", "name a person")])
    why = _need(reason)
    with transaction.atomic(durable=True):
        row, found, now = _locked(break_id, clock)
        before, found.status = found.status, next_break_status(found.status, BreakStep.ASSIGN)
        found.owner = owner.strip()
        _record(row, found, "assigned", before, actor, f"to {found.owner}: {why}", now)
    return found


def assign_many(ids: Iterable[int], *, owner: Any, actor: str, reason: Any, clock: Clock) -> tuple[int, list[str]]:
    """Each on its own; how many were assigned, and why the others were not."""
    done, refused = 0, []
    for number in ids:
        try:
            assign(number, owner=owner, actor=actor, reason=reason, clock=clock)
            done += 1
        except TradingbotError as error:
            refused.append(f"break {number}: {error.message}")
    return done, refused


def note(break_id: int, *, text: Any, actor: str, clock: Clock) -> Break:
    """Write something down; the status stays."""
    if not isinstance(text, str) or not 1 <= len(text.strip()) <= 500:
        raise InvalidInputError([FieldError("text", text, "must be 1 to 500 characters", "write a note")])
    with transaction.atomic(durable=True):
        row, found, now = _locked(break_id, clock)
        found.notes = [*found.notes, {"at": rfc3339(now), "by": actor, "text": text.strip()}]
        _record(row, found, "noted", found.status, actor, text.strip(), now)
    return found


def resolve(break_id: int, *, resolution: Any, actor: str, reason: Any, clock: Clock, with_break: Any = None) -> Break:
    """The first person's word: ``explained``, ``force_matched`` or ``written_off``. It waits for a second person.

    ``with_break`` is the break of the other side that a forced match pairs it with; both are resolved. Raises
    InvalidInputError, NotFoundError, ConflictError ``break_step_illegal`` or ``break_match_impossible``.
    """
    step = RESOLUTIONS.get(resolution) if isinstance(resolution, str) else None
    if step is None:
        remedy = "use " + ", ".join(RESOLUTIONS)
        raise InvalidInputError([FieldError("resolution", resolution, "is not a resolution", remedy)])
    if with_break is not None and (not isinstance(with_break, int) or step is not BreakStep.FORCE_MATCH):
        raise InvalidInputError([FieldError("with", with_break, "only pairs a forced match", "leave it out")])
    why = _need(reason)
    with transaction.atomic(durable=True):
        row, found, now = _locked(break_id, clock)
        both = [found]
        if with_break is not None:
            both.append(_partner(found, with_break))
        for each in both:
            before, each.status = each.status, next_break_status(each.status, step)
            each.resolved_at, each.resolved_by, each.resolution = now, actor, why
            _record(row, each, str(resolution), before, actor, why, now)
        if with_break is not None:
            _force_match(both, actor)
    return found


def _partner(found: Break, number: int) -> Break:
    other = Break.objects.select_related("account").select_for_update(of=("self",)).filter(pk=number).first()
    if other is None:
        raise NotFoundError(f"there is no break {number}", code="break_not_found", remedy="see GET recon/breaks")
    sides = {"missing_at_broker", "missing_internal"}
    if other.account != found.account or {found.kind, other.kind} != sides:
        raise ConflictError(
            f"breaks {found.pk} and {number} cannot be one execution", code="break_match_impossible",
            remedy="pair a missing_at_broker with a missing_internal of the same account",
        )  # fmt: skip
    return other


def _force_match(both: list[Break], actor: str) -> None:
    """The match that a person makes, kept on the run of the later of the two."""
    session = max(each.last_session or each.session for each in both if each.last_session or each.session)
    run = ReconRun.objects.filter(account=both[0].account, session=session).first()
    if run is None:
        return
    sides: dict[str, list[str]] = {"ours": [], "theirs": []}
    for each in both:
        for name in sides:
            sides[name] += [str(row.get("execution_id") or each.subject) for row in each.carry.get(name, ())]
    version = str(run.tolerances.get("version", "none"))[:60]
    Match.objects.create(
        run=run, match_pass=MatchPass.FORCED, tolerances=version, found_break=both[0], made_by=actor, **sides
    )


def close(break_id: int, *, actor: str, reason: Any, clock: Clock) -> Break:
    """The second person's word. Raises NotAllowedError ``maker_is_checker``, ConflictError ``break_step_illegal``."""
    why = _need(reason)
    with transaction.atomic(durable=True):
        row, found, now = _locked(break_id, clock)
        before, resolution = found.status, found.status
        found.status = next_break_status(before, BreakStep.CLOSE)
        check_second_person(found.resolved_by, actor)
        found.closed_at, found.closed_by = now, actor
        entries = []
        if resolution in BOOKED:
            entries = book_break(row, found, made_by=found.resolved_by, approved_by=actor, now=now)
        _record(row, found, "closed", before, actor, why, now, entries=len(entries))
        settle_blocks(row, found.last_session or found.session or now.date(), actor=actor, now=now)
        row.save()
    if entries:
        revaluation.revalue_accounts([found.account], clock=clock)
    return found


def send_back(break_id: int, *, actor: str, reason: Any, clock: Clock) -> Break:
    """The second person does not agree: the break is worked on again."""
    why = _need(reason)
    with transaction.atomic(durable=True):
        row, found, now = _locked(break_id, clock)
        before, found.status = found.status, next_break_status(found.status, BreakStep.SEND_BACK)
        check_second_person(found.resolved_by, actor)
        found.resolved_at, found.resolved_by, found.resolution = None, "", ""
        _record(row, found, "sent_back", before, actor, why, now)
    return found


def reopen(break_id: int, *, actor: str, reason: Any, clock: Clock) -> Break:
    """A closed break is looked at again; it blocks from now on. What was booked stays booked."""
    why = _need(reason)
    with transaction.atomic(durable=True):
        row, found, now = _locked(break_id, clock)
        standing = Break.objects.filter(account=found.account, kind=found.kind, subject=found.subject)
        if standing.exclude(pk=found.pk).exclude(status="closed").exists():
            raise ConflictError("a newer break stands for it", code="break_stands", remedy="work on that one")
        before, found.status = found.status, next_break_status(found.status, BreakStep.REOPEN)
        found.resolved_at, found.resolved_by, found.resolution = None, "", ""
        found.closed_at, found.closed_by = None, ""
        _record(row, found, "reopened", before, actor, why, now)
        settle_blocks(row, found.last_session or found.session or now.date(), actor=actor, now=now)
    return found


def _locked(break_id: int, clock: Clock) -> tuple[RiskRow, Break, datetime]:
    """The account's risk row first, then the break."""
    seen = Break.objects.select_related("account").filter(pk=break_id).first()
    if seen is None:
        raise NotFoundError(f"there is no break {break_id}", code="break_not_found", remedy="see GET recon/breaks")
    row = lock_risk(account_scope(seen.account.code))
    found = Break.objects.select_related("account").select_for_update(of=("self",)).get(pk=break_id)
    return row, found, clock.now()


def _record(
    row: RiskRow, found: Break, kind: str, before: str, actor: str, reason: str, now: datetime, **more: Any
) -> None:
    found.updated_at = now
    found.save()
    data = {"difference": found.difference, **more}
    BreakEvent.objects.create(
        found_break=found, kind=kind, before=before, after=found.status, at=now, actor=actor, reason=reason[:500],
        data=data, trace_id=TRACE_ID.get(), build_id=build_id(),
    )  # fmt: skip
    told = {
        "break_id": found.pk,
        "break_kind": found.kind,
        "before": before,
        "after": str(found.status),
        "reason": reason,
    }
    journal.append(row, kind=f"break_{kind}", actor=actor, subject=found.subject, data=told | more, at=now)
    log.info("break_step", scope=row.scope, break_id=found.pk, step=kind, actor=actor)


def _need(reason: Any) -> str:
    errors = FieldErrors()
    why = parse_reason(reason, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    return why
