"""The state of trading as gauges, read from the database when Prometheus asks, so that every process tells the same.

Invariants: one statement for all of it, and a bounded number of series; a section that cannot be read is missing from
the answer and named in ``tradingbot_scrape_failed``, so that an alert on it fires instead of a stale figure standing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from math import inf
from typing import Any

import structlog
from django.db import DatabaseError, connection
from django.db.models import Count, Min, QuerySet, Value
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.data.calendar import is_open
from backend.tradingbot.execution.order_state import OPEN, Status
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
from backend.tradingbot.selectors import metrics_limits, metrics_state
from backend.tradingbot.selectors.section import Section, age, gauge, only, section
from backend.tradingbot.selectors.snapshot import Rows, ask, moment

log = structlog.get_logger(__name__)

AGES = (("under_1d", 86_400), ("under_3d", 3 * 86_400), ("under_7d", 7 * 86_400))
# How the reason that a machine gives begins, and its word in the metrics, the alerts and the runbook.
CAUSES = {
    name: name
    for name in (
        "daily-dd", "realized-loss", "error-rate", "stale-data", "bad-equity", "bad-state", "vix-critical", "over-fill",
        "contradiction", "wrong-side", "wrong-symbol",
    )
} | {"fill-of-": "fill-of-ended"}  # fmt: skip


@section()
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


@section(
    rows=lambda: Breaker.objects.values("scope", "tripped_at", "reason", "evaluated_at"),
    active=lambda: Account.objects.filter(active=True).values("code"),
)
def breakers(now: datetime, rows: Rows, active: Rows) -> Iterator[Metric]:
    yield gauge(
        "breaker_open",
        "1 while the breaker of a scope is open, by its first reason; 0 while it is closed.",
        ["scope", "reason"],
        [
            ([row["scope"], cause(row["reason"]) if row["tripped_at"] else ""], float(bool(row["tripped_at"])))
            for row in rows
        ],
    )
    yield gauge(
        "breaker_open_seconds",
        "Seconds since an open breaker tripped.",
        ["scope"],
        [([row["scope"]], age(now, row["tripped_at"])) for row in rows if row["tripped_at"]],
    )
    marked = {f"account:{row['code']}" for row in active}
    marked |= {"firm"} if marked else set()  # without an account nobody is to be marked, and nobody orders
    yield gauge(
        "breaker_evaluated_age_seconds",
        "Seconds since the breaker of the firm or of an active account was last evaluated; endless when it never was.",
        ["scope"],
        [
            ([row["scope"]], age(now, row["evaluated_at"]) if row["evaluated_at"] else inf)
            for row in rows
            if row["scope"] in marked
        ],
    )


def cause(reason: str) -> str:
    """The reason as a bounded label: what a machine gave, else ``manual``; a person's words never make a series."""
    return next((word for start, word in CAUSES.items() if reason.startswith(start)), "manual")


@section(
    rows=lambda: (
        Order.objects.filter(status__in=[status.value for status in OPEN])
        .values("status")
        .annotate(count=Count("id"), oldest=Min("created_at"))
    )
)
def orders(now: datetime, rows: Rows) -> Iterator[Metric]:
    doubt = next((row for row in rows if row["status"] == Status.IN_DOUBT), None)
    count, oldest = (doubt["count"], age(now, doubt["oldest"])) if doubt else (0, 0.0)
    yield gauge("orders_in_doubt", "Orders whose outcome at the broker is not known.", [], [([], count)])
    yield gauge(
        "orders_in_doubt_oldest_seconds", "Age of the oldest order in doubt, 0 without one.", [], [([], oldest)]
    )
    waiting = [([row["status"]], row["count"]) for row in rows]
    yield gauge("orders_open", "Orders that may still execute.", ["status"], waiting)


