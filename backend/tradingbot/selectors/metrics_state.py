"""More of the state as gauges: trading states, how much of each limit is used, reconciliation, waiting tasks.

The same invariants as ``selectors/metrics.py``, which asks these sections: bounded queries, bounded series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal

import redis
from django.conf import settings
from django.db.models import Count, Max
from prometheus_client.core import GaugeMetricFamily, Metric

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
from backend.tradingbot.selectors.closing_days import missed_sessions, reconciled_through
from backend.tradingbot.selectors.limits import limits_in_force
from backend.tradingbot.selectors.recon_runs import SIGNED

TWO_SIDED = {
    "delta": (DELTA, "portfolio_delta_max"),
    "gamma": (GAMMA, "portfolio_gamma_max"),
    "vega": (VEGA, "portfolio_vega_max"),
    "beta": (BETA, "portfolio_beta_exposure_max"),
    "net": (NET, "net_exposure_max"),
}
QUEUES = ("celery", settings.NOTIFICATIONS)


def gauge(name: str, text: str, labels: list[str], rows: Iterable[tuple[list[str], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"tradingbot_{name}", text, labels=labels)
    for values, figure in rows:
        family.add_metric(values, figure)
    return family


def trading_states(_: datetime) -> Iterator[Metric]:
    rows = TradingState.objects.values_list("scope", "state")
    yield gauge(
        "trading_state", "1 for the state that a scope is in.", ["scope", "state"], [([s, w], 1.0) for s, w in rows]
    )
    modes = StrategyBuild.objects.filter(withdrawn_at=None).values_list("mode").annotate(Count("id"))
    yield gauge("strategy_builds", "Builds that may trade, by mode.", ["mode"], [([m], n) for m, n in modes])


def limits(now: datetime) -> Iterator[Metric]:
    """How much of each limit is used, as a fraction, on both sides; a limit that is not set has no series."""
    by_scope: dict[str, dict[str, LimitVersion]] = {}
    for row in limits_in_force(None, now):
        by_scope.setdefault(row.scope, {})[row.kind] = row
    used: list[tuple[list[str], float]] = []
    bounds: list[tuple[list[str], float]] = []

    def add(scope: str, measure: str, side: str, value: Decimal, kind: str) -> None:
        row = by_scope.get(scope, {}).get(kind)
        if row is not None and row.value is not None:
            used.append(([scope, measure, side], _fraction(max(value, Decimal(0)), row.value)))
            bounds.append(([scope, measure, side], float(row.value)))

    for sums in AccountExposure.objects.select_related("account").filter(account__active=True):
        scope = f"account:{sums.account.code}"
        add(scope, "gross", "both", sums.gross, SHARED)
        _both_ways(add, scope, sums.low, sums.high)
    for shared in SharedHeadroom.objects.all():
        add(shared.scope, "gross", "both", shared.reserved, SHARED)
        _both_ways(add, shared.scope, shared.low, shared.high)
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


def reconciliation(now: datetime) -> Iterator[Metric]:
    accounts = list(Account.objects.filter(active=True))
    yield gauge(
        "recon_sessions_missed",
        "Ended sessions that were never reconciled.",
        ["account"],
        [([a.code], len(missed_sessions(a, reconciled_through(a), now))) for a in accounts],
    )
    last = ReconRun.objects.filter(state="completed").values_list("account__code").annotate(Max("completed_at"))
    yield gauge(
        "recon_last_run_age_seconds",
        "Seconds since an account's last completed run.",
        ["account"],
        [([code], (now - at).total_seconds()) for code, at in last if at is not None],
    )
    late = Affirmation.objects.filter(~SIGNED, replaced_at=None, due_at__lt=now)
    counts = dict(late.values_list("account__code").annotate(Count("id")))
    yield gauge(
        "affirmations_overdue",
        "Days that were not signed, by as many people as have to, until their deadline.",
        ["account"],
        [([a.code], counts.get(a.code, 0)) for a in accounts],
    )


def queue(_: datetime) -> Iterator[Metric]:
    config = settings.TRADINGBOT
    store = redis.Redis.from_url(config.redis_url.get_secret_value(), socket_timeout=config.store_timeout_seconds)
    try:
        depths = [([queue], float(store.llen(queue))) for queue in QUEUES]  # type: ignore[arg-type]
    finally:
        store.close()
    yield gauge("queue_depth", "Tasks that wait for a worker.", ["queue"], depths)
