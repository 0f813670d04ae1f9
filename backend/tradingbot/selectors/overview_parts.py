"""The parts of the overview that are lists: breakers, feeds, orders in doubt, breaks, the last decisions.

Invariants as in ``overview``: each part is one statement, and its list is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Q

from backend.tradingbot.data.calendar import is_open
from backend.tradingbot.models import Breaker, Feed, LimitVersion, Order, PromotionRequest, ResetRequest

DECISIONS, DOUBTS, FEEDS, OPEN_BREAKERS = 20, 10, 30, 8
AGES = (("under a day", 1), ("1 to 3 days", 3), ("3 to 7 days", 7))
SCOPE_KINDS = ("firm", "account", "strategy", "symbol")
LAST_DECISIONS = """
SELECT newest.id, newest.created_at, newest.client_order_id, account.code, strategy.code, newest.symbol, newest.side,
  COALESCE(newest.requested_qty, newest.qty), newest.type, newest.limit_price, newest.status, newest.mode,
  newest.decision->>'allowed',
  (SELECT string_agg(check_row->>'gate', ', ') FROM jsonb_array_elements(
     CASE jsonb_typeof(newest.decision->'checks') WHEN 'array' THEN newest.decision->'checks' ELSE '[]'::jsonb END
   ) check_row WHERE check_row->>'passed' = 'false')
FROM (SELECT * FROM tradingbot_order ORDER BY id DESC LIMIT %s) newest
JOIN tradingbot_account account ON account.id = newest.account_id
JOIN tradingbot_strategy strategy ON strategy.id = newest.strategy_id
ORDER BY newest.id DESC
"""
BREAKS = """
SELECT severity,
  CASE WHEN opened_at > %s THEN 0 WHEN opened_at > %s THEN 1 WHEN opened_at > %s THEN 2 ELSE 3 END AS age,
  count(*), sum(value), min(opened_at)
FROM tradingbot_break WHERE NOT (status = 'closed') GROUP BY 1, 2 ORDER BY 2 DESC, 1
"""


@dataclass(frozen=True)
class Line:
    """An order in one line."""

    pk: int
    at: datetime
    name: str
    account: str
    strategy: str
    symbol: str
    side: str
    qty: Decimal
    type: str
    limit_price: Decimal | None
    status: str
    mode: str
    allowed: bool | None
    refused_by: str


@dataclass(frozen=True)
class ScopeCount:
    kind: str
    closed: int
    open: int

    @property
    def open_word(self) -> str:
        return f"{self.open} open"


@dataclass(frozen=True)
class FeedLine:
    pk: int
    code: str
    symbols: int
    last_seen: datetime | None
    limit: int
    in_session: bool
    silent: bool


@dataclass(frozen=True)
class BreakAge:
    age: str
    critical: int
    warning: int
    value: Decimal


@dataclass(frozen=True)
class Breaks:
    ages: tuple[BreakAge, ...]
    critical: int
    total: int
    value: Decimal
    oldest: datetime | None

    @property
    def critical_word(self) -> str:
        return f"{self.critical} critical"

    @property
    def warning(self) -> int:
        return self.total - self.critical


def breakers_by_scope() -> list[ScopeCount]:
    open_now = Q(tripped_at__isnull=False)
    sums = Breaker.objects.aggregate(
        **{f"{kind}_all": Count("id", filter=_of(kind)) for kind in SCOPE_KINDS},
        **{f"{kind}_open": Count("id", filter=_of(kind) & open_now) for kind in SCOPE_KINDS},
    )
    return [ScopeCount(kind, sums[f"{kind}_all"] - sums[f"{kind}_open"], sums[f"{kind}_open"]) for kind in SCOPE_KINDS]


def _of(kind: str) -> Q:
    return Q(scope="firm") if kind == "firm" else Q(scope__startswith=f"{kind}:")


def feeds(now: datetime) -> list[FeedLine]:
    """The declared feeds that are switched on and bring ticks, the silent ones first."""
    rows = Feed.objects.filter(active=True, second_source=False).values_list(
        "pk", "code", "symbols__len", "last_seen_at", "watched_since", "max_silence_seconds", "session_calendar"
    )
    open_by_calendar: dict[str, bool] = {}
    lines = []
    for pk, code, symbols, seen, since, limit, calendar in rows[:2_000]:
        on = open_by_calendar.setdefault(calendar, is_open(now, calendar))
        silent = on and (now - max(seen or since, since)).total_seconds() > limit
        lines.append(FeedLine(pk, code, symbols or 0, seen, limit, on, silent))
    return sorted(lines, key=lambda line: (not line.silent, line.code))[:FEEDS]


def orders_in_doubt(now: datetime) -> tuple[list[Line], int]:
    """Orders whose outcome is not known: in doubt, or past their time to be sent and not answered. Oldest first."""
    late = Q(status="pending_submit", send_by__lt=now)
    rows = Order.objects.filter(Q(status="in_doubt") | late).order_by("id")
    fields = ("pk", "created_at", "client_order_id", "account__code", "strategy__code", "symbol", "side", "qty",
              "type", "limit_price", "status", "mode")  # fmt: skip
    found = list(rows.values_list(*fields)[: DOUBTS + 1])
    count = rows.count() if len(found) > DOUBTS else len(found)
    return [_line(row, True, "") for row in found[:DOUBTS]], count


def last_decisions() -> list[Line]:
    with connection.cursor() as cursor:
        cursor.execute(LAST_DECISIONS, [DECISIONS])
        rows = cursor.fetchall()
    return [_line(row[:12], {"true": True, "false": False}.get(row[12]), row[13] or "") for row in rows]


def _line(row: tuple[Any, ...], allowed: bool | None, refused_by: str) -> Line:
    return Line(*(*row, allowed, refused_by))


def breaks_open(now: datetime) -> Breaks:
    """The breaks that are not closed, by age and severity, with the dollars at stake."""
    with connection.cursor() as cursor:
        cursor.execute(BREAKS, [now - timedelta(days=days) for _, days in AGES])
        rows = cursor.fetchall()
    found: dict[int, dict[str, Any]] = {}
    for severity, age, count, value, _oldest in rows:
        here = found.setdefault(age, {"critical": 0, "warning": 0, "value": Decimal(0)})
        here[severity] += count
        here["value"] += value or 0
    names = [*(name for name, _ in AGES), "over 7 days"]
    ages = tuple(BreakAge(names[age], **found[age]) for age in sorted(found, reverse=True))
    critical = sum(age.critical for age in ages)
    total = critical + sum(age.warning for age in ages)
    value, oldest = sum((age.value for age in ages), Decimal(0)), min((row[4] for row in rows), default=None)
    return Breaks(ages, critical, total, value, oldest)


def waiting_for_second(now: datetime) -> dict[str, int]:
    """What waits for the word of a second person, by kind."""
    limits = LimitVersion.objects.filter(state="waiting").order_by().values("state").annotate(n=Count("id"))
    asked = PromotionRequest.objects.filter(state="waiting", expires_at__gt=now)
    promotions = asked.order_by().values("state").annotate(n=Count("id"))
    resets = ResetRequest.objects.filter(state="waiting", expires_at__gt=now).order_by().values("state")
    named = {"limit": limits, "promotion": promotions, "reset": resets.annotate(n=Count("id"))}
    counts = {name: sum(row["n"] for row in rows) for name, rows in named.items()}
    return {name: count for name, count in counts.items() if count}
