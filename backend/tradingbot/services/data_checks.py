"""The scheduled checks of market data: every minute in session, in full before each open and after each close.

Bars of a second source are compared with the bars that count.

Invariants: each run is a row with its counts, its time and its verdicts; a hard verdict stops its symbol, a warning
stops nothing; a stop is released by a clean check only of bars that include what it was about, and only by the kind of
check that stopped it; what an operator has released with a reason does not stop again for the same bars. A run that
fails is a row too, and releases nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import TradingbotError, UnavailableError
from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data import calendar
from backend.tradingbot.data.check_context import BAR_CHECKS, SHOWN, CheckLimits, Context, Sessions, run
from backend.tradingbot.data.frames import INTERVALS, Bars, as_bars, micros, moment, no_bars
from backend.tradingbot.data.quote_checks import feed_silent, source_disagreement, stale_quote
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.infra import metrics
from backend.tradingbot.infra.build_info import build_id
from backend.tradingbot.models import CheckRun, DataStop, Feed
from backend.tradingbot.selectors import bars as stored
from backend.tradingbot.selectors.corporate_actions import on_file
from backend.tradingbot.services import data_stops
from backend.tradingbot.services.data_stops import BY_CHECK, BY_TICK, Stopping
from backend.tradingbot.services.turns import Turns

log = structlog.get_logger(__name__)

LIVE_BARS, SCALE_BARS = 120, 90
FULL_SESSIONS = 5
BEFORE_OPEN, AFTER_CLOSE, LONGEST_AFTER = timedelta(hours=1), timedelta(minutes=15), timedelta(hours=6)
KEPT_VERDICTS = 200
KEEP_CLEAN_RUNS = timedelta(days=14)
PRE_OPEN, POST_CLOSE = "pre_open", "post_close"
BY_BARS = frozenset({*BAR_CHECKS, "conflicting_rows"})
BY_COMPARING = frozenset({"source_disagreement"})


@dataclass
class Findings:
    """What one run saw. ``since`` is from when on the bars of each interval were judged; ``checked`` are the symbols
    that were, by ``checks``."""

    since: dict[str, datetime] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)
    checks: frozenset[str] = BY_BARS
    symbols: int = 0
    rows: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    problem: str = ""


def check_market_data(*, clock: Clock) -> list[CheckRun]:
    """What beat calls every minute: the live checks of each feed that is in session, and the full ones that are due.

    A run that fails is a row, and keeps no other feed waiting; the first error that nobody thought of is raised at the
    end.
    """
    runs: list[CheckRun] = []
    with Turns() as turns:
        for feed in Feed.objects.filter(active=True):
            if calendar.is_open(clock.now(), feed.session_calendar):
                runs.append(run_live(feed, clock=clock, turns=turns))
            for session, phase in due(feed, clock.now()):
                runs.append(run_full(feed, session, phase, clock=clock, turns=turns))
        old = clock.now() - KEEP_CLEAN_RUNS
        CheckRun.objects.filter(kind="live", hard=0, started_at__lt=old).delete()
    return runs


def due(feed: Feed, now: datetime) -> list[tuple[date, str]]:
    """The full runs that should have been by now and have not: before the coming open, after the last close."""
    name = feed.session_calendar
    today = calendar.session_date(now, name)
    session = calendar.session_on(today, name)
    coming = session if session and now < session.opens_at else calendar.next_session(today, name)
    closed = session if session and now >= session.closes_at else calendar.previous_session(today, name)
    wanted = []
    if coming.opens_at - BEFORE_OPEN <= now < coming.opens_at:
        wanted.append((coming.date, PRE_OPEN))
    if AFTER_CLOSE <= now - closed.closes_at < LONGEST_AFTER:
        wanted.append((closed.date, POST_CLOSE))
    runs = CheckRun.objects.filter(kind="full", subject=feed.code, problem="").order_by("-id")
    done = set(runs.values_list("session", "phase")[:8])
    return [each for each in wanted if each not in done]


def run_live(feed: Feed, *, clock: Clock, turns: Turns | None = None) -> CheckRun:
    """The last two hours of bars, the age of every quote, and the silence of the feed; of a second source its bars."""
    now = clock.now()
    opened = stored.session_start(feed, now, 0)

    def look() -> Findings:
        found = Findings(checked=set())
        for interval in feed.bar_intervals:
            length = timedelta(microseconds=INTERVALS[interval])
            since = now - LIVE_BARS * length
            since = _day_of(since, feed) if stored.is_daily(interval) else max(since, opened)
            (_compare if feed.second_source else _look_at_bars)(found, feed, interval, since, now)
        if not feed.second_source:
            _look_at_quotes(found, feed, now)
        return found

    return _record("live", feed, look, clock, turns)


def run_full(feed: Feed, session: date, phase: str, *, clock: Clock, turns: Turns | None = None) -> CheckRun:
    """Every bar of the last five sessions."""
    now = clock.now()
    since = stored.session_start(feed, now, FULL_SESSIONS)

    def look() -> Findings:
        found = Findings()
        for interval in feed.bar_intervals:
            begin = _day_of(since, feed) if stored.is_daily(interval) else since
            (_compare if feed.second_source else _look_at_bars)(found, feed, interval, begin, now)
        return found

    return _record("full", feed, look, clock, turns, session, phase)


def _day_of(moment: datetime, feed: Feed) -> datetime:
    """The trading date that ``moment`` belongs to, as daily bars bear it: midnight UTC."""
    return datetime.combine(calendar.session_date(moment, feed.session_calendar), time(0), UTC)


def _look_at_bars(found: Findings, feed: Feed, interval: str, since: datetime, now: datetime) -> None:
    """Judge the bars that begin from ``since`` on; those before are read for the scale of a return only."""
    length = timedelta(microseconds=INTERVALS[interval])
    before = since - SCALE_BARS * length
    if not stored.is_daily(interval):
        before = min(before, calendar.previous_session(
            calendar.session_date(since, feed.session_calendar), feed.session_calendar
        ).closes_at - SCALE_BARS * length)  # fmt: skip
    frame = stored.read_bars(feed.symbols, interval, before, now + length)
    bars = _with_absent(as_bars(frame, interval=INTERVALS[interval]), feed.symbols, micros(since))
    grace = timedelta(seconds=settings.TRADINGBOT.bar_grace_seconds)
    context = Context(
        sessions=Sessions.between(micros(before), micros(now), feed.session_calendar),
        as_of=micros(now),
        start=micros(since),
        complete_to=micros(now - grace),
        interval=INTERVALS[interval],
        actions=on_file(feed.symbols),
    )
    for verdict in run(BAR_CHECKS.values(), bars, context):
        found.verdicts.append(replace(verdict, evidence={**verdict.evidence, "intervals": [interval]}))
    found.since[interval] = since
    found.checked |= set(feed.symbols)
    found.symbols = len(found.checked)
    found.rows += len(frame)


def _compare(found: Findings, feed: Feed, interval: str, since: datetime, now: datetime) -> None:
    """The bars that count beside those of the second source, from ``since`` on. Where it has none, that is told."""
    length = timedelta(microseconds=INTERVALS[interval])
    first = stored.read_bars(feed.symbols, interval, since, now + length)
    second = stored.read_bars(feed.symbols, interval, since, now + length, second_source=feed.code)
    grace = timedelta(seconds=settings.TRADINGBOT.bar_grace_seconds)
    due = first.filter(pl.col("time") + length + grace <= now)
    unmatched = due.join(second, on=["symbol", "time"], how="anti", maintain_order="left")
    verdicts = source_disagreement(first, second) if len(first) and len(second) else []
    whose = {"feed": feed.code, "intervals": [interval]}
    found.verdicts += [replace(v, evidence={**v.evidence, **whose}) for v in verdicts]
    for (symbol,), rows in unmatched.group_by(["symbol"], maintain_order=True):
        evidence = {"at": [moment(int(each)) for each in rows["time"].dt.epoch("us")[:SHOWN]], "feed": feed.code}
        found.verdicts.append(Verdict("no_second_source", Severity.WARN, str(symbol), evidence, len(rows)))
    found.checks = BY_COMPARING
    found.since[interval] = since
    found.checked |= set(first.join(second, on=["symbol", "time"], how="semi")["symbol"].unique().to_list())
    found.symbols = max(found.symbols, len(feed.symbols))
    found.rows += len(second)


def _with_absent(bars: Bars, symbols: Iterable[str], since: int) -> Bars:
    """Every declared symbol, also one without a single bar, with the rows before ``since`` only looked back upon."""
    there = {part.symbol: part for part in bars if len(part)}
    parts = []
    for symbol in symbols:
        part = there.get(symbol, no_bars(symbol))
        fresh = 0 if part.time is None else int(np.searchsorted(part.time, since, side="left"))
        parts.append(replace(part, fresh=fresh))
    return Bars(tuple(parts), bars.interval, bars.rows)


def _look_at_quotes(found: Findings, feed: Feed, now: datetime) -> None:
    """Ages and silence are judged again for every order, so these verdicts are told and stop nothing themselves."""
    found.symbols = max(found.symbols, len(feed.symbols))
    try:
        quotes = hot_state().quotes(feed.symbols)
    except UnavailableError as error:
        found.problem = error.message
        return
    seen = {symbol: None if quote is None else micros(quote.as_of) for symbol, quote in quotes.items()}
    context = Context(CheckLimits(feed_silence=float(feed.max_silence_seconds)), as_of=micros(now))
    silent = feed_silent(feed.code, seen, context)
    found.verdicts += silent or stale_quote(seen, context)


def _record(
    kind: str,
    feed: Feed,
    look: Callable[[], Findings],
    clock: Clock,
    turns: Turns | None,
    session: date | None = None,
    phase: str = "",
) -> CheckRun:
    """Look, act on what was found, and keep the run; a look that raises is kept as its problem, and in ``turns`` when
    nobody thought of it. A database that is gone ends the pass."""
    started, began = clock.now(), perf_counter()
    try:
        found = look()
        _act(found, feed, started, clock)
    except TradingbotError as error:
        log.error("check_run_failed", feed=feed.code, kind=kind, problem=error.message)
        found = Findings(problem=error.message)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        (turns or Turns()).note(error, "check_run_failed", feed=feed.code, kind=kind)
        found = Findings(problem=f"{type(error).__name__}: {error}")
    hard = sum(1 for verdict in found.verdicts if verdict.severity is Severity.HARD)
    for verdict in found.verdicts:
        metrics.VERDICTS.labels(verdict.check, verdict.severity.value).inc()
    row = CheckRun.objects.create(
        kind=kind,
        subject=feed.code,
        session=session,
        phase=phase,
        started_at=started,
        seconds=round(perf_counter() - began, 6),
        symbols=found.symbols,
        rows=found.rows,
        hard=hard,
        warned=len(found.verdicts) - hard,
        verdicts=[as_dict(verdict) for verdict in found.verdicts[:KEPT_VERDICTS]],
        problem=found.problem[:500],
        build_id=build_id(),
    )
    if hard:
        log.warning("data_verdicts", feed=feed.code, kind=kind, hard=hard, run=row.pk)
    return row


def as_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "check": verdict.check,
        "severity": verdict.severity.value,
        "symbol": verdict.symbol,
        "evidence": verdict.evidence,
        "rows": verdict.rows,
    }


def _act(found: Findings, feed: Feed, started: datetime, clock: Clock) -> None:
    """Stop what hard verdicts on bars name, release what is clean now."""
    if not found.checked:
        return
    conflicts = stored.open_conflicts(found.checked) if found.checks is BY_BARS else {}
    for symbol, count in conflicts.items():
        evidence = {"open_conflicts": count}
        found.verdicts.append(Verdict("conflicting_rows", Severity.HARD, symbol, evidence, count))
    hard = [v for v in found.verdicts if v.severity is Severity.HARD and v.check in found.checks]
    accepted = _accepted_by_operators(hard)
    stoppings = [
        Stopping(verdict.symbol, verdict.check, started, {**verdict.evidence, "rows": verdict.rows})
        for verdict in hard
        if not _is_accepted(verdict, accepted)
    ]
    wrong = {(stopping.symbol, stopping.check) for stopping in stoppings}
    release = [
        stop
        for stop in data_stops.open_stops(found.checked, data_stops.BARS)
        if stop.check_name in found.checks
        and stop.evidence.get("feed", feed.code) == feed.code
        and (stop.symbol, stop.check_name) not in wrong
        and _covers(found, stop, started)
    ]
    actor = f"checks:{feed.code}"
    data_stops.keep(stoppings, data_stops.BARS, actor=actor, clock=clock, release=release, why=BY_CHECK)


def _covers(found: Findings, stop: DataStop, started: datetime) -> bool:
    """Did this run look at what the stop is about? Only then is its silence a clean check."""
    about, intervals = stop.evidence.get("at"), stop.evidence.get("intervals") or [*found.since]
    if stop.since >= started or not intervals or not found.since.keys() >= set(intervals):
        return False
    since = max(found.since[interval] for interval in intervals)
    return not about or min(map(str, about)) >= since.strftime("%Y-%m-%dT%H:%M:%SZ")


def _accepted_by_operators(hard: list[Verdict]) -> dict[tuple[str, str], tuple[set[str], int]]:
    """By symbol and check: the times, and the most rows, that an operator has released with a reason."""
    rows = DataStop.objects.filter(
        symbol__in={verdict.symbol for verdict in hard}, source=data_stops.BARS, released_at__isnull=False
    ).exclude(reason__in=[BY_CHECK, BY_TICK])
    found: dict[tuple[str, str], tuple[set[str], int]] = {}
    for row in rows:
        times, most = found.get((row.symbol, row.check_name), (set(), 0))
        found[(row.symbol, row.check_name)] = (
            times | set(row.evidence.get("at", ())),
            max(most, int(row.evidence.get("rows", 0))),
        )
    return found


def _is_accepted(verdict: Verdict, accepted: dict[tuple[str, str], tuple[set[str], int]]) -> bool:
    times, most = accepted.get((verdict.symbol, verdict.check), (set(), 0))
    at = set(verdict.evidence.get("at", ()))
    return bool(at) and at <= times and verdict.rows <= most
