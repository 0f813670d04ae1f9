"""Statements are received here: read whole, stored with their bytes, or refused with nothing left behind.

Invariants: parsing and every check happen before anything is written; one transaction stores the statement, its bytes
and its lines; the same bytes for the same day, read in the same way, are the statement that is there already: nothing
is added, and it does not become the newest by that (``statement_choices`` lets a person say so).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import IO, Any

import structlog
from django.conf import settings
from django.db import transaction

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.core.values import plain
from backend.tradingbot.data.calendar import NEW_YORK, ROUND_THE_CLOCK, session_date, session_on
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import (
    Account,
    CsvMappingVersion,
    Statement,
    StatementActivity,
    StatementExecution,
    StatementFile,
    StatementOrder,
    StatementPosition,
)
from backend.tradingbot.ops import statements as reading
from backend.tradingbot.ops.statements import Control, Expected, Received
from backend.tradingbot.services import journal
from backend.tradingbot.services.copying import copy_in
from backend.tradingbot.services.locks import account_scope, lock_risk
from backend.tradingbot.services.recon_policies import mapping_named

log = structlog.get_logger(__name__)

LINE_MODELS = {
    "executions": StatementExecution, "orders": StatementOrder, "positions": StatementPosition,
    "activities": StatementActivity,
}  # fmt: skip


def end_of(session: date, calendar: str) -> datetime:
    """The instant at which the trading date ends: 17:00 New York round the clock, else midnight in New York."""
    if calendar == ROUND_THE_CLOCK:
        found = session_on(session, calendar)
        assert found is not None
        return found.closes_at
    return datetime.combine(session + timedelta(days=1), time(0), NEW_YORK).astimezone(UTC)


def expected_of(account: Account, session: date, controls: tuple[Control, ...] = ()) -> Expected:
    """What a statement of this account and session has to be. Raises InvalidInputError for a day without a session."""
    if session_on(session, account.session_calendar) is None:
        problem = f"is no session of {account.session_calendar}"
        raise InvalidInputError([FieldError("session", session, problem, "name a trading day")], code="no_session")
    trade_date_of = partial(session_date, calendar=account.session_calendar)
    as_of = end_of(session, account.session_calendar)
    return Expected(account.broker_account, session, as_of, trade_date_of, controls=controls)


def receive_statement(
    account: Account,
    session: date,
    *,
    name: str,
    stream: IO[bytes],
    source: str,
    actor: str,
    clock: Clock,
    mapping: str = "",
    mapping_version: int | None = None,
    controls: tuple[Control, ...] = (),
) -> tuple[Statement, bool]:
    """Store one uploaded statement; ``(statement, True)`` when it is new. After a StatementError nothing is kept."""
    expected = expected_of(account, session, controls)
    received = reading.receive(name, stream, limit=settings.TRADINGBOT.statement_max_bytes)
    row, how = mapping_named(mapping, mapping_version) if source == "csv" else (None, None)
    found = reading.read_statement(received, expected, source, how)
    return store(account, received, found, actor=actor, clock=clock, mapping=row)


def store(
    account: Account,
    received: Received,
    found: reading.Statement,
    *,
    actor: str,
    clock: Clock,
    mapping: CsvMappingVersion | None = None,
    source: str | None = None,
) -> tuple[Statement, bool]:
    """The statement, its bytes and its lines in one transaction; what is there already is returned."""
    key = {"account": account, "session": found.session, "source": source or found.source, "sha256": received.sha256}
    key["mapping"] = mapping
    with transaction.atomic(durable=True):
        row = lock_risk(account_scope(account.code))
        known = Statement.objects.filter(**key).first()
        if known is not None:
            return known, False
        now, books = clock.now(), found.books
        sections = [name for name in reading.SECTIONS if getattr(books, name) is not None]
        statement = Statement.objects.create(
            **key, name=received.name, size=len(received.original), as_of=found.as_of, sections=sections,
            counts=dict(found.counts), totals=dict(found.totals), problems=[list(each) for each in found.problems],
            controls=[_shown(each) for each in found.controls], cash=books.cash, equity=books.equity,
            received_at=now, received_by=actor, trace_id=TRACE_ID.get(), build_id=build_id(),
        )  # fmt: skip
        StatementFile.objects.create(statement=statement, deflated=zlib.compress(received.original, 6))
        for name, model in LINE_MODELS.items():
            section = getattr(books, name)
            if section is not None:
                lines = section.drop("strategy") if name == "executions" else section
                copy_in(model, lines, statement_id=statement.pk)
        data = {"source": statement.source, "session": str(found.session), "sha256": received.sha256}
        data |= {"counts": statement.counts, "totals": statement.totals, "problems": statement.problems}
        subject = f"statement {statement.pk}"
        journal.append(row, kind="statement_received", actor=actor, subject=subject, data=data, at=now)
    log.info("statement_received", account=account.code, session=str(found.session), source=statement.source,
             sha256=received.sha256, counts=statement.counts, problems=len(found.problems))  # fmt: skip
    return statement, True


def original_of(statement: Statement) -> bytes:
    """The bytes as they came."""
    file = StatementFile.objects.get(statement=statement)
    return zlib.decompress(bytes(file.deflated))


def parse_controls(raw: Mapping[str, Any]) -> tuple[Control, ...]:
    """Controls from ``{"executions": {"rows": 5, "total": "-123.45"}}``. Raises InvalidInputError."""
    found = []
    for section, body in raw.items():
        if section not in LINE_MODELS or not isinstance(body, Mapping) or body.keys() - {"rows", "total"}:
            problem, remedy = "is not a control", 'for example {"executions": {"rows": 5, "total": "-123.45"}}'
            raise InvalidInputError([FieldError(f"controls.{section}", body, problem, remedy)])
        try:
            rows = None if body.get("rows") is None else int(body["rows"])
            total = None if body.get("total") is None else Decimal(str(body["total"]))
        except (ValueError, TypeError, InvalidOperation):
            raise InvalidInputError(
                [FieldError(f"controls.{section}", body, "has a figure that is none", "rows: 5, total: text")]
            ) from None
        found.append(Control(section, rows, total))
    return tuple(found)


def _shown(control: Control) -> dict[str, Any]:
    return {"section": control.section, "rows": control.rows, "total": plain(control.total)}


def shown(statement: Statement) -> dict[str, Any]:
    """A statement as the API and the report show it."""
    return {
        "id": statement.pk, "account": statement.account.code, "session": str(statement.session),
        "source": statement.source, "name": statement.name, "sha256": statement.sha256, "size": statement.size,
        "as_of": rfc3339(statement.as_of), "sections": statement.sections, "counts": statement.counts,
        "totals": statement.totals, "controls": statement.controls, "problems": statement.problems,
        "received_at": rfc3339(statement.received_at), "received_by": statement.received_by,
    }  # fmt: skip
