"""The state of trading at a glance: one read for the control room's first page.

Invariants: the number of statements is bounded and does not grow with accounts, symbols or orders; every list is cut
and says how many it leaves out; what is not known is said to be unknown, never shown as normal. ``level`` is
``normal``, ``warning`` or ``danger``, and ``word`` says the same in text: colour never stands alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from backend.tradingbot.models import Heartbeat, LimitVersion, Order, StrategyBuild
from backend.tradingbot.risk.exact_number import exact_from_text
from backend.tradingbot.risk.exposure import BETA, DELTA, GAMMA, THETA, VEGA
from backend.tradingbot.risk.limits import SHARED
from backend.tradingbot.selectors.overview_parts import (
    Breaks,
    FeedLine,
    Line,
    ScopeCount,
    breakers_by_scope,
    breaks_open,
    feeds,
    last_decisions,
    orders_in_doubt,
    waiting_for_second,
)
from backend.tradingbot.selectors.overview_stops import Stop, standing_stops

SHOWN_ACCOUNTS, MOST_ACCOUNTS = 25, 2_000
NEAR = Decimal("0.8")
ZERO = Decimal(0)
MEASURES = (  # the name on the page, its place in the sums, the limit's kind, and which side counts
    ("Delta", DELTA, "portfolio_delta_max"),
    ("Gamma", GAMMA, "portfolio_gamma_max"),
    ("Theta", THETA, "portfolio_theta_loss_max"),
    ("Vega", VEGA, "portfolio_vega_max"),
    ("Beta", BETA, "portfolio_beta_exposure_max"),
    ("Gross", None, SHARED),
)
ACCOUNTS = """
SELECT account.id, account.code, account.name, risk.equity, breaker.id, breaker.state->>'start_equity',
  breaker.max_daily_drawdown, breaker.tripped_at, breaker.evaluated_at, exposure.gross, exposure.low[1:6],
  exposure.high[1:6], exposure.unknown, account.session_calendar, account.created_at, risk.reconciled_through
FROM tradingbot_account account
JOIN tradingbot_riskrow risk ON risk.account_id = account.id
LEFT JOIN tradingbot_breaker breaker ON breaker.scope = risk.scope
LEFT JOIN tradingbot_accountexposure exposure ON exposure.account_id = account.id
WHERE account.active ORDER BY account.code LIMIT %s
"""


@dataclass(frozen=True)
class Use:
    """How much of one limit is used. ``used`` is a fraction, None when nothing can be said."""

    name: str
    value: Decimal | None
    limit: Decimal | None
    used: Decimal | None
    level: str
    word: str


@dataclass(frozen=True)
class AccountLine:
    pk: int
    code: str
    name: str
    equity: Decimal | None
    day_change: Decimal | None
    breaker: int | None
    stopped: bool
    uses: tuple[Use, ...]
    level: str
    evaluated_at: datetime | None = None
    unevaluated: bool = False

    @property
    def worst(self) -> Decimal:
        return max((use.used for use in self.uses if use.used is not None), default=ZERO)


@dataclass(frozen=True)
class ModeLine:
    mode: str
    builds: tuple[str, ...]
    demoted: tuple[str, ...]
    more: int


@dataclass(frozen=True)
class Process:
    name: str
    state: str
    at: datetime


@dataclass(frozen=True)
class Overview:
    as_of: datetime
    stops: list[Stop]
    accounts: list[AccountLine]
    accounts_more: int
    scopes: list[ScopeCount]
    feeds: list[FeedLine]
    doubt: list[Line]
    doubt_count: int
    breaks: Breaks
    modes: list[ModeLine]
    processes: list[Process]
    decisions: list[Line]
    waiting: dict[str, int]
    missing: list[str] = field(default_factory=list)

    @property
    def stops_level(self) -> str:
        return "danger" if any(stop.level == "danger" for stop in self.stops) else "warning"

    @property
    def headline(self) -> str:
        """The first line in words, as it is also read out when it changes."""
        if not self.stops:
            return "Nothing is stopped"
        first = "; ".join(f"{stop.scope} {stop.word}" for stop in self.stops[:3])
        more = f" and {len(self.stops) - 3} more" if len(self.stops) > 3 else ""
        return f"{len(self.stops)} stopped: {first}{more}"


def overview(now: datetime, *, mark_seconds: float, all_accounts: bool = False) -> Overview:
    """Everything on the page as it is at ``now``, in at most 20 statements."""
    rows = _account_rows()
    longest = timedelta(seconds=3 * mark_seconds)
    limits = _limits(now)
    lines = [_account(row, limits.get(f"account:{row[1]}", {}), now, longest) for row in rows]
    ranked = sorted(lines, key=_rank)
    shown = ranked if all_accounts else ranked[:SHOWN_ACCOUNTS]
    doubt, count = orders_in_doubt(now)
    feed_lines = feeds(now)
    decisions = last_decisions()
    return Overview(
        as_of=now,
        stops=standing_stops(
            now, longest, lines, [(row[0], row[1], row[13], row[14], row[15]) for row in rows], feed_lines
        ),
        accounts=shown,
        accounts_more=len(ranked) - len(shown),
        scopes=breakers_by_scope(),
        feeds=feed_lines,
        doubt=doubt,
        doubt_count=count,
        breaks=breaks_open(now),
        modes=_modes(),
        processes=[Process(*row) for row in Heartbeat.objects.values_list("name", "state", "at")[:20]],
        decisions=decisions,
        waiting=waiting_for_second(now),
        missing=_missing(bool(rows), bool(feed_lines), any(line.last_seen for line in feed_lines), bool(decisions)),
    )


def _missing(accounts: bool, feeds_declared: bool, fed: bool, traded: bool) -> list[str]:
    """The first steps that were not taken yet, in their order; none once an order was decided."""
    if traded:
        return []
    steps = (("account", accounts), ("feed", feeds_declared), ("tick", fed), ("order", traded))
    return [name for name, done in steps if not done]


def _account_rows() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(ACCOUNTS, [MOST_ACCOUNTS])
        return cursor.fetchall()


def _limits(now: datetime) -> dict[str, dict[str, Decimal | None]]:
    """Of every account: the value in force of the limits that the page has a bar for."""
    kinds = [kind for _, _, kind in MEASURES]
    rows = LimitVersion.objects.filter(
        state="in_force", effective_from__lte=now, kind__in=kinds, scope__startswith="account:"
    )
    newest = rows.order_by("scope", "kind", "-version").distinct("scope", "kind")
    found: dict[str, dict[str, Decimal | None]] = {}
    for scope, kind, value in newest.values_list("scope", "kind", "value"):
        found.setdefault(scope, {})[kind] = value
    return found


def use_of(name: str, value: Decimal | None, limit: Decimal | None) -> Use:
    """``value`` against ``limit``: near from four fifths on, over beyond it. Theta's bar is its decay."""
    if value is None:
        return Use(name, None, limit, None, "warning", "unknown")
    if limit is None:
        return Use(name, value, None, None, "normal", "no limit")
    if limit <= 0:
        used = ZERO if value <= 0 else Decimal(1)
        return Use(name, value, limit, used, "danger" if value > 0 else "normal", "over" if value > 0 else "")
    used = value / limit
    if used > 1:
        return Use(name, value, limit, used, "danger", "over")
    return Use(name, value, limit, used, "warning" if used >= NEAR else "normal", "near" if used >= NEAR else "")


