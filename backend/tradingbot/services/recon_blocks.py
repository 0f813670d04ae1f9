"""The next session is disabled, waived and enabled here. ``disable_next_day`` is the one door to a block.

Invariants: a block names the day that it comes from, who and why; it is lifted when nothing blocks any more, or by a
person with a reason; a waiver has an end, is the risk role's, and is about the breaks that stood when it was given: one
that comes afterwards, or has other figures, ends it; all of it is in the account's journal.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import structlog

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import ConflictError, FieldError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.models import Account, Break, ReconciliationBlock, RiskRow
from backend.tradingbot.ops.recon_kinds import BreakKind
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import account_scope, locked_risk

log = structlog.get_logger(__name__)

RECONCILIATION = "reconciliation"
LONGEST_WAIVER = timedelta(days=7)
WAIVER = ("waived_until", "waived_by", "waiver_reason", "waived_breaks")


def disable_next_day(
    account: Account, session: date, reason: str, *, actor: str = RECONCILIATION, clock: Clock
) -> ReconciliationBlock:
    """From now on ``account`` takes only orders that reduce, because of ``session``, until the block is lifted.

    A block of that session that stands already takes the new reason; its waiver, if any, stays for what it was about.
    """
    with locked_risk(account_scope(account.code)) as row:
        return place(row, session, reason, actor=actor, now=clock.now())


def place(row: RiskRow, session: date, reason: str, *, actor: str, now: datetime) -> ReconciliationBlock:
    """The same under a lock that the caller holds."""
    account, why = row.account, reason[:200]
    if account is None:
        raise ValueError("a block is on an account")
    found = ReconciliationBlock.objects.filter(account=account, session=session, lifted_at__isnull=True).first()
    if found is not None and found.reason == why:
        return found
    if found is None:
        found = ReconciliationBlock(account=account, session=session, placed_by=actor, placed_at=now)
    found.reason = why
    found.save()
    data = {"block": found.pk, "session": str(session), "reason": why}
    journal.append(row, kind="session_blocked", actor=actor, subject=row.scope, data=data, at=now)
    log.warning("session_blocked", account=account.code, session=str(session), reason=why)
    return found


def blocking_breaks(account: Account) -> Any:
    """The breaks that stand against the next session: not closed, and critical."""
    return Break.objects.filter(account=account, severity="critical").exclude(status="closed")


def settle_blocks(row: RiskRow, session: date, *, actor: str, now: datetime) -> bool:
    """Block the account for its open breaks, or lift what reconciliation had placed; True when it is blocked."""
    breaks = list(blocking_breaks(row.account))  # type: ignore[arg-type]
    if breaks:
        kinds = [found.kind for found in breaks]
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        word = "break" if len(kinds) == 1 else "breaks"
        block = place(row, session, f"{len(kinds)} open {word}: {counted}", actor=RECONCILIATION, now=now)
        _carry_waiver(block, now)
        _end_waiver(row, block, breaks, actor, now)
        return True
    for block in _own(row.account).filter(session__lte=session):
        _lift(row, block, "nothing blocks any more", actor=actor, now=now)
    return False


def _own(account: Account | None) -> Any:
    """The blocks that reconciliation has placed on an account and that stand."""
    return ReconciliationBlock.objects.filter(account=account, lifted_at__isnull=True, placed_by=RECONCILIATION)


def _carry_waiver(block: ReconciliationBlock, now: datetime) -> None:
    """What was waived with an earlier session's block, and still is, is waived with that of a later one."""
    if block.placed_by != RECONCILIATION or block.waived_until is not None:
        return
    waived = _own(block.account).filter(session__lt=block.session, waived_until__gt=now)
    before = waived.order_by("-waived_until").first()
    if before is not None:
        for name in WAIVER:
            setattr(block, name, getattr(before, name))
        block.save()


def _waived(found: Break) -> tuple[str, str]:
    """By which name, and with which evidence, a break is waived. A statement that cannot be had is one matter, whatever
    the last try says is wrong with it."""
    if found.kind == BreakKind.STALE_OR_INCOMPLETE_SOURCE:
        return f"{found.kind} {found.session}", ""
    return str(found.pk), found.digest or digest(found.difference)


