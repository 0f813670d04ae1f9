"""The report of one account and day: what was matched, which breaks stand, proofs, P&L, who affirmed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Q

from backend.tradingbot.core.values import plain
from backend.tradingbot.data.calendar import OutsideCalendarError, business_days_between
from backend.tradingbot.models import Affirmation, Break, ReconciliationBlock, ReconRun, Statement
from backend.tradingbot.ops.waterfall import Bar, bars_of

AGES = (("new", 0), ("1 day", 1), ("2-5 days", 5))
OLDEST = "over 5 days"
AGE_BANDS = [*(name for name, _ in AGES), OLDEST]


@dataclass(frozen=True)
class KindRow:
    """The breaks of one kind that stand: how many of each age, and the dollars at stake."""

    kind: str
    ages: list[int]
    value: Decimal

    @property
    def count(self) -> int:
        return sum(self.ages)


@dataclass(frozen=True)
class Report:
    """Everything that the page shows. ``breaks`` are (break, age in business days)."""

    run: ReconRun
    statements: list[Statement]
    breaks: list[tuple[Break, int]]
    kinds: list[KindRow]
    bars: list[Bar]
    affirmation: Affirmation | None
    blocks: list[ReconciliationBlock]

    @property
    def matched(self) -> int:
        return int(sum(self.run.counts.get("matched", {}).values()))

    @property
    def standing(self) -> list[Break]:
        return [row for row, _ in self.breaks if row.status != "closed"]

    @property
    def by_age(self) -> list[tuple[str, int]]:
        """How many stand of each age; an age that none has is left out."""
        told = [(name, sum(row.ages[place] for row in self.kinds)) for place, name in enumerate(AGE_BANDS)]
        return [(name, count) for name, count in told if count]


def age_of(found: Break, today: date) -> int:
    """Business days since the break was first found, by the account's calendar."""
    since = found.session or found.opened_at.date()
    try:
        return max(business_days_between(since, today, found.account.session_calendar), 0)
    except OutsideCalendarError:
        return max((today - since).days, 0)


def age_band(days: int) -> str:
    return next((name for name, most in AGES if days <= most), OLDEST)


def breaks_of(run: ReconRun) -> list[Break]:
    """The breaks that stood at this session: found by then, and not closed before it was."""
    rows = Break.objects.select_related("account").filter(account=run.account).defer("carry", "effects", "notes")
    stood = rows.exclude(status="closed").exclude(session__gt=run.session)
    seen = rows.filter(status="closed", last_session=run.session)
    return sorted(
        {row.pk: row for row in (*stood, *seen)}.values(),
        key=lambda row: (row.status == "closed", row.severity, -row.value, row.kind, row.subject),
    )


def report_of(run: ReconRun) -> Report:
    found = [(row, age_of(row, run.session)) for row in breaks_of(run)]
    signed = Affirmation.objects.filter(account=run.account, session=run.session, replaced_at=None).first()
    return Report(
        run, list(run.statements.all()), found, _kinds([pair for pair in found if pair[0].status != "closed"]),
        bars_of(run.proofs.get("equity")), signed,
        _blocks(run),
    )  # fmt: skip


def _blocks(run: ReconRun) -> list[ReconciliationBlock]:
    """Those that this session placed, and every other by then that still stands."""
    of_this = Q(session=run.session)
    of_others = Q(lifted_at=None) & (Q(session=None) | Q(session__lte=run.session))
    return list(ReconciliationBlock.objects.filter(of_this | of_others, account=run.account).order_by("id"))


def _kinds(standing: list[tuple[Break, int]]) -> list[KindRow]:
    """One row a kind, the most dollars first."""
    counted = Counter((row.kind, age_band(age)) for row, age in standing)
    worth: dict[str, Decimal] = {}
    for row, _ in standing:
        worth[row.kind] = worth.get(row.kind, Decimal(0)) + row.value
    rows = [KindRow(kind, [counted[kind, band] for band in AGE_BANDS], value) for kind, value in worth.items()]
    return sorted(rows, key=lambda row: (-row.value, row.kind))


def summary_lines(run: ReconRun) -> tuple[str, list[str]]:
    """The subject and the text of the day's summary."""
    report = report_of(run)
    subject = f"{run.account.code} {run.session}: {run.state}, {len(report.standing)} open breaks"
    lines = [f"{run.account.code}, session {run.session}: {run.state}", ""]
    if run.failure:
        lines += [f"Problem: {run.failure}", ""]
    lines.append(f"Executions matched: {report.matched} of {run.counts.get('ours', 0)} here")
    for row in sorted(report.kinds, key=lambda row: row.kind):
        lines.append(f"Open {row.kind}: {row.count}, {plain(row.value)} dollars")
    equity = run.proofs.get("equity")
    if equity:
        lines += ["", f"Equity: {equity['opening']} -> {equity['closing']}"]
        lines += [f"  {name}: {value}" for name, value in equity["lines"].items()]
        lines.append(f"  unexplained: {equity['unexplained']}")
    blocked = [block.reason for block in report.blocks if block.lifted_at is None]
    lines += ["", "Next session: " + ("blocked: " + "; ".join(blocked) if blocked else "free")]
    return subject, lines


def as_dict(report: Report) -> dict[str, Any]:
    """The figures of the report as JSON."""
    return {
        "matched": report.matched,
        "counts": report.run.counts,
        "breaks_by_kind": [
            {"kind": row.kind, "count": row.count, "value": plain(row.value)}
            for row in sorted(report.kinds, key=lambda row: row.kind)
        ],
        "breaks_by_age": [{"age": name, "count": count} for name, count in report.by_age],
        "proofs": report.run.proofs,
        "pnl": report.run.pnl,
    }