def _account(
    row: tuple[Any, ...], limits: Mapping[str, Decimal | None], now: datetime, longest: timedelta
) -> AccountLine:
    pk, code, name, equity, breaker, start_text, most_drawdown, tripped, evaluated, gross, low, high, unknown = row[:13]
    start = None if start_text is None else exact_from_text(start_text)
    change = None if equity is None or start is None else equity - Decimal(start.numerator) / Decimal(start.denominator)
    uses = [_drawdown(equity, change, most_drawdown), *_measures(gross, low, high, unknown or 0, limits)]
    stale = evaluated is None or abs(now - evaluated) > longest
    levels = {use.level for use in uses} | ({"danger"} if tripped or stale or equity is None else set())
    level = next((level for level in ("danger", "warning") if level in levels), "normal")
    return AccountLine(
        pk, code, name, equity, change, breaker, tripped is not None, tuple(uses), level, evaluated, stale
    )


def _drawdown(equity: Decimal | None, change: Decimal | None, most: float | None) -> Use:
    """What was lost since the day's start, as a fraction of it, against the breaker's limit."""
    limit = None if most is None else Decimal(str(most))
    if equity is None or change is None or equity - change <= 0:
        return Use("Drawdown", None, limit, None, "warning", "unknown")
    return use_of("Drawdown", max(-change / (equity - change), ZERO), limit)


def _measures(
    gross: Decimal | None,
    low: list[Decimal] | None,
    high: list[Decimal] | None,
    unknown: int,
    limits: Mapping[str, Decimal | None],
) -> Iterable[Use]:
    for name, index, kind in MEASURES:
        limit = limits.get(kind)
        if unknown:  # a name whose risk is not known: its Greeks are not nothing
            yield Use(name, None, limit, None, "warning", f"{unknown} unknown")
        elif index is None:
            yield use_of(name, gross or ZERO, limit)
        elif not low or not high:
            yield use_of(name, ZERO, limit)
        else:
            yield use_of(name, max(-low[index], ZERO) if index == THETA else max(-low[index], high[index], ZERO), limit)


def _rank(line: AccountLine) -> tuple[int, Decimal, str]:
    """The ones to look at first come first."""
    return {"danger": 0, "warning": 1}.get(line.level, 2), -line.worst, line.code


def _modes() -> list[ModeLine]:
    """Strategies by the mode of their builds that may trade."""
    rows = StrategyBuild.objects.filter(withdrawn_at=None, strategy__active=True)
    found: dict[str, list[tuple[str, bool]]] = {"live": [], "canary": [], "shadow": []}
    fields = ("strategy__code", "build_id", "mode", "demoted")
    for strategy, build, mode, demoted in rows.order_by("strategy__code", "-registered_at").values_list(*fields)[
        :2_000
    ]:
        found[mode].append((f"{strategy}@{build}" if build else strategy, demoted))
    lines = []
    for mode, builds in found.items():
        names = [name for name, _ in builds]
        lines.append(ModeLine(mode, tuple(names[:12]), tuple(n for n, d in builds if d)[:12], max(len(names) - 12, 0)))
    return lines


def order_count() -> int:
    """Roughly how many orders there are, from the planner's own figures: counting a million takes too long."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [Order._meta.db_table])
        return max(int(cursor.fetchone()[0]), 0)
