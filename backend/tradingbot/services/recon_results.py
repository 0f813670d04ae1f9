"""What a run found is stored here: breaks opened, changed, re-opened and cleared, in bulk and in one transaction.

Invariants: the caller holds the account's risk row; a difference stands once, whatever number of runs find it; the same
evidence changes nothing, and what two people have closed stays closed as long as its evidence is the same; only what
reconciliation opened is cleared by reconciliation. One journal entry tells of all of it, with a digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q

from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.values import plain
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Account, Break, BreakEvent, NotifiedFact, RiskRow
from backend.tradingbot.ops import notices
from backend.tradingbot.ops.break_state import BreakStatus, BreakStep, next_break_status
from backend.tradingbot.ops.recon_breaks import STATE_SUBJECTS, Activity, FoundBreak, money, signed
from backend.tradingbot.ops.recon_frames import as_text, from_text
from backend.tradingbot.ops.recon_kinds import BreakKind, SeverityTable
from backend.tradingbot.services import journal, notifications
from backend.tradingbot.services.recon_blocks import RECONCILIATION

ZERO = Decimal(0)
STEP = Decimal("1e-9")
BATCH = 1_000
FIELDS = [
    "severity", "symbol", "ours", "theirs", "difference", "suggested_explanation", "status", "last_session", "value",
    "digest", "effects", "carry", "updated_at", "booked_at", "resolved_at", "resolved_by", "resolution", "closed_at",
    "closed_by", "cleared_session", "session",
]  # fmt: skip


@dataclass
class Changes:
    """What one store did, by step; ``events`` are written after the breaks have their ids."""

    fresh: list[Break] = field(default_factory=list)
    changed: list[Break] = field(default_factory=list)
    events: list[tuple[Break, str, str, str, str]] = field(default_factory=list)

    def note(self, row: Break, kind: str, before: str, reason: str, actor: str = RECONCILIATION) -> None:
        self.events.append((row, kind, before, reason, actor))


def store_breaks(
    row: RiskRow,
    found: Iterable[FoundBreak],
    session: date,
    *,
    complete: bool,
    severities: SeverityTable,
    now: datetime,
) -> dict[str, int]:
    """Bring the account's breaks in line with ``found``; returns how many were opened, changed, reopened, cleared."""
    account, listed = row.account, list(found)
    if account is None:
        raise ValueError("a break is on an account")
    standing = _standing(account, [each.key for each in listed])
    changes = Changes()
    for each in listed:
        _take(changes, standing.get(each.key), each, account, session, severities, now)
    _clear(changes, account, {each.key for each in listed}, session, complete, now)
    _raise_severity(changes, account, severities, now)
    Break.objects.bulk_create(changes.fresh, batch_size=BATCH)
    Break.objects.bulk_update(changes.changed, FIELDS, batch_size=BATCH)
    BreakEvent.objects.bulk_create([_event(*event, now) for event in changes.events], batch_size=BATCH)
    counts: dict[str, int] = {}
    for _, kind, *_ in changes.events:
        counts[kind] = counts.get(kind, 0) + 1
    if changes.events:
        told = [[event[0].pk, event[1], event[0].kind, event[0].subject, event[0].digest] for event in changes.events]
        data = {"session": str(session), "counts": counts, "digest": digest(told), "first": told[:20]}
        journal.append(row, kind="breaks_found", actor=RECONCILIATION, subject=row.scope, data=data, at=now)
        _tell_of_critical(changes, account.code, session, now)
    return counts