@section(beats=lambda: Heartbeat.objects.values("name", "at"))
def processes(now: datetime, beats: Rows) -> Iterator[Metric]:
    yield gauge(
        "heartbeat_age_seconds",
        "Seconds since a process without a port gave a sign of life.",
        ["process"],
        [([beat["name"]], age(now, beat["at"])) for beat in beats],
    )


@section(
    rows=lambda: RiskRow.objects.filter(account__active=True).values("account__code", "equity", "cash", "reserved_cash")
)
def accounts(_: datetime, rows: Rows) -> Iterator[Metric]:
    def figures(column: str) -> list[tuple[list[str], float]]:
        return [([row["account__code"]], float(row[column])) for row in rows if row[column] is not None]

    yield gauge("equity", "Equity of an account.", ["account"], figures("equity"))
    yield gauge(
        "equity_known",
        "1 when an account's equity is known.",
        ["account"],
        [([row["account__code"]], float(row["equity"] is not None)) for row in rows],
    )
    yield gauge("cash", "Cash of an account.", ["account"], figures("cash"))
    yield gauge("reserved_cash", "Cash that open orders hold.", ["account"], figures("reserved_cash"))


@section(
    rows=lambda: (
        Break.objects.exclude(status="closed").values("kind", "severity", "opened_at").annotate(count=Count("id"))
    )
)
def breaks(now: datetime, rows: Rows) -> Iterator[Metric]:
    count: dict[tuple[str, str, str], int] = {}
    for row in rows:
        seconds = age(now, row["opened_at"])
        aged = next((name for name, limit in AGES if seconds < limit), "over_7d")
        key = (row["kind"], row["severity"], aged)
        count[key] = count.get(key, 0) + row["count"]
    yield gauge(
        "recon_breaks_open",
        "Breaks that are not closed.",
        ["kind", "severity", "age"],
        [(list(key), number) for key, number in count.items()],
    )


def _begun() -> QuerySet[JournalEntry, dict[str, Any]]:
    """The oldest first entry of a chain that was never proved."""
    proved = JournalVerdict.objects.values("scope")
    unproved = RiskRow.objects.exclude(scope__in=proved).values("scope")
    return JournalEntry.objects.filter(chain__in=unproved, seq=1).order_by("at").values("at")[:1]


@section(
    heads=lambda: RiskRow.objects.values("journal_seq"),
    verdicts=lambda: JournalVerdict.objects.values("scope", "problem", "verified_at"),
    begun=_begun,
    first=lambda: JournalEntry.objects.order_by("id").values("at")[:1],
    anchored=lambda: JournalAnchor.objects.order_by("-number").values("at")[:1],
)
def journal(now: datetime, heads: Rows, verdicts: Rows, begun: Rows, first: Rows, anchored: Rows) -> Iterator[Metric]:
    entries = sum(head["journal_seq"] for head in heads)
    yield gauge("journal_entries", "Entries in all journal chains.", [], [([], entries)])
    yield gauge("journal_chains", "Journal chains.", [], [([], len(heads))])
    yield gauge(
        "journal_broken",
        "1 when the last proof of a chain, or of the anchors, found a fault.",
        ["scope"],
        [([row["scope"]], float(bool(row["problem"]))) for row in verdicts],
    )
    proved = [age(now, row["verified_at"]) for row in verdicts if row["scope"] != "anchors"]
    never = [age(now, row["at"]) for row in begun]
    yield gauge(
        "journal_verified_age_seconds",
        "Seconds since every chain was proved; one that never was counts from its first entry on.",
        [],
        [([], max(proved + never, default=0.0))],
    )
    last = only(anchored, "at") or only(first, "at")
    yield gauge(
        "journal_anchored_age_seconds",
        "Seconds since the heads were last anchored, from the first entry on when they never were.",
        [],
        [([], age(now, last) if last else 0.0)],
    )


