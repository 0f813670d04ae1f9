"""Affirming a day: positions and cash as a snapshot with its hash, signed by a person, by two where the rules say so.

Invariants: a snapshot never changes; figures that change make a new one, and the old signature stays with the old
figures; the second signer is another person; a day that is not signed in time is told.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import ConflictError, NotAllowedError, NotFoundError
from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.people import same_person
from backend.tradingbot.models import Affirmation, ReconRun
from backend.tradingbot.ops.recon_close import Closing, closing_json
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import account_scope, lock_risk, locked_risk
from backend.tradingbot.services.recon_policies import Policy

log = structlog.get_logger(__name__)


def offer(run: ReconRun, closing: Closing, policy: Policy, *, now: datetime) -> Affirmation:
    """The snapshot of ``run`` to be signed; the caller holds the account. The same figures are the one that stands."""
    told = closing_json(closing)
    snapshot = {
        "account": run.account.code, "session": str(run.session), "cut": rfc3339(run.cut),
        "positions": told["ours"]["positions"], "cash": told["ours"]["cash"],
        "broker_positions": told["theirs"]["positions"], "broker_cash": told["theirs"]["cash"],
    }  # fmt: skip
    fresh = digest(snapshot)
    found = Affirmation.objects.filter(account=run.account, session=run.session, replaced_at__isnull=True).first()
    if found is not None and found.sha256 == fresh:
        return found
    if found is not None:
        found.replaced_at = now
        found.save(update_fields=["replaced_at"])
    return Affirmation.objects.create(
        account=run.account, session=run.session, run=run, snapshot=snapshot, sha256=fresh,
        needs_second=policy.second_signer, due_at=now + timedelta(hours=settings.TRADINGBOT.affirmation_hours),
        made_at=now,
    )  # fmt: skip


def sign(affirmation_id: int, *, sha256: str, actor: str, clock: Clock) -> Affirmation:
    """Sign the snapshot whose hash the signer names. Raises NotFoundError, ConflictError, NotAllowedError."""
    found = Affirmation.objects.select_related("account").filter(pk=affirmation_id).first()
    if found is None:
        raise NotFoundError(f"there is no affirmation {affirmation_id}", remedy="see GET recon/affirmations")
    with locked_risk(account_scope(found.account.code)) as row:
        found = Affirmation.objects.select_related("account").select_for_update(of=("self",)).get(pk=affirmation_id)
        _check(found, sha256, actor)
        now = clock.now()
        if not found.signed_by:
            found.signed_by, found.signed_at = actor, now
        else:
            found.second_by, found.second_at = actor, now
        found.save()
        data = {"session": str(found.session), "sha256": found.sha256, "complete": is_signed(found)}
        journal.append(row, kind="affirmed", actor=actor, subject=row.scope, data=data, at=now)
    log.info("affirmed", account=found.account.code, session=str(found.session), actor=actor)
    return found


def _check(found: Affirmation, sha256: str, actor: str) -> None:
    if found.replaced_at is not None:
        raise ConflictError(
            "a correction changed these figures", code="affirmation_replaced", remedy="sign the new one"
        )
    if found.sha256 != sha256 or digest(found.snapshot) != found.sha256:
        raise ConflictError("these are not the figures that stand", code="affirmation_hash", remedy="read them again")
    if is_signed(found):
        raise ConflictError("it is signed already", code="affirmation_signed", remedy="nothing is to do")
    if found.signed_by and same_person(found.signed_by, actor):
        raise NotAllowedError("one person signs once", code="maker_is_checker", remedy="ask a second person")


def is_signed(found: Affirmation) -> bool:
    return bool(found.second_by if found.needs_second else found.signed_by)


def overdue(*, clock: Clock) -> list[Affirmation]:
    """Those past their deadline that nobody was told of yet."""
    rows = Affirmation.objects.select_related("account").filter(replaced_at=None, alerted_at=None)
    return [found for found in rows.filter(due_at__lt=clock.now()) if not is_signed(found)]


def mark_told(found: Affirmation, *, clock: Clock) -> None:
    """It was told that ``found`` is overdue: each is told once."""
    with transaction.atomic():
        lock_risk(account_scope(found.account.code))
        told = Affirmation.objects.filter(pk=found.pk, alerted_at=None).update(alerted_at=clock.now())
    if told:
        log.error("affirmation_overdue", account=found.account.code, session=str(found.session))


def shown(found: Affirmation) -> dict[str, Any]:
    return {
        "id": found.pk, "account": found.account.code, "session": str(found.session), "sha256": found.sha256,
        "snapshot": found.snapshot, "needs_second": found.needs_second, "due_at": rfc3339(found.due_at),
        "signed_by": found.signed_by or None, "signed_at": rfc3339(found.signed_at),
        "second_by": found.second_by or None, "second_at": rfc3339(found.second_at),
        "replaced_at": rfc3339(found.replaced_at), "signed": is_signed(found),
    }  # fmt: skip