def _tell_of_critical(changes: Changes, account: str, session: date, now: datetime) -> None:
    """One notification of the critical breaks that are new, found again, or critical only now."""
    keys: dict[int, str] = {}
    kind_of: dict[int, str] = {}
    for found, what, *_ in changes.events:
        if found.severity == "critical" and what in ("opened", "changed", "reopened"):
            keys[found.pk] = f"break:{found.pk}" + (f":reopened:{session}" if what == "reopened" else "")
            kind_of[found.pk] = found.kind
    known = set(NotifiedFact.objects.filter(key__in=keys.values()).values_list("key", flat=True))
    new = {pk: key for pk, key in keys.items() if key not in known}
    if new:
        notice = notices.breaks_found(account, str(session), Counter(kind_of[pk] for pk in new), list(new))
        notifications.note(notice, list(new.values()), subject=f"account:{account}", at=now)


def _standing(account: Account, keys: list[tuple[str, str]]) -> dict[tuple[str, str], Break]:
    """For each key the break that stands, else the newest that is closed."""
    subjects = sorted({subject for _, subject in keys})
    found: dict[tuple[str, str], Break] = {}
    for start in range(0, len(subjects), 5_000):
        rows = Break.objects.filter(account=account, subject__in=subjects[start : start + 5_000])
        for row in rows.order_by("id"):
            known = found.get((row.kind, row.subject))
            if known is None or known.status == BreakStatus.CLOSED:
                found[(row.kind, row.subject)] = row
    return found


def _take(
    changes: Changes, known: Break | None, found: FoundBreak, account: Account, session: date,
    severities: SeverityTable, now: datetime,
) -> None:  # fmt: skip
    severity = severities.of(str(found.kind))
    booked = known is not None and known.status == BreakStatus.CLOSED and known.booked_at is not None
    if booked and found.subject.startswith(STATE_SUBJECTS):
        known = None  # our books hold that one: the same difference again is another one
    if known is None:
        row = Break(
            account=account, kind=str(found.kind), subject=found.subject, status=BreakStatus.OPEN, session=session,
            opened_at=now, opened_by=RECONCILIATION, trace_id=TRACE_ID.get(), build_id=build_id(),
        )  # fmt: skip
        _fill(row, found, severity, session, now)
        changes.fresh.append(row)
        changes.note(row, "opened", "", "")
        return
    cleared = known.status == BreakStatus.CLOSED and known.closed_by == RECONCILIATION
    if cleared and known.cleared_session is not None and known.cleared_session > session:
        cleared = False  # a later session has explained it, and is closed anew after this one
    if known.digest == found.digest and not cleared:
        if known.last_session is None or known.last_session < session:
            known.last_session = session
            changes.changed.append(known)
        return
    before = known.status
    if before == BreakStatus.CLOSED:
        known.status = next_break_status(before, BreakStep.REOPEN)
        known.resolved_at, known.resolved_by, known.resolution = None, "", ""
        known.closed_at, known.closed_by, known.cleared_session = None, "", None
        known.session = session  # it ages from now on
        changes.note(known, "reopened", before, "found again" if cleared else "found again with other figures")
    else:
        known.status = next_break_status(before, BreakStep.CHANGE)
        if known.status != before:
            known.resolved_at, known.resolved_by, known.resolution = None, "", ""
        changes.note(known, "changed", before, "other figures")
    _fill(known, found, severity, session, now)
    changes.changed.append(known)


def _fill(row: Break, found: FoundBreak, severity: str, session: date, now: datetime) -> None:
    row.severity, row.symbol, row.updated_at = severity, found.symbol[:32], now
    row.ours, row.theirs, row.difference = dict(found.ours), dict(found.theirs), dict(found.difference)
    row.suggested_explanation, row.value = found.explanation[:500], found.value
    row.digest, row.last_session = found.digest, max(row.last_session or session, session)
    row.effects, row.carry = effects_json(found), carry_json(found)


