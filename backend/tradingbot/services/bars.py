"""Bars in: stored once by COPY, never overwritten; what contradicts a stored bar is kept and stops the symbol.

Invariants: the primary key decides what is new; a bar that comes again with the same values changes nothing; one with
other values is a conflict row; bars, conflicts, what was put aside and the stops they cause are committed together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import ConflictError, FieldError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.market_parsing import BAR_VALUES, BarRow, RefusedRow, parse_bar, rows_of
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data.frames import DAY, INTERVALS, micros, moment
from backend.tradingbot.data.session_checks import daily_bar_over
from backend.tradingbot.infra import metrics
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import Bar, BarConflict, Feed, Quarantine
from backend.tradingbot.services import data_stops, journal
from backend.tradingbot.services.data_stops import Stopping
from backend.tradingbot.services.locks import FIRM, lock_risk
from backend.tradingbot.services.second_sources import second_feed

log = structlog.get_logger(__name__)

CLOCK_SKEW = timedelta(seconds=2)
KEPT_ROWS = 100
COLUMNS = '"row", symbol, "interval", "time", open, high, low, close, volume'
INTAKE = """
CREATE TEMPORARY TABLE bar_intake ("row" bigint, symbol varchar(32), "interval" varchar(3), "time" timestamptz,
  open numeric(28, 9), high numeric(28, 9), low numeric(28, 9), close numeric(28, 9), volume numeric(28, 9))
ON COMMIT DROP"""
STORE = """
INSERT INTO tradingbot_bar (symbol, "interval", "time", open, high, low, close, volume, source, ingested_at)
SELECT symbol, "interval", "time", open, high, low, close, volume, %(source)s, %(now)s FROM bar_intake ORDER BY "row"
ON CONFLICT DO NOTHING"""
STORE_SECOND = """
INSERT INTO tradingbot_secondsourcebar
  (feed, symbol, "interval", "time", open, high, low, close, volume, source, ingested_at)
SELECT %(feed)s, symbol, "interval", "time", open, high, low, close, volume, %(source)s, %(now)s
FROM bar_intake ORDER BY "row" ON CONFLICT DO NOTHING"""
VALUES_OF = "jsonb_build_object({})".format(
    ", ".join(f"'{name}', trim_scale({{0}}.{name})::text" for name in BAR_VALUES)
)
DIFFERENT = """
SELECT i."row", i.symbol, i."interval", i."time", {stored}, {offered}
FROM bar_intake i JOIN {{table}} b USING (symbol, "interval", "time")
WHERE (i.open, i.high, i.low, i.close, i.volume) IS DISTINCT FROM (b.open, b.high, b.low, b.close, b.volume)
  {{only}}
