"""Opening breaks. The caller holds the account's risk row: its lock makes the look before the insert safe, and the
constraint ``break_stands_once`` is the referee all the same."""

from __future__ import annotations

from typing import Any

import structlog

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Break, RiskRow
from backend.tradingbot.services import journal

log = structlog.get_logger(__name__)


def open_break(
    row: RiskRow,
    *,
    kind: str,
    subject: str,
    severity: str,
    cause: str,
    clock: Clock,
    symbol: str = "",
    ours: dict[str, Any] | None = None,
    theirs: dict[str, Any] | None = None,
    difference: dict[str, Any] | None = None,
    explanation: str = "",
) -> Break:
    """The break that stands for this difference on the locked account ``row``, opened and journalled when it is new.

    Seen again with the same figures nothing happens. With other figures the standing break takes them, keeps its
    status, and the change is journalled. Severity only ever rises here.
    """
    account = row.account
    if account is None:
        raise ValueError(f"a break belongs to an account, and {row.scope} has none")
    figures = {"ours": ours or {}, "theirs": theirs or {}, "difference": difference or {}}
    found = Break.objects.filter(account=account, kind=kind, subject=subject).exclude(status="closed").first()
    if found is not None:
        return _seen_again(row, found, figures, severity, cause, clock)
    now = clock.now()
    found = Break.objects.create(
        account=account, kind=kind, severity=severity, symbol=symbol, subject=subject, **figures,
        suggested_explanation=explanation[:500], opened_at=now, opened_by=cause, updated_at=now,
        trace_id=TRACE_ID.get(), build_id=build_id(),
    )  # fmt: skip
    _record(row, "break_opened", found, cause, clock)
    return found


def _seen_again(row: RiskRow, found: Break, figures: dict[str, Any], severity: str, cause: str, clock: Clock) -> Break:
    worse = severity == "critical" and found.severity != "critical"
    if not worse and all(getattr(found, name) == value for name, value in figures.items()):
        return found
    for name, value in figures.items():
        setattr(found, name, value)
    found.severity = "critical" if worse else found.severity
    found.updated_at = clock.now()
    found.save()
    _record(row, "break_changed", found, cause, clock)
    return found


def _record(row: RiskRow, kind: str, found: Break, cause: str, clock: Clock) -> None:
    data = {
        "break_id": found.pk, "break_kind": found.kind, "severity": found.severity, "symbol": found.symbol,
        "status": found.status, "ours": found.ours, "theirs": found.theirs, "difference": found.difference,
    }  # fmt: skip
    journal.append(row, kind=kind, actor=cause, subject=found.subject, data=data, at=found.updated_at)
    log.warning(kind, scope=row.scope, break_kind=found.kind, severity=found.severity, subject=found.subject)