def _clear(
    changes: Changes, account: Account, keys: set[tuple[str, str]], session: date, complete: bool, now: datetime
) -> None:
    """Close what a complete run no longer finds. A source break is cleared by a complete run of its own session."""
    if not complete:
        return
    rows = Break.objects.filter(account=account, opened_by=RECONCILIATION).exclude(status=BreakStatus.CLOSED)
    rows = rows.filter(Q(session__isnull=True) | Q(session__lte=session))
    for row in rows:
        of_other_day = row.kind == BreakKind.STALE_OR_INCOMPLETE_SOURCE and row.session != session
        if (row.kind, row.subject) in keys or of_other_day:
            continue
        before, row.status = row.status, next_break_status(row.status, BreakStep.CLEAR)
        why = f"no longer found by the run of {session}"
        row.resolved_at, row.resolved_by, row.resolution = now, RECONCILIATION, why
        row.closed_at, row.closed_by, row.updated_at, row.cleared_session = now, RECONCILIATION, now, session
        changes.changed.append(row)
        changes.note(row, "cleared", before, why)
    _explain_earlier(changes, account, keys, session)


def _raise_severity(changes: Changes, account: Account, severities: SeverityTable, now: datetime) -> None:
    """A kind that only warned and blocks under the table in force: so do its breaks that stand. Never the other way,
    since what blocks is let go by two people."""
    seen = {row.pk for row in changes.changed}
    rows = Break.objects.filter(account=account, opened_by=RECONCILIATION, severity="warning")
    for row in rows.exclude(status=BreakStatus.CLOSED).exclude(pk__in=seen).exclude(kind__in=severities.warnings):
        row.severity, row.updated_at = "critical", now
        changes.changed.append(row)
        changes.note(row, "changed", row.status, f"blocks by the severity table {severities.version}")


def _explain_earlier(changes: Changes, account: Account, keys: set[tuple[str, str]], session: date) -> None:
    """What a later session has cleared and this one, run again, does not find any more is explained here already: both
    sides of it are in this session, and the later one, run anew after it, must not begin with one side of it alone."""
    rows = Break.objects.filter(account=account, opened_by=RECONCILIATION, closed_by=RECONCILIATION)
    for row in rows.filter(status=BreakStatus.CLOSED, session__lte=session, cleared_session__gt=session):
        looked_at = row.kind != BreakKind.STALE_OR_INCOMPLETE_SOURCE and not row.subject.startswith(STATE_SUBJECTS)
        if looked_at and (row.kind, row.subject) not in keys:
            row.cleared_session = session
            changes.changed.append(row)


def _event(row: Break, kind: str, before: str, reason: str, actor: str, now: datetime) -> BreakEvent:
    data = {"digest": row.digest, "difference": row.difference, "value": str(plain(row.value))}
    return BreakEvent(
        found_break=row, kind=kind, before=before, after=row.status, at=now, actor=actor, reason=reason, data=data,
        trace_id=TRACE_ID.get(), build_id=build_id(),
    )  # fmt: skip


def effects_json(found: FoundBreak) -> dict[str, Any]:
    """What our books lack to agree, as stored: positions, cash, the moves that book it, the activities behind it."""
    told: dict[str, Any] = {}
    if found.effects:
        told["positions"] = {symbol: plain(qty) for symbol, qty in found.effects}
    if found.cash_effect:
        told["cash"] = plain(found.cash_effect)
    if found.possible_effects:
        told["possible"] = {symbol: plain(qty) for symbol, qty in found.possible_effects}
        told["possible_cash"] = plain(found.possible_cash)
    if found.activities:
        told["activities"] = [as_text(vars(each)) for each in found.activities]
    moves = _moves(found)
    if moves:
        told["moves"] = moves
    if found.kind == BreakKind.COST_BASIS:
        told["cost"] = {"symbol": found.symbol, "price": found.theirs.get("price")}
    return told


