"""The state of trading as gauges, read from the database when Prometheus asks, so that every process tells the same.

Invariants: a bounded number of queries and series; a section that cannot be read is missing from the answer and named
in ``tradingbot_scrape_failed``, so that an alert on it fires instead of a stale figure standing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from math import inf

import structlog
from django.db.models import Count, Min, Q, Sum
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.data.calendar import is_open
from backend.tradingbot.execution.order_state import OPEN
from backend.tradingbot.infra.build_info import (
    build_id,
    build_stamp,
    build_timestamp,
    config_hash,
    is_dirty,
    lock_hash,
)
from backend.tradingbot.models import (
    Account,
    BarConflict,
    Break,
    Breaker,
    CheckRun,
    DataStop,
    Feed,
    Heartbeat,
    JournalAnchor,
    JournalEntry,
    JournalVerdict,
    Order,
    Quarantine,
    RiskRow,
)
from backend.tradingbot.selectors import metrics_state
from backend.tradingbot.selectors.metrics_state import gauge

log = structlog.get_logger(__name__)

AGES = (("under_1d", 86_400), ("under_3d", 3 * 86_400), ("under_7d", 7 * 86_400))


def build(_: datetime) -> Iterator[Metric]:
    facts = {
        "build_id": build_id(),
        "build_timestamp": build_timestamp(),
        "dirty": str(is_dirty()).lower(),
        "lock_sha256": lock_hash()[:16],
        "config_sha256": config_hash()[:16],
        "build_stamp": build_stamp(),
    }
    yield InfoMetricFamily("tradingbot_build", "The running build.", value=facts)


def breakers(now: datetime) -> Iterator[Metric]:
    rows = list(Breaker.objects.values_list("scope", "tripped_at", "reason", "evaluated_at"))
    yield gauge(
        "breaker_open",
        "1 while the breaker of a scope is open, by its first reason; 0 while it is closed.",
        ["scope", "reason"],
        [([scope, cause(reason) if at else ""], 1.0 if at else 0.0) for scope, at, reason, _ in rows],
    )
    yield gauge(
        "breaker_open_seconds",
        "Seconds since an open breaker tripped.",
        ["scope"],
        [([scope], (now - at).total_seconds()) for scope, at, _, _ in rows if at],
    )
    marked = {f"account:{code}" for code in Account.objects.filter(active=True).values_list("code", flat=True)}
    marked |= {"firm"} if marked else set()  # without an account nobody is to be marked, and nobody orders
    yield gauge(
        "breaker_evaluated_age_seconds",
        "Seconds since the breaker of the firm or of an active account was last evaluated; endless when it never was.",
        ["scope"],
        [([s], (now - seen).total_seconds() if seen else inf) for s, _, _, seen in rows if s in marked],
    )


def cause(reason: str) -> str:
    """The reason as a bounded label: what a machine gave, else ``manual``; a person's words never make a series."""
    known = (
        "daily-dd", "realized-loss", "error-rate", "stale-data", "bad-equity", "bad-state", "vix-critical", "over-fill",
        "contradiction", "fill-of-", "wrong-side", "wrong-symbol",
    )  # fmt: skip
    return next((name for name in known if reason.startswith(name)), "manual")


def orders(now: datetime) -> Iterator[Metric]:
    doubt = Q(status="in_doubt")
    found = Order.objects.filter(doubt).aggregate(count=Count("id"), oldest=Min("created_at"))
    oldest = (now - found["oldest"]).total_seconds() if found["oldest"] else 0.0
    yield gauge("orders_in_doubt", "Orders whose outcome at the broker is not known.", [], [([], found["count"])])
    yield gauge(
        "orders_in_doubt_oldest_seconds", "Age of the oldest order in doubt, 0 without one.", [], [([], oldest)]
    )
    open_now = Order.objects.filter(status__in=[s.value for s in OPEN]).values_list("status").annotate(Count("id"))
    yield gauge("orders_open", "Orders that may still execute.", ["status"], [([name], n) for name, n in open_now])


def processes(now: datetime) -> Iterator[Metric]:
    beats = Heartbeat.objects.values_list("name", "at")
    yield gauge(
        "heartbeat_age_seconds",
        "Seconds since a process without a port gave a sign of life.",
        ["process"],
        [([name], (now - at).total_seconds()) for name, at in beats],
    )


def accounts(now: datetime) -> Iterator[Metric]:
    rows = list(
        RiskRow.objects.filter(account__active=True).values_list("account__code", "equity", "cash", "reserved_cash")
    )
    yield gauge("equity", "Equity of an account.", ["account"], [([code], float(e)) for code, e, _, _ in rows if e])
    yield gauge(
        "equity_known",
        "1 when an account's equity is known.",
        ["account"],
        [([c], float(e is not None)) for c, e, *_ in rows],
    )
    yield gauge("cash", "Cash of an account.", ["account"], [([c], float(m)) for c, _, m, _ in rows if m is not None])
    yield gauge("reserved_cash", "Cash that open orders hold.", ["account"], [([c], float(r)) for c, _, _, r in rows])