@section(
    stops=lambda: (
        DataStop.objects.filter(released_at__isnull=True)
        .values("check_name")
        .annotate(count=Count("symbol", distinct=True))
    ),
    conflicts=lambda: BarConflict.objects.filter(resolution="").values("resolution").annotate(count=Count("id")),
    quarantined=lambda: Quarantine.objects.order_by().values(every=Value(1)).annotate(count=Count("id")),
    feeds=lambda: Feed.objects.filter(active=True, second_source=False).values(
        "code", "last_seen_at", "watched_since", "max_silence_seconds", "session_calendar"
    ),  # a second source is not listened to
    runs=lambda: (
        CheckRun.objects.order_by("subject", "kind", "-id")
        .distinct("subject", "kind")
        .values("subject", "kind", "started_at")
    ),
)
def market_data(
    now: datetime, stops: Rows, conflicts: Rows, quarantined: Rows, feeds: Rows, runs: Rows
) -> Iterator[Metric]:
    stopped = [([row["check_name"]], row["count"]) for row in stops]
    yield gauge("data_stops", "Symbols stopped by a check of market data.", ["check"], stopped)
    undecided, kept = (sum(row["count"] for row in rows) for rows in (conflicts, quarantined))
    yield gauge("bar_conflicts_open", "Bars that came with other values, undecided.", [], [([], undecided)])
    yield gauge("data_quarantined", "Files and batches put into quarantine.", [], [([], kept)])
    yield gauge(
        "feed_age_seconds",
        "Seconds since any symbol of a feed was heard, at most since it has been watched.",
        ["feed"],
        [([feed["code"]], (now - _heard(feed)).total_seconds()) for feed in feeds],
    )
    limits = [([feed["code"]], float(feed["max_silence_seconds"])) for feed in feeds]
    yield gauge("feed_max_silence_seconds", "How long a feed may be silent in its session.", ["feed"], limits)
    sessions = [([feed["code"]], float(is_open(now, feed["session_calendar"]))) for feed in feeds]
    yield gauge("feed_in_session", "1 while a feed's session is on.", ["feed"], sessions)
    ages = [([run["subject"], run["kind"]], age(now, run["started_at"])) for run in runs]
    yield gauge("data_check_age_seconds", "Seconds since the checks ran last.", ["subject", "kind"], ages)


def _heard(feed: dict[str, str]) -> datetime:
    return max(moment(feed[column]) for column in ("last_seen_at", "watched_since") if feed[column])


SECTIONS: list[Section] = [
    build,
    breakers,
    orders,
    accounts,
    breaks,
    journal,
    market_data,
    metrics_state.symbols,
    metrics_state.trading_states,
    metrics_limits.limits,
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
        answers = _answers(SECTIONS)
        for part in SECTIONS:
            try:
                families = list(part.tell(now, **answers[part.name]))
            except Exception:  # what cannot be read is said to be unknown; the other sections are still told
                log.exception("metrics_section_failed", section=part.name)
                failed.add_metric([part.name], 1.0)
                continue
            failed.add_metric([part.name], 0.0)
            yield from families
        yield failed


def _answers(sections: Sequence[Section]) -> dict[str, dict[str, Rows]]:
    """The answers by section, asked together; where that fails apart, without the sections that cannot be answered."""
    asked = {(part.name, name): question for part in sections for name, question in part.questions.items()}
    found: dict[str, dict[str, Rows]] = {part.name: {} for part in sections}
    try:
        for (name, question), rows in ask(asked).items():
            found[name][question] = rows
    except DatabaseError:
        log.exception("metrics_asked_apart")
        return _asked_apart(sections)
    return found


def _asked_apart(sections: Sequence[Section]) -> dict[str, dict[str, Rows]]:
    found: dict[str, dict[str, Rows]] = {}
    reached = connection.is_usable()  # if not, each would wait again for a server that is not there
    for part in sections:
        try:
            if reached or not part.questions:
                found[part.name] = ask(part.questions)
        except DatabaseError:
            log.exception("metrics_question_failed", section=part.name)
    return found
