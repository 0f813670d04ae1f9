"""What stops a symbol's market data and what releases it. A stop is a row; opening and releasing it are journalled.

Invariants: one open stop a symbol, check and source; a stop says which check, since when, on what evidence, and what
releases it; a tick releases only what ticks stopped, a clean check only what a check of bars stopped, an operator with
a reason anything. Released rows stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import QuerySet

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import parse_reason
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.infra.logging import TRACE_ID
from backend.tradingbot.models import DataStop
from backend.tradingbot.services import journal
from backend.tradingbot.services.locks import FIRM, lock_risk

log = structlog.get_logger(__name__)

TICKS, BARS, CACHE = "ticks", "bars", "cache"
BY_TICK, BY_CHECK = "a clean second tick", "a clean check"


@dataclass(frozen=True)
class Stopping:
    """A symbol that is to be stopped by ``check``. ``over_at`` is set when it is over already, within one batch."""

    symbol: str
    check: str
    since: datetime
    evidence: dict[str, Any] = field(default_factory=dict)
    over_at: datetime | None = None


def open_stops(symbols: Collection[str], source: str | None = None) -> QuerySet[DataStop]:
    rows = DataStop.objects.filter(released_at__isnull=True, symbol__in=list(symbols)).order_by("id")
    return rows if source is None else rows.filter(source=source)


def keep(
    stoppings: Iterable[Stopping],
    source: str,
    *,
    actor: str,
    clock: Clock,
    release: Collection[DataStop] = (),
    why: str,
) -> None:
    """Write the stops that are new and release ``release`` with ``why``, in one transaction; no write without cause."""
    wanted = list(stoppings)
    if not wanted and not release:
        return
    with transaction.atomic():
        firm = lock_risk(FIRM)
        made = _insert(wanted, source, why)
        now = clock.now()
        freed = list(
            DataStop.objects.select_for_update()
            .filter(pk__in=[row.pk for row in release], released_at__isnull=True)
            .order_by("id")
        )
        for row in freed:
            row.released_at, row.released_by, row.reason = now, actor, why
        DataStop.objects.bulk_update(freed, ["released_at", "released_by", "reason"])
        for row in made:
            if row.released_at is None:
                _journal(firm, "data_stop", row, actor, row.evidence, clock)
        for row in freed:
            _journal(firm, "data_stop_released", row, actor, {"reason": why}, clock)


def _insert(wanted: list[Stopping], source: str, why: str) -> list[DataStop]:
    """The rows that are new; the constraint passes over a stop that is open already."""
    rows = [
        DataStop(
            symbol=stopping.symbol,
            check_name=stopping.check,
            source=source,
            since=stopping.since,
            evidence=stopping.evidence,
            trace_id=TRACE_ID.get(),
            build_id=build_id(),
            released_at=stopping.over_at,
            released_by="" if stopping.over_at is None else "feed",
            reason="" if stopping.over_at is None else why,
        )
        for stopping in wanted
    ]
    made = DataStop.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1_000)
    open_rows = [row for row in made if row.released_at is None]
    known = {(row.symbol, row.check_name): row for row in open_stops({r.symbol for r in open_rows}, source)}
    fresh = []
    for row in open_rows:
        stands = known.get((row.symbol, row.check_name))
        if stands is not None and stands.since == row.since:
            fresh.append(row)
        elif stands is not None:
            _widen(stands, row.evidence)
    return fresh


def _widen(stop: DataStop, evidence: dict[str, Any]) -> None:
    """A stop that stands is about what came later, too: a check that is to release it has to look at that as well."""
    before, after = stop.evidence.get("at") or [], evidence.get("at") or []
    known = {*stop.evidence.get("intervals", ())}
    intervals = known | {*evidence.get("intervals", ())}
    earlier = min(after) if before and after and min(after) < min(before) else None
    if earlier is None and intervals == known:
        return
    stop.evidence |= {"intervals": sorted(intervals)}
    if earlier is not None:
        stop.evidence["at"] = [earlier, *before]
    stop.save(update_fields=["evidence"])


def _journal(firm: Any, kind: str, row: DataStop, actor: str, data: dict[str, Any], clock: Clock) -> None:
    facts = {"check": row.check_name, "source": row.source, "since": row.since.isoformat(), **data}
    journal.append(firm, kind=kind, actor=actor, subject=f"symbol:{row.symbol}", data=facts, at=clock.now())
    log.info(kind, symbol=row.symbol, check=row.check_name, source=row.source)


def release_symbol(symbol: str, *, check: str | None, actor: str, reason: Any, clock: Clock) -> list[DataStop]:
    """An operator lets ``symbol`` go on: every open stop of it, or that of ``check``.

    What ticks had stopped begins anew: its last good tick and its statistics are forgotten, so that orders wait for the
    next tick, whatever its price. Raises NotFoundError without such a stop, UnavailableError without the store.
    """
    errors = FieldErrors()
    why = parse_reason(reason, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    found = open_stops([symbol])
    rows = list(found if check is None else found.filter(check_name=check))
    if not rows:
        what = f"no open stop {check} of {symbol}" if check else f"no open stop of {symbol}"
        raise NotFoundError(f"there is {what}", code="data_stop_not_found", remedy="see GET data-quality")
    ticks = any(row.source == TICKS for row in rows)
    if ticks:
        hot_state().forget(symbol)
    keep([], rows[0].source, actor=actor, clock=clock, release=rows, why=why)
    if ticks:
        hot_state().forget(symbol)  # a tick in between was met with the stop that stood
    return list(DataStop.objects.filter(pk__in=[row.pk for row in rows]).order_by("id"))
