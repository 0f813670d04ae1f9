"""Declared market data feeds: what each brings, and what it means when one falls silent as a whole.

Invariants: a feed's silence counts only in its session, and not from before it was declared, changed or switched on;
it trips the breaker of an account that holds a position, or has an order that works or may work, in one of the feed's
symbols, and no other. A store that does not answer says nothing about a feed: nothing trips, and orders are denied.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import parse_symbol
from backend.tradingbot.data.calendar import CALENDARS, ROUND_THE_CLOCK, XNYS, session_date, session_on
from backend.tradingbot.data.frames import INTERVALS
from backend.tradingbot.models import Feed
from backend.tradingbot.risk.gates import Quote
from backend.tradingbot.services import journal
from backend.tradingbot.services.breakers import LockedBreaker
from backend.tradingbot.services.constraints import refused_by
from backend.tradingbot.services.locks import FIRM, lock_risk

CODE = re.compile(r"[A-Za-z0-9_-]{1,32}")
CHANGES = frozenset({"symbols", "session_calendar", "max_silence_seconds", "bar_intervals", "second_source", "active"})
CLOCK_SKEW = timedelta(seconds=2)
NO_BARS = InvalidInputError(
    [FieldError("bar_intervals", [], "must not be empty for a second source", "name the bars that are to be compared")]
)
MOST_SYMBOLS, LONGEST_SILENCE = 20_000, 86_400


@dataclass(frozen=True)
class Silence:
    """A feed that is silent in its session for ``seconds``, longer than the ``limit`` it was declared with."""

    feed: str
    seconds: float
    limit: float


@dataclass(frozen=True)
class FeedLook:
    """What one account was shown of its feeds: the worst silence among those it is exposed to, or none."""

    silence: Silence | None = None


def declare_feed(
    *,
    code: str,
    symbols: Iterable[str],
    max_silence_seconds: int,
    session_calendar: str = XNYS,
    bar_intervals: Iterable[str] = (),
    second_source: bool = False,
    actor: str,
    reason: str,
    clock: Clock,
) -> Feed:
    """Watch a feed from now on. Raises InvalidInputError naming every wrong field, ConflictError ``feed_code_used``."""
    fields: dict[str, Any] = {"symbols": _each_once(symbols), "max_silence_seconds": max_silence_seconds}
    fields |= {"session_calendar": session_calendar, "bar_intervals": list(bar_intervals)}
    fields |= {"second_source": second_source}
    _check({"code": code, "reason": reason, **fields})
    taken = ConflictError(f"there is a feed {code} already", code="feed_code_used", remedy="change that one")
    with transaction.atomic():
        with refused_by({"feed_code_once": taken, "feed_second_source_brings_bars": NO_BARS}):
            feed = Feed.objects.create(code=code, watched_since=clock.now(), **fields)
        _journal("feed_declared", feed, actor, {"reason": reason, **fields}, clock)
    return feed


def change_feed(code: str, changes: Mapping[str, Any], *, actor: str, reason: str, clock: Clock) -> Feed:
    """Change ``CHANGES`` of a feed; its silence counts anew from now. What is equal already is no change."""
    errors = FieldErrors()
    for name in sorted(set(changes) - CHANGES):
        errors.add(name, changes[name], "cannot be changed", "what can: " + ", ".join(sorted(CHANGES)))
    if errors:
        raise InvalidInputError(errors.errors)
    wanted = {name: _each_once(value) if name == "symbols" else value for name, value in changes.items()}
    _check({"reason": reason, **wanted})
    with transaction.atomic():
        feed = Feed.objects.select_for_update().filter(code=code).first()
        if feed is None:
            raise NotFoundError(f"there is no feed {code}", code="feed_not_found", remedy="see the declared feeds")
        before = {name: getattr(feed, name) for name, value in wanted.items() if getattr(feed, name) != value}
        if before:
            for name in before:
                setattr(feed, name, wanted[name])
            feed.watched_since = clock.now()
            with refused_by({"feed_second_source_brings_bars": NO_BARS}):
                feed.save(update_fields=[*before, "watched_since"])
            data = {"reason": reason, "before": before, "after": {name: wanted[name] for name in before}}
            _journal("feed_changed", feed, actor, data, clock)
    return feed


def _each_once(symbols: Any) -> Any:
    """Sorted, each once; what is no collection of names is left for the check to refuse."""
    named = isinstance(symbols, list | tuple | set | frozenset) and all(isinstance(name, str) for name in symbols)
    return sorted(set(symbols)) if named else symbols


def _journal(kind: str, feed: Feed, actor: str, data: dict[str, Any], clock: Clock) -> None:
    firm = lock_risk(FIRM)
    journal.append(firm, kind=kind, actor=actor, subject=f"feed:{feed.code}", data=data, at=clock.now())


def _check(fields: Mapping[str, Any]) -> None:
    errors = FieldErrors()
    if "code" in fields and not (isinstance(fields["code"], str) and CODE.fullmatch(fields["code"])):
        errors.add("code", fields["code"], "is not a code", "letters, digits, - and _, at most 32")
    reason = fields["reason"]
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 200 or not reason.isprintable():
        errors.add("reason", reason, "must be 1 to 200 printable characters", "say why, for the record")
    symbols = fields.get("symbols", ["X"])
    if not isinstance(symbols, list) or not 1 <= len(symbols) <= MOST_SYMBOLS:
        errors.add("symbols", symbols, f"must be 1 to {MOST_SYMBOLS} symbols", "name what the feed brings")
    else:
        for symbol in symbols:
            parse_symbol(symbol, "symbols", errors)
    calendar = fields.get("session_calendar", XNYS)
    if calendar not in CALENDARS:
        errors.add("session_calendar", calendar, "is not a known calendar", "use " + ", ".join(CALENDARS))
    seconds = fields.get("max_silence_seconds", 1)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= LONGEST_SILENCE:
        problem = f"must be a whole number from 1 to {LONGEST_SILENCE}"
        errors.add("max_silence_seconds", seconds, problem, "how long may every symbol be silent at once?")
    intervals = fields.get("bar_intervals", [])
    if not isinstance(intervals, list) or any(name not in INTERVALS for name in intervals):
        errors.add("bar_intervals", intervals, "names an unknown interval", "a list of " + ", ".join(INTERVALS))
    for name in ("active", "second_source"):
        if not isinstance(fields.get(name, True), bool):
            errors.add(name, fields[name], "must be true or false", "true or false, and nothing else")
    if errors:
        raise InvalidInputError(errors.errors)


def watched() -> list[Feed]:
    """The feeds that are switched on and bring ticks: a second source only brings bars to compare."""
    return list(Feed.objects.filter(active=True, second_source=False))


def silences(feeds: Iterable[Feed], quotes: Mapping[str, Quote | None], *, clock: Clock) -> dict[str, Silence]:
    """The feeds that are silent as a whole beyond their limit, by code; remembers when each was last heard."""
    now, found = clock.now(), {}
    for feed in feeds:
        seconds = _silent_for(feed, _last_heard(feed, quotes, now), now)
        if seconds > feed.max_silence_seconds:
            found[feed.code] = Silence(feed.code, seconds, feed.max_silence_seconds)
    return found


def _last_heard(feed: Feed, quotes: Mapping[str, Quote | None], now: datetime) -> datetime | None:
    """The newest tick of any of its symbols, kept in the row. What is stamped in the future proves nothing."""
    ticks = [quote.as_of for symbol in feed.symbols if (quote := quotes.get(symbol)) is not None]
    known = [feed.last_seen_at] if feed.last_seen_at is not None else []
    last = max((moment for moment in [*ticks, *known] if moment <= now + CLOCK_SKEW), default=None)
    if last is not None and (feed.last_seen_at is None or last > feed.last_seen_at):
        older = Q(last_seen_at__isnull=True) | Q(last_seen_at__lt=last)
        Feed.objects.filter(older, pk=feed.pk).update(last_seen_at=last)
    return last


def _silent_for(feed: Feed, last: datetime | None, now: datetime) -> float:
    """Seconds of silence in the session that is under way; 0 outside of it. Each exchange session counts anew."""
    since = max(last or feed.watched_since, feed.watched_since)
    if feed.session_calendar != ROUND_THE_CLOCK:
        session = session_on(session_date(now, feed.session_calendar), feed.session_calendar)
        if session is None or not session.contains(now):
            return 0.0
        since = max(since, session.opens_at)
    return max((now - since).total_seconds(), 0.0)


def look(feeds: Iterable[Feed], silent: Mapping[str, Silence], exposed: Collection[str]) -> FeedLook:
    """What an account with positions and orders in ``exposed`` is to be shown."""
    its = [silent[feed.code] for feed in feeds if feed.code in silent and not set(exposed).isdisjoint(feed.symbols)]
    return FeedLook(max(its, key=lambda silence: silence.seconds - silence.limit, default=None))


def show(guard: LockedBreaker, seen: FeedLook) -> None:
    """Trip ``stale-data`` on a silence; without one the data counts as fresh, so that a reset is not refused for it."""
    silence = seen.silence
    if silence is None:
        guard.pure.mark_data_fresh()
        return
    guard.evidence |= {"feed": silence.feed, "silent_seconds": silence.seconds, "max_silence_seconds": silence.limit}
    guard.pure.check_data(silence.seconds, silence.limit)