def _end_waiver(row: RiskRow, block: ReconciliationBlock, breaks: list[Break], actor: str, now: datetime) -> None:
    """Whoever waived it knew of other breaks than stand now: the word does not hold for these."""
    if block.waived_until is None or block.waived_until <= now:
        return
    known = block.waived_breaks.items()
    new = [found for found in breaks if _waived(found) not in known]
    if not new:
        return
    block.waived_until = now
    block.save()
    told = [str(found)[:150] for found in new[:20]]
    data = {"block": block.pk, "session": str(block.session), "waived_by": block.waived_by, "new": told}
    journal.append(row, kind="waiver_ended", actor=actor, subject=row.scope, data=data, at=now)
    log.warning("waiver_ended", scope=row.scope, session=str(block.session), new=len(new))


def lift_block(block_id: int, *, actor: str, reason: Any, clock: Clock) -> ReconciliationBlock:
    """Lift a block that a person has placed. Raises ConflictError ``breaks_open`` for one that breaks hold: one that
    reconciliation placed, or the only one that stands while they are open."""
    block = _found(block_id)
    why = checked_reason(reason)
    with locked_risk(account_scope(block.account.code)) as row:
        block = _standing(block_id)
        needed = block.placed_by == RECONCILIATION or not _own(block.account).exists()
        if needed and blocking_breaks(block.account).exists():
            raise ConflictError("its breaks are open", code="breaks_open", remedy="resolve and close them, or waive it")
        _lift(row, block, why, actor=actor, now=clock.now())
    return block


def _lift(row: RiskRow, block: ReconciliationBlock, why: str, *, actor: str, now: datetime) -> None:
    block.lifted_at, block.lifted_by, block.lift_reason = now, actor, why[:200]
    block.save()
    data = {"block": block.pk, "session": str(block.session), "reason": why}
    journal.append(row, kind="session_unblocked", actor=actor, subject=row.scope, data=data, at=now)
    log.warning("session_unblocked", scope=row.scope, session=str(block.session), actor=actor)


def waive_block(block_id: int, *, until: datetime, actor: str, reason: Any, clock: Clock) -> ReconciliationBlock:
    """Let the account trade until ``until`` although its breaks are open; after that it is blocked again, and before
    it as soon as a run finds a break that does not stand now. One block that breaks hold stands for all of them."""
    errors, now = FieldErrors(), clock.now()
    why = parse_reason(reason, "reason", errors)
    if until.tzinfo is None or not now < until <= now + LONGEST_WAIVER:
        days = LONGEST_WAIVER.days
        errors.add("until", until, "is not within the next days", f"a time with its zone, at most {days} days ahead")
    if errors:
        raise InvalidInputError(errors.errors)
    block = _found(block_id)
    with locked_risk(account_scope(block.account.code)) as row:
        block = _standing(block_id)
        held = _own(block.account).exclude(pk=block_id) if block.placed_by == RECONCILIATION else ()
        known = dict(_waived(found) for found in blocking_breaks(block.account))
        for each in (block, *held):
            each.waived_until, each.waived_by, each.waiver_reason = until, actor, str(why)[:200]
            each.waived_breaks = known
            each.save()
        data = {"block": block.pk, "session": str(block.session), "until": rfc3339(until), "reason": why}
        data |= {"blocks": sorted(each.pk for each in (block, *held))}
        journal.append(row, kind="block_waived", actor=actor, subject=row.scope, data=data, at=now)
    log.warning(
        "block_waived", account=block.account.code, session=str(block.session), until=rfc3339(until), actor=actor
    )
    return block


def _found(block_id: int) -> ReconciliationBlock:
    block = ReconciliationBlock.objects.select_related("account").filter(pk=block_id).first()
    if block is None:
        raise NotFoundError(f"there is no block {block_id}", code="block_not_found", remedy="see GET recon/blocks")
    return block


def _standing(block_id: int) -> ReconciliationBlock:
    block = _found(block_id)
    if block.lifted_at is not None:
        raise ConflictError(f"block {block_id} was lifted", code="block_lifted", remedy="nothing is to do")
    return block


def checked_reason(reason: Any) -> str:
    """A reason as it is kept. Raises InvalidInputError."""
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 200 or not reason.isprintable():
        problem = "must be 1 to 200 printable characters"
        raise InvalidInputError([FieldError("reason", reason, problem, "say why, for the record")])
    return reason.strip()
