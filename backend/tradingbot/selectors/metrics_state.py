"""More of the state as gauges: trading states, reconciliation, waiting tasks.

The same invariants as ``selectors/metrics.py``, which asks for these sections too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Max
from prometheus_client.core import Metric

from backend.tradingbot.execution.order_state import OPEN
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import (
    Account,
    Affirmation,
    Feed,
    Order,
    Position,
    ReconRun,
    StrategyBuild,
    TradingState,
)
from backend.tradingbot.selectors.closing_days import missed_sessions
from backend.tradingbot.selectors.recon_runs import SIGNED
from backend.tradingbot.selectors.section import age, gauge, section
from backend.tradingbot.selectors.snapshot import Rows, moment

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
    feeds=lambda: Feed.objects.filter(active=True, second_source=False).values("code", "symbols", "watched_since"),
    held=lambda: Position.objects.exclude(qty=0).values("symbol").distinct(),
    ordered=lambda: Order.objects.filter(status__in=[status.value for status in OPEN]).values("symbol").distinct(),
)
def symbols(now: datetime, feeds: Rows, held: Rows, ordered: Rows) -> Iterator[Metric]:
    """Of each feed the oldest tick among the symbols that are held, that orders are open in, and that are only watched;
    a symbol that was never heard counts from when its feed has been watched."""
    quotes = hot_state().quotes(symbol for feed in feeds for symbol in feed["symbols"])
    groups = {row["symbol"]: "ordered" for row in ordered} | {row["symbol"]: "held" for row in held}
    oldest: dict[tuple[str, str], datetime] = {}
    for feed in feeds:
        for symbol in feed["symbols"]:
            quote, key = quotes[symbol], (feed["code"], groups.get(symbol, "watched"))
            heard = quote.as_of if quote else moment(feed["watched_since"])
            oldest[key] = min(oldest.get(key, heard), heard)
    yield gauge(
        "symbol_staleness_seconds",
        "Age of the oldest last tick among a feed's symbols that are held, have an open order, or are only watched.",
        ["feed", "group"],
        [(list(key), (now - heard).total_seconds()) for key, heard in oldest.items()],
    )


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
    waiting = [([name], float(depth)) for name, depth in hot_state().waiting(QUEUES).items()]
    yield gauge("queue_depth", "Tasks that wait for a worker.", ["queue"], waiting)