ORDER BY i."row" """.format(stored=VALUES_OF.format("b"), offered=VALUES_OF.format("i"))
DIFFERENT_FIRST = DIFFERENT.format(table="tradingbot_bar", only="")
DIFFERENT_SECOND = DIFFERENT.format(table="tradingbot_secondsourcebar", only="AND b.feed = %(feed)s")


@dataclass(frozen=True)
class Contradiction:
    """A row of the batch whose bar is there with other values."""

    row: int
    symbol: str
    interval: str
    time: datetime
    stored: dict[str, str]
    offered: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        where = {"row": self.row, "symbol": self.symbol, "interval": self.interval, "time": rfc3339(self.time)}
        return {**where, "stored": self.stored, "offered": self.offered}


@dataclass(frozen=True)
class Stored:
    """What became of the rows that were good: new, there already, or contradicting what is there."""

    stored: int
    unchanged: int
    conflicts: tuple[Contradiction, ...] = ()


@dataclass(frozen=True)
class PutAside:
    """Rows of a symbol that are no bars: how many, by which check, and the first of them as they came; ``since`` is the
    time of the earliest, ``intervals`` are theirs."""

    symbol: str
    check: str
    rows: int
    shown: list[Any] = field(default_factory=list)
    since: datetime | None = None
    intervals: tuple[str, ...] = ()


def post_bars(
    body: Any, *, may_feed: frozenset[str], clock: Clock, actor: str, feed: str | None = None
) -> dict[str, Any]:
    """``{"bars": [{symbol, interval, time, open, high, low, close, volume}]}``, 1 to 10,000 rows.

    Says what became of each: stored, unchanged, in conflict with the bar that is there, or refused and why. ``feed``
    names a second source: its bars are kept apart, to be compared, and stop nothing by themselves.
    """
    raws, now, second = rows_of(body, "bars"), clock.now(), second_feed(feed)
    if second is not None:
        may_feed &= frozenset(second.symbols)
    rows: list[BarRow] = []
    refused: list[RefusedRow] = []
    for number, raw in enumerate(raws):
        parsed = parse_bar(raw, number, may_feed)
        if isinstance(parsed, BarRow):
            parsed = _ended(parsed, now)
        (rows if isinstance(parsed, BarRow) else refused).append(parsed)  # type: ignore[arg-type]
    aside = _put_aside(raws, refused)
    result = store(_as_csv(rows), len(rows), source=actor[:80], actor=actor, clock=clock, aside=aside, second=second)
    return {
        "stored": result.stored,
        "unchanged": result.unchanged,
        "conflicts": [conflict.as_dict() for conflict in result.conflicts],
        "refused": [row.as_dict() for row in refused],
        "stopped": [] if second else sorted({c.symbol for c in result.conflicts} | {part.symbol for part in aside}),
    }


def _ended(row: BarRow, now: datetime) -> BarRow | RefusedRow:
    """A bar is taken when it is over: what it says until then changes."""
    length = INTERVALS[row.interval]
    daily = length >= DAY
    over_at = daily_bar_over(row.symbol, row.time.date()) if daily else row.time + timedelta(microseconds=length)
    if over_at <= now + CLOCK_SKEW:
        return row
    where, remedy = f"bars[{row.row}].time", "send the bar when it is over, and check the clock"
    error = FieldError(where, rfc3339(row.time), f"belongs to a bar that ends at {rfc3339(over_at)}", remedy)
    return RefusedRow(row.row, (error,), row.symbol)


def _put_aside(raws: Sequence[Any], refused: Iterable[RefusedRow]) -> list[PutAside]:
    """The refused rows whose prices or volumes were impossible: they stop their symbol. A typing error does not."""
    by_symbol: dict[str, list[RefusedRow]] = {}
    for row in refused:
        if row.bad_price and row.symbol:
            by_symbol.setdefault(row.symbol, []).append(row)
    return [
        PutAside(
            symbol, "bad_price", len(rows), [{"row": r.row, "sent": raws[r.row]} for r in rows[:KEPT_ROWS]],
            min(datetime.fromisoformat(raws[r.row]["time"]) for r in rows),
            tuple(sorted({raws[r.row]["interval"] for r in rows})),
        )
        for symbol, rows in by_symbol.items()
    ]  # fmt: skip


def _as_csv(rows: Iterable[BarRow]) -> bytes:
    """Lines for COPY; symbols and intervals are words without commas or quotes."""
    lines = (
        f"{r.row},{r.symbol},{r.interval},{r.time.isoformat()},{r.open},{r.high},{r.low},{r.close},{r.volume}\n"
        for r in rows
    )
    return "".join(lines).encode()


def store(
    lines: bytes,
    rows: int,
    *,
    source: str,
    actor: str,
    clock: Clock,
    aside: Sequence[PutAside] = (),
    second: Feed | None = None,
) -> Stored:
    """COPY ``rows`` lines of ``COLUMNS``, in one transaction with their conflicts, what was put aside and the stops.

    Of a ``second`` source conflicts are answered, what was put aside is kept, and nothing stops.
    """
    now = clock.now()
    with transaction.atomic():
        result = _copy(lines, rows, source, now, "" if second is None else second.code) if rows else Stored(0, 0)
        if second is not None:
            _quarantine(aside, f"{second.code}: {source}", now)
            return result
        if result.conflicts:
            _keep_conflicts(result.conflicts, source, now)
        if aside:
            _quarantine(aside, source, now)
        verdicts = [*_verdicts_of(result.conflicts), *(_aside_verdict(part, source) for part in aside)]
        stoppings = [Stopping(v.symbol, v.check, now, v.evidence) for v in verdicts]
        data_stops.keep(stoppings, data_stops.BARS, actor=actor, clock=clock, why=data_stops.BY_CHECK)
    for verdict in verdicts:
        metrics.VERDICTS.labels(verdict.check, verdict.severity.value).inc(verdict.rows)
    return result


def _copy(lines: bytes, rows: int, source: str, now: datetime, feed: str) -> Stored:
    values: dict[str, str | datetime] = {"source": source, "now": now, "feed": feed}
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bar_intake")
        cursor.execute(INTAKE)
        with cursor.copy(f"COPY bar_intake ({COLUMNS}) FROM STDIN (FORMAT csv)") as copy:
            copy.write(lines)
        cursor.execute(STORE_SECOND if feed else STORE, values)
        stored = cursor.rowcount
        if stored == rows:
            return Stored(stored, 0)
        cursor.execute(DIFFERENT_SECOND if feed else DIFFERENT_FIRST, values)
        found = cursor.fetchall()
    conflicts = tuple(
        Contradiction(row, symbol, interval, time, json.loads(here), json.loads(offered))
        for row, symbol, interval, time, here, offered in found
    )
    return Stored(stored, rows - stored - len(conflicts), conflicts)


def _keep_conflicts(conflicts: Sequence[Contradiction], source: str, now: datetime) -> None:
    """One row a bar and offer: the same contradiction again is not news."""
    rows = [
        BarConflict(
            symbol=c.symbol,
            interval=c.interval,
            time=c.time,
            stored=c.stored,
            offered=c.offered,
            source=source,
            seen_at=now,
            trace_id=TRACE_ID.get(),
            build_id=build_id(),
        )
        for c in conflicts
    ]
    BarConflict.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1_000)


def _quarantine(aside: Sequence[PutAside], source: str, now: datetime) -> None:
    Quarantine.objects.bulk_create(
        Quarantine(
            kind="rows",
            name=source,
            symbols=[part.symbol],
            rows=part.rows,
            evidence={"check": part.check, "first": part.shown},
            at=now,
            trace_id=TRACE_ID.get(),
            build_id=build_id(),
        )
        for part in aside
    )


def _verdicts_of(conflicts: Sequence[Contradiction]) -> list[Verdict]:
    found: dict[str, list[Contradiction]] = {}
    for conflict in conflicts:
        found.setdefault(conflict.symbol, []).append(conflict)
    return [
        Verdict("conflicting_rows", Severity.HARD, symbol, {"first": rows[0].as_dict()}, len(rows))
        for symbol, rows in found.items()
    ]


def _aside_verdict(part: PutAside, source: str) -> Verdict:
    evidence = {"source": source, "first": part.shown[0] if part.shown else None, "intervals": list(part.intervals)}
    if part.since is not None:
        evidence["at"] = [moment(micros(part.since))]
    return Verdict(part.check, Severity.HARD, part.symbol, evidence, part.rows)


def resolve_conflict(conflict_id: int, *, resolution: str, actor: str, reason: Any, clock: Clock) -> BarConflict:
    """A person decides: ``kept`` leaves the bar as it is, ``replaced`` makes the offered values the bar.

    Raises NotFoundError, ConflictError ``already_resolved``, InvalidInputError.
    """
    errors = FieldErrors()
    why = parse_reason(reason, "reason", errors)
    if resolution not in ("kept", "replaced"):
        errors.add("resolution", resolution, "is not one of the allowed values", "use kept or replaced")
    if errors:
        raise InvalidInputError(errors.errors)
    with transaction.atomic():
        firm = lock_risk(FIRM)
        row = BarConflict.objects.select_for_update().filter(pk=conflict_id).first()
        if row is None:
            raise NotFoundError(f"there is no conflict {conflict_id}", remedy="see the list of conflicts")
        if row.resolution:
            raise ConflictError(
                f"it was {row.resolution} by {row.resolved_by}", code="already_resolved", remedy="nothing is left to do"
            )
        now = clock.now()
        bar = Bar.objects.select_for_update().filter(symbol=row.symbol, interval=row.interval, time=row.time)
        before = {name: str(value) for name, value in bar.values(*BAR_VALUES).get().items()}
        if resolution == "replaced":
            bar.update(**row.offered, source=row.source, ingested_at=now)
        row.resolution, row.resolved_at, row.resolved_by, row.reason = resolution, now, actor, why
        row.save(update_fields=["resolution", "resolved_at", "resolved_by", "reason"])
        data = {"interval": row.interval, "time": rfc3339(row.time), "before": before, "offered": row.offered}
        subject = f"symbol:{row.symbol}"
        journal.append(
            firm,
            kind=f"bar_conflict_{resolution}",
            actor=actor,
            subject=subject,
            data={**data, "reason": why},
            at=now,
        )
    return row
