"""The one place that knows trading days: sessions, early closes and holidays of XNYS, and the round-the-clock day.

Invariants: a trading date is a date in New York; times that come in carry a zone, times that go out are UTC; a date
that the table does not cover raises, it is never guessed. ``XNYS`` is the New York Stock Exchange's own table
(exchange_calendars, read once, on first use); a ``24/7`` day runs from 17:00 New York on the day before to 17:00.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from backend.tradingbot.core.errors import FieldError, InvalidInputError

XNYS = "XNYS"
ROUND_THE_CLOCK = "24/7"
CALENDARS = (XNYS, ROUND_THE_CLOCK)
NEW_YORK = ZoneInfo("America/New_York")
FIRST, LAST = date(1990, 1, 2), date(2040, 12, 31)

_ROLL = time(17, 0)
_USUAL_CLOSE = time(16, 0)
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


class OutsideCalendarError(InvalidInputError):
    """The table has no answer for this date."""

    def __init__(self, day: date) -> None:
        problem = f"is outside the calendar, which covers {FIRST} to {LAST}"
        super().__init__([FieldError("day", day, problem, "ask for a day within it")], code="outside_calendar")


@dataclass(frozen=True)
class Session:
    """One trading day: its date in New York, and its bounds in UTC; ``closes_at`` is no longer part of it."""

    date: date
    opens_at: datetime
    closes_at: datetime
    early_close: bool = False

    @property
    def minutes(self) -> int:
        """390 on a usual XNYS day, 210 when it closes at 13:00; 1440 round the clock, 60 more or less with DST."""
        return (self.closes_at - self.opens_at) // _MINUTE

    def minute_starts(self) -> Iterator[datetime]:
        """The UTC time at which each minute of the session begins."""
        return (self.opens_at + number * _MINUTE for number in range(self.minutes))

    def contains(self, moment: datetime) -> bool:
        return self.opens_at <= moment < self.closes_at


class _Table(NamedTuple):
    days: list[date]
    sessions: list[Session]


@lru_cache(maxsize=1)
def _table() -> _Table:
    import exchange_calendars  # with pandas it takes a third of a second, which not every process needs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas deprecates what exchange_calendars still does
        schedule = exchange_calendars.get_calendar(XNYS, start=str(FIRST), end=str(LAST)).schedule
    rows = zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    found = [_exchange_session(day.date(), opens, closes) for day, opens, closes in rows]
    return _Table([session.date for session in found], found)


def _exchange_session(day: date, opens: Any, closes: Any) -> Session:
    opens_at, closes_at = (moment.to_pydatetime().astimezone(UTC) for moment in (opens, closes))
    return Session(day, opens_at, closes_at, closes_at.astimezone(NEW_YORK).time() < _USUAL_CLOSE)


def _round_the_clock(day: date) -> Session:
    opens, closes = (datetime.combine(each, _ROLL, NEW_YORK).astimezone(UTC) for each in (day - _DAY, day))
    return Session(day, opens, closes)


def _known(calendar: str) -> str:
    if calendar not in CALENDARS:
        known = ", ".join(CALENDARS)
        raise InvalidInputError([FieldError("session_calendar", calendar, "is not a known calendar", f"use {known}")])
    return calendar


def _covered(day: date) -> date:
    if not FIRST <= day <= LAST:
        raise OutsideCalendarError(day)
    return day


def _local(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise InvalidInputError([FieldError("now", now, "has no time zone", "hand over a UTC time")])
    return now.astimezone(NEW_YORK)


def session_on(day: date, calendar: str = XNYS) -> Session | None:
    """The session of ``day``; None when there is none (weekend, holiday). Raises OutsideCalendarError."""
    _covered(day)
    if _known(calendar) == ROUND_THE_CLOCK:
        return _round_the_clock(day)
    days, sessions = _table()
    at = bisect_left(days, day)
    return sessions[at] if at < len(days) and days[at] == day else None


def sessions_between(first: date, last: date, calendar: str = XNYS) -> list[Session]:
    """Every session from ``first`` to ``last``, both included. Raises OutsideCalendarError."""
    _covered(first), _covered(last)
    if _known(calendar) == ROUND_THE_CLOCK:
        return [_round_the_clock(first + number * _DAY) for number in range((last - first).days + 1)]
    days, sessions = _table()
    return sessions[bisect_left(days, first) : bisect_right(days, last)]


def previous_session(day: date, calendar: str = XNYS) -> Session:
    """The last session before ``day``. Raises OutsideCalendarError."""
    _covered(day)
    if _known(calendar) == ROUND_THE_CLOCK:
        return _round_the_clock(_covered(day - _DAY))
    days, sessions = _table()
    at = bisect_left(days, day)
    if at == 0:
        raise OutsideCalendarError(day - _DAY)
    return sessions[at - 1]


def next_session(day: date, calendar: str = XNYS) -> Session:
    """The first session after ``day``. Raises OutsideCalendarError."""
    _covered(day)
    if _known(calendar) == ROUND_THE_CLOCK:
        return _round_the_clock(_covered(day + _DAY))
    days, sessions = _table()
    at = bisect_right(days, day)
    if at == len(days):
        raise OutsideCalendarError(day + _DAY)
    return sessions[at]


def session_date(now: datetime, calendar: str = XNYS) -> date:
    """The trading date that ``now`` belongs to.

    On XNYS the date in New York, at any hour of it; a weekend or a holiday belongs to the session that comes next.
    Round the clock it rolls at 17:00 New York. Raises InvalidInputError for a time without a zone, and
    OutsideCalendarError.
    """
    local = _local(now)
    if _known(calendar) == ROUND_THE_CLOCK:
        return _covered(local.date() + (_DAY if local.time() >= _ROLL else timedelta(0)))
    today = session_on(local.date())
    return today.date if today else next_session(local.date()).date


def is_open(now: datetime, calendar: str = XNYS) -> bool:
    """Whether ``now`` is inside a session; the closing instant is not. Round the clock it always is."""
    session = session_on(_local(now).date() if calendar == XNYS else session_date(now, calendar), calendar)
    return session is not None and session.contains(now)


def business_days_between(since: date, until: date, calendar: str = XNYS) -> int:
    """The age of ``since`` on ``until`` in trading days: sessions after ``since``, up to and with ``until``.

    0 on the same day, 1 on the next session; negative when ``until`` is the earlier. Raises OutsideCalendarError.
    """
    _covered(since), _covered(until)
    if _known(calendar) == ROUND_THE_CLOCK:
        return (until - since).days
    days, _ = _table()
    return bisect_right(days, until) - bisect_right(days, since)


def seconds_open_between(since: datetime, until: datetime, calendar: str = XNYS) -> float:
    """How long the calendar's sessions were open from ``since`` to ``until``; 0 when ``until`` is not the later.

    Raises OutsideCalendarError.
    """
    begun, ended = _covered(_local(since).date()), _covered(_local(until).date())
    if until <= since:
        return 0.0
    if _known(calendar) == ROUND_THE_CLOCK:
        return (until - since).total_seconds()
    overlaps = (
        min(until, session.closes_at) - max(since, session.opens_at) for session in sessions_between(begun, ended)
    )
    return sum(max(overlap.total_seconds(), 0.0) for overlap in overlaps)


def holidays_between(first: date, last: date) -> list[date]:
    """The weekdays on which XNYS is closed, from ``first`` to ``last``. Raises OutsideCalendarError."""
    open_days = {session.date for session in sessions_between(first, last)}
    every_day = (first + number * _DAY for number in range((last - first).days + 1))
    return [day for day in every_day if day.weekday() < 5 and day not in open_days]


def early_closes_between(first: date, last: date) -> list[Session]:
    """The sessions of XNYS that end before 16:00, from ``first`` to ``last``. Raises OutsideCalendarError."""
    return [session for session in sessions_between(first, last) if session.early_close]
