"""More of the state as gauges: trading states, how much of each limit is used, reconciliation, waiting tasks.

The same invariants as ``selectors/metrics.py``, which asks for these sections too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings
from django.db.models import Count, Max
from django.db.models.functions import Now
from prometheus_client.core import Metric

from backend.tradingbot.models import (
    Account,
    AccountExposure,
    Affirmation,
    LimitVersion,
    ReconRun,
    SharedHeadroom,
    StrategyBuild,
    TradingState,
)
from backend.tradingbot.risk.exposure import BETA, DELTA, GAMMA, NET, THETA, VEGA
from backend.tradingbot.risk.limits import SHARED
from backend.tradingbot.selectors.closing_days import missed_sessions
from backend.tradingbot.selectors.limits import in_force
from backend.tradingbot.selectors.recon_runs import SIGNED
from backend.tradingbot.selectors.section import age, gauge, section
from backend.tradingbot.selectors.snapshot import Rows, moment

TWO_SIDED = {
    "delta": (DELTA, "portfolio_delta_max"),
    "gamma": (GAMMA, "portfolio_gamma_max"),
    "vega": (VEGA, "portfolio_vega_max"),
    "beta": (BETA, "portfolio_beta_exposure_max"),
    "net": (NET, "net_exposure_max"),
}
QUEUES = ("celery", settings.NOTIFICATIONS)


@section(
    rows=lambda: TradingState.objects.values("scope", "state"),
    builds=lambda: StrategyBuild.objects.filter(withdrawn_at=None).values("mode").annotate(count=Count("id")),
)
def trading_states(_: datetime, rows: Rows, builds: Rows) -> Iterator[Metric]:
    states = [([row["scope"], row["state"]], 1.0) for row in rows]
    yield gauge("trading_state", "1 for the state that a scope is in.", ["scope", "state"], states)
    modes = [([row["mode"]], row["count"]) for row in builds]
    yield gauge("strategy_builds", "Builds that may trade, by mode.", ["mode"], modes)


@section(
    versions=lambda: in_force(Now()).values("scope", "kind", "value"),
    accounts=lambda: AccountExposure.objects.filter(account__active=True).values(
        "account__code", "gross", "low", "high"
    ),
    shared=lambda: SharedHeadroom.objects.filter(
        scope__in=LimitVersion.objects.filter(state="in_force").values("scope")
    ).values("scope", "reserved", "low", "high"),
)
def limits(_: datetime, versions: Rows, accounts: Rows, shared: Rows) -> Iterator[Metric]:
    """How much of each limit is used, as a fraction, on both sides; a limit that is not set has no series."""
    limit = {(row["scope"], row["kind"]): row["value"] for row in versions if row["value"] is not None}
    used: list[tuple[list[str], float]] = []
    bounds: list[tuple[list[str], float]] = []

    def add(scope: str, measure: str, side: str, value: Decimal, kind: str) -> None:
        bound = limit.get((scope, kind))
        if bound is not None:
            used.append(([scope, measure, side], _fraction(max(value, Decimal(0)), bound)))
            bounds.append(([scope, measure, side], float(bound)))

    sums = [(f"account:{row['account__code']}", row["gross"], row) for row in accounts]
    for scope, gross, row in [*sums, *((row["scope"], row["reserved"], row) for row in shared)]:
        add(scope, "gross", "both", gross, SHARED)
        _both_ways(add, scope, row["low"], row["high"])
    labels = ["scope", "measure", "side"]
    yield gauge("limit_utilisation", "The fraction of a limit that is used.", labels, used)
    yield gauge("limit", "A limit in force.", labels, bounds)


def _fraction(value: Decimal, limit: Decimal) -> float:
    """Of a limit of zero nothing may be used: whatever is, is beyond it."""
    if limit > 0:
        return float(value / limit)
    return float("inf") if value > 0 else 0.0


def _both_ways(add: Callable[..., None], scope: str, low: list[Decimal], high: list[Decimal]) -> None:
    add(scope, "theta", "decay", -low[THETA], "portfolio_theta_loss_max")
    for measure, (index, kind) in TWO_SIDED.items():
        add(scope, measure, "long", high[index], kind)
        add(scope, measure, "short", -low[index], kind)


@section(
    accounts=lambda: Account.objects.filter(active=True).values(
        "code", "created_at", "session_calendar", "risk__reconciled_through"
    ),
    last=lambda: (
        ReconRun.objects.filter(state="completed", completed_at__isnull=False)
        .values("account__code")
        .annotate(at=Max("completed_at"))
    ),
    unsigned=lambda: Affirmation.objects.filter(~SIGNED, replaced_at=None).values("account__code", "due_at"),
)
def reconciliation(now: datetime, accounts: Rows, last: Rows, unsigned: Rows) -> Iterator[Metric]:
    yield gauge(
        "recon_sessions_missed",
        "Ended sessions that were never reconciled.",
        ["account"],
        [([row["code"]], _missed(row, now)) for row in accounts],
    )
    yield gauge(
        "recon_last_run_age_seconds",
        "Seconds since an account's last completed run.",
        ["account"],
        [([row["account__code"]], age(now, row["at"])) for row in last],
    )
    overdue = Counter(row["account__code"] for row in unsigned if moment(row["due_at"]) < now)
    yield gauge(
        "affirmations_overdue",
        "Days that were not signed, by as many people as have to, until their deadline.",
        ["account"],
        [([row["code"]], overdue[row["code"]]) for row in accounts],
    )


def _missed(row: dict[str, Any], now: datetime) -> int:
    account = Account(created_at=moment(row["created_at"]), session_calendar=row["session_calendar"])
    through = row["risk__reconciled_through"]
    return len(missed_sessions(account, date.fromisoformat(through) if through else None, now))


@section()
def queue(_: datetime) -> Iterator[Metric]:
    config = settings.TRADINGBOT
    store = _store(config.redis_url.get_secret_value(), config.store_timeout_seconds)
    with store.pipeline(transaction=False) as asked:
        for name in QUEUES:
            asked.llen(name)
        depths = asked.execute()
    waiting = [([name], float(depth)) for name, depth in zip(QUEUES, depths, strict=True)]
    yield gauge("queue_depth", "Tasks that wait for a worker.", ["queue"], waiting)


@lru_cache(maxsize=4)
def _store(url: str, timeout: float) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