def _moves(found: FoundBreak) -> list[dict[str, Any]]:
    """Position and cash by symbol: from the executions where there are any, else from the effects."""
    if not found.effects and not found.cash_effect:
        return []
    total: dict[str, list[Decimal]] = {}
    for rows, sign in ((found.carry_theirs, 1), (found.carry_ours, -1)):
        for row in rows:
            entry = total.setdefault(row["symbol"], [ZERO, ZERO])
            entry[0] += sign * signed(row)
            entry[1] += sign * money(row)
    if not total:
        total = {symbol: [qty, ZERO] for symbol, qty in found.effects} or {"": [ZERO, ZERO]}
        next(iter(total.values()))[1] = found.cash_effect
    return [
        {"symbol": symbol, "qty": plain(qty), "cash": plain(cash.quantize(STEP))}
        for symbol, (qty, cash) in sorted(total.items())
    ]


def carry_json(found: FoundBreak) -> dict[str, Any]:
    if not found.is_carried:
        return {}
    return {"ours": [as_text(row) for row in found.carry_ours], "theirs": [as_text(row) for row in found.carry_theirs]}


def found_of(row: Break) -> FoundBreak:
    """The finding that a stored break stands for, so that a later run can let it stand."""
    effects = row.effects
    return FoundBreak(
        kind=BreakKind(row.kind), subject=row.subject, symbol=row.symbol, ours=row.ours, theirs=row.theirs,
        difference=row.difference, explanation=row.suggested_explanation, value=row.value,
        effects=_pairs(effects.get("positions", {})), cash_effect=Decimal(effects.get("cash") or 0),
        possible_effects=_pairs(effects.get("possible", {})), possible_cash=Decimal(effects.get("possible_cash") or 0),
        activities=tuple(activity_of(each) for each in effects.get("activities", ())),
    )  # fmt: skip


def activity_of(raw: dict[str, Any]) -> Activity:
    return Activity(
        raw["activity_id"], raw["kind"], raw.get("symbol", ""), Decimal(raw["amount"]), Decimal(raw["qty"]),
        date.fromisoformat(raw["date"]), raw.get("description", ""),
    )  # fmt: skip


def _pairs(raw: dict[str, str]) -> tuple[tuple[str, Decimal], ...]:
    return tuple(sorted((symbol, Decimal(qty)) for symbol, qty in raw.items()))


@dataclass(frozen=True)
class Standing:
    """What earlier sessions left for a run: executions to match again, breaks that stand, keys whose effects are
    booked, the orders that earlier breaks are about, and which of the executions were taken back."""

    carried_ours: list[dict[str, Any]]
    carried_theirs: list[dict[str, Any]]
    breaks: tuple[FoundBreak, ...]
    settled: frozenset[tuple[str, str]]
    orders: list[str]
    taken_back: frozenset[str]


def standing_before(account: Account, session: date) -> Standing:
    """From the breaks of sessions before ``session`` that were not cleared before it and are not booked. What this
    session itself has cleared, or a later one, stood when it began: run again, it begins with the same."""
    rows = Break.objects.filter(account=account, opened_by=RECONCILIATION)
    rows = rows.filter(~Q(resolved_by=RECONCILIATION) | Q(cleared_session__gte=session))
    booked = rows.filter(booked_at__isnull=False).values_list("kind", "subject")
    settled = frozenset(key for key in booked if not key[1].startswith(STATE_SUBJECTS))
    early = rows.filter(booked_at__isnull=True, session__lt=session).exclude(kind=BreakKind.STALE_OR_INCOMPLETE_SOURCE)
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    breaks, orders, taken_back = [], [], set()
    for row in early.order_by("id"):
        if row.carry:
            ours += [from_text("executions", each) for each in row.carry.get("ours", ())]
            theirs += [from_text("executions", each) for each in row.carry.get("theirs", ())]
            if row.kind == BreakKind.BUST_OR_CORRECTION:
                taken_back |= {each.get("execution_id") for rows in row.carry.values() for each in rows}
        elif not row.subject.startswith(STATE_SUBJECTS):
            breaks.append(found_of(row))
            orders += [side["client_order_id"] for side in (row.ours, row.theirs) if side.get("client_order_id")]
    return Standing(ours, theirs, tuple(breaks), settled, orders, frozenset(taken_back))
