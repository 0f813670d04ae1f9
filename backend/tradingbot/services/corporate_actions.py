"""Corporate actions put on file and withdrawn. The checks of bars look here before they stop an overnight ratio.

Invariants: every entry and every withdrawal has a name and a reason and is journalled on the firm's chain; an action on
file releases nothing by itself: the next clean check does.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import parse_decimal, parse_reason, parse_symbol
from backend.tradingbot.core.values import plain
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import CorporateAction
from backend.tradingbot.models.corporate_actions import ACTION_KINDS
from backend.tradingbot.services import journal
from backend.tradingbot.services.constraints import refused_by
from backend.tradingbot.services.locks import FIRM, lock_risk

log = structlog.get_logger(__name__)

FIELDS = ("symbol", "ex_date", "ratio", "kind", "source", "reason")
LARGEST = Decimal(1_000)


def enter(body: Any, *, actor: str, clock: Clock) -> CorporateAction:
    """``{symbol, ex_date, ratio, source, reason, kind?}``; ``ratio`` is a decimal string, the new shares for each old.

    Raises InvalidInputError naming every wrong field, ConflictError ``corporate_action_on_file`` for a second one of a
    symbol on a day.
    """
    values = parse(body)
    taken = ConflictError(
        f"an action of {values['symbol']} on {values['ex_date']} is on file already",
        code="corporate_action_on_file",
        remedy="withdraw that one first if it is wrong",
    )
    with transaction.atomic():
        firm = lock_risk(FIRM)
        now = clock.now()
        with refused_by({"corporate_action_once": taken}):
            row = CorporateAction.objects.create(
                **values, entered_at=now, entered_by=actor, trace_id=TRACE_ID.get(), build_id=build_id()
            )
        _journal(firm, "corporate_action", row, actor, {"source": row.source, "reason": row.reason}, clock)
    return row


def parse(body: Any) -> dict[str, Any]:
    """The entry's values. Raises InvalidInputError."""
    errors = FieldErrors()
    if not isinstance(body, dict):
        errors.add("body", body, "must be an object", "send " + ", ".join(FIELDS))
        raise InvalidInputError(errors.errors)
    for name in sorted(body.keys() - set(FIELDS)):
        errors.add(str(name), body[name], "is not a known field", "known: " + ", ".join(FIELDS))
    kind = body.get("kind", "split")
    if kind not in ACTION_KINDS:
        errors.add("kind", kind, "is not a known kind", "use " + ", ".join(ACTION_KINDS))
    values = {
        "symbol": parse_symbol(body.get("symbol"), "symbol", errors),
        "ex_date": _date(body.get("ex_date"), errors),
        "ratio": _ratio(body.get("ratio"), errors),
        "kind": kind,
        "source": _source(body.get("source"), errors),
        "reason": parse_reason(body.get("reason"), "reason", errors),
    }
    if errors:
        raise InvalidInputError(errors.errors)
    return values


def _date(raw: Any, errors: FieldErrors) -> date | None:
    try:
        found = date.fromisoformat(raw)
    except (TypeError, ValueError):
        found = None
    if found is None or not 1970 <= found.year <= 2100:
        errors.add("ex_date", raw, "is not a date", 'for example "2026-06-10", the first session at the new price')
        return None
    return found


def _ratio(raw: Any, errors: FieldErrors) -> Decimal | None:
    value = parse_decimal(raw, "ratio", errors)
    if value is not None and (value == 1 or not 1 / LARGEST <= value <= LARGEST):
        errors.add("ratio", raw, "must change the price, by a factor of at most 1000", "4 is a split of four for one")
        return None
    return value


def _source(raw: Any, errors: FieldErrors) -> str:
    if isinstance(raw, str) and raw.strip() and len(raw) <= 120 and raw.isprintable():
        return raw.strip()
    errors.add("source", raw, "must be 1 to 120 printable characters", "where it is announced")
    return ""


def withdraw(action_id: int, *, actor: str, reason: Any, clock: Clock) -> CorporateAction:
    """Take a wrong entry off file; it stays to be read. Raises NotFoundError, ConflictError ``already_withdrawn``."""
    errors = FieldErrors()
    why = parse_reason(reason, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic():
        firm = lock_risk(FIRM)
        row = CorporateAction.objects.select_for_update().filter(pk=action_id).first()
        if row is None:
            raise NotFoundError(f"there is no corporate action {action_id}", remedy="see the list of them")
        if row.withdrawn_at is not None:
            said = f"it was withdrawn by {row.withdrawn_by}"
            raise ConflictError(said, code="already_withdrawn", remedy="nothing is left to do")
        row.withdrawn_at, row.withdrawn_by, row.withdrawn_why = clock.now(), actor, why
        row.save(update_fields=["withdrawn_at", "withdrawn_by", "withdrawn_why"])
        _journal(firm, "corporate_action_withdrawn", row, actor, {"reason": why}, clock)
    return row


def _journal(firm: Any, kind: str, row: CorporateAction, actor: str, data: dict[str, Any], clock: Clock) -> None:
    facts = {"kind": row.kind, "ex_date": row.ex_date.isoformat(), "ratio": plain(row.ratio), **data}
    journal.append(firm, kind=kind, actor=actor, subject=f"symbol:{row.symbol}", data=facts, at=clock.now())
    log.info(kind, symbol=row.symbol, ex_date=row.ex_date.isoformat(), ratio=plain(row.ratio))