def breaks(now: datetime) -> Iterator[Metric]:
    count: dict[tuple[str, str, str], int] = {}
    rows = Break.objects.exclude(status="closed").values_list("kind", "severity", "opened_at")
    for kind, severity, opened in rows[:50_000]:
        seconds = (now - opened).total_seconds()
        age = next((name for name, limit in AGES if seconds < limit), "over_7d")
        key = (kind, severity, age)
        count[key] = count.get(key, 0) + 1
    yield gauge(
        "recon_breaks_open",
        "Breaks that are not closed.",
        ["kind", "severity", "age"],
        [(list(key), number) for key, number in count.items()],
    )


def journal(now: datetime) -> Iterator[Metric]:
    total = RiskRow.objects.aggregate(total=Sum("journal_seq"), chains=Count("scope"))
    yield gauge("journal_entries", "Entries in all journal chains.", [], [([], total["total"] or 0)])
    yield gauge("journal_chains", "Journal chains.", [], [([], total["chains"])])
    verdicts = dict(JournalVerdict.objects.values_list("scope", "problem"))
    yield gauge(
        "journal_broken",
        "1 when the last proof of a chain, or of the anchors, found a fault.",
        ["scope"],
        [([scope], float(bool(problem))) for scope, problem in verdicts.items()],
    )
    yield gauge(
        "journal_verified_age_seconds",
        "Seconds since every chain was proved; one that never was counts from its first entry on.",
        [],
        [([], _age(now, _proved_since()))],
    )
    anchored = JournalAnchor.objects.order_by("-number").values_list("at", flat=True).first()
    yield gauge(
        "journal_anchored_age_seconds",
        "Seconds since the heads were last anchored, from the first entry on when they never were.",
        [],
        [([], _age(now, anchored or _first_entry()))],
    )


def _age(now: datetime, then: datetime | None) -> float:
    return 0.0 if then is None else (now - then).total_seconds()


def _first_entry() -> datetime | None:
    return JournalEntry.objects.order_by("id").values_list("at", flat=True).first()


def _proved_since() -> datetime | None:
    """The oldest proof of a chain that there is; a chain without one counts from its first entry on."""
    proved = dict(JournalVerdict.objects.exclude(scope="anchors").values_list("scope", "verified_at"))
    unproved = RiskRow.objects.exclude(scope__in=proved).values("scope")
    begun = JournalEntry.objects.filter(chain__in=unproved, seq=1).aggregate(oldest=Min("at"))["oldest"]
    return min([*proved.values(), *([begun] if begun else [])], default=None)


def market_data(now: datetime) -> Iterator[Metric]:
    stops = DataStop.objects.filter(released_at__isnull=True).values("check_name")
    rows = stops.annotate(count=Count("symbol", distinct=True)).values_list("check_name", "count")
    yield gauge("data_stops", "Symbols stopped by a check of market data.", ["check"], [([c], n) for c, n in rows])
    conflicts = BarConflict.objects.filter(resolution="").count()
    yield gauge("bar_conflicts_open", "Bars that came with other values, undecided.", [], [([], conflicts)])
    yield gauge("data_quarantined", "Files and batches put into quarantine.", [], [([], Quarantine.objects.count())])
    feeds = list(Feed.objects.filter(active=True, second_source=False))  # a second source is not listened to
    heard = [(feed, max(feed.last_seen_at or feed.watched_since, feed.watched_since)) for feed in feeds]
    yield gauge(
        "feed_age_seconds",
        "Seconds since any symbol of a feed was heard, at most since it has been watched.",
        ["feed"],
        [([feed.code], (now - last).total_seconds()) for feed, last in heard],
    )
    limits = [([feed.code], float(feed.max_silence_seconds)) for feed in feeds]
    yield gauge("feed_max_silence_seconds", "How long a feed may be silent in its session.", ["feed"], limits)
    sessions = [([feed.code], float(is_open(now, feed.session_calendar))) for feed in feeds]
    yield gauge("feed_in_session", "1 while a feed's session is on.", ["feed"], sessions)
    runs = CheckRun.objects.order_by("subject", "kind", "-id").distinct("subject", "kind")
    ages = [([run.subject, run.kind], (now - run.started_at).total_seconds()) for run in runs]
    yield gauge("data_check_age_seconds", "Seconds since the checks ran last.", ["subject", "kind"], ages)


SECTIONS: list[Callable[[datetime], Iterator[Metric]]] = [
    build,
    breakers,
    orders,
    accounts,
    breaks,
    journal,
    market_data,
    metrics_state.trading_states,
    metrics_state.limits,
    metrics_state.reconciliation,
    metrics_state.queue,
    processes,
]


class StateCollector(Collector):
    """Asks every section once a scrape."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        failed = GaugeMetricFamily(
            "tradingbot_scrape_failed", "1 when this part of the state could not be read.", labels=["section"]
        )
        now = self._clock.now()
        for section in SECTIONS:
            try:
                families = list(section(now))
            except Exception:  # what cannot be read is said to be unknown; the other sections are still told
                log.exception("metrics_section_failed", section=section.__name__)
                failed.add_metric([section.__name__], 1.0)
                continue
            failed.add_metric([section.__name__], 0.0)
            yield from families
        yield failed
