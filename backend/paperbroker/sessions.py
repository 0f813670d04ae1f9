"""The New York session by rule: weekends, NYSE holidays and early closes. The broker fills at any hour all the same.

Source: the NYSE's published holiday rules since 2022. Unscheduled closures are not known here.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
ONE_DAY = timedelta(days=1)


def _easter(year: int) -> date:
    a, b, c = year % 19, year // 100, year % 100
    h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    k = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
    m = (a + 11 * h + 22 * k) // 451
    month, day = divmod(h + k - 7 * m + 114, 31)
    return date(year, month, day + 1)


def _nth(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _observed(day: date) -> date:
    return day - ONE_DAY if day.weekday() == 5 else day + ONE_DAY if day.weekday() == 6 else day


def holidays(year: int) -> set[date]:
    """Return the full closures of a year. A Saturday New Year is not observed on the Friday before."""
    new_year = date(year, 1, 1)
    last_of_may = date(year, 5, 31)
    days = {
        _nth(year, 1, 0, 3), _nth(year, 2, 0, 3), _easter(year) - 2 * ONE_DAY,
        last_of_may - timedelta(days=last_of_may.weekday()), _observed(date(year, 6, 19)),
        _observed(date(year, 7, 4)), _nth(year, 9, 0, 1), _nth(year, 11, 3, 4), _observed(date(year, 12, 25)),
    }  # fmt: skip
    return days if new_year.weekday() == 5 else days | {_observed(new_year)}


def hours(day: date) -> tuple[time, time] | None:
    """Return open and close in New York time, or None when closed."""
    if day.weekday() >= 5 or day in holidays(day.year):
        return None
    early = {_nth(day.year, 11, 3, 4) + ONE_DAY, date(day.year, 7, 3), date(day.year, 12, 24)}
    return time(9, 30), time(13, 0) if day in early else time(16, 0)


def calendar_json(start: date, end: date) -> list[dict[str, Any]]:
    """Return the sessions from start to end, both included."""
    shown = []
    while start <= end:
        if session := hours(start):
            opens, closes = (f"{moment:%H:%M}" for moment in session)
            shown.append({"date": start.isoformat(), "open": opens, "close": closes, "session_open": "0400",
                          "session_close": "2000", "settlement_date": start.isoformat()})  # fmt: skip
        start += ONE_DAY
    return shown


def clock_json(now: datetime) -> dict[str, Any]:
    """Return the market clock at an aware time."""
    local = now.astimezone(NEW_YORK)
    opens: list[datetime] = []
    closes: list[datetime] = []
    for offset in range(12):
        day = local.date() + offset * ONE_DAY
        if session := hours(day):
            opens.append(datetime.combine(day, session[0], NEW_YORK))
            closes.append(datetime.combine(day, session[1], NEW_YORK))
    next_open = next(moment for moment in opens if moment > local)
    next_close = next(moment for moment in closes if moment > local)
    return {"timestamp": local.isoformat(), "is_open": next_close < next_open, "next_open": next_open.isoformat(),
            "next_close": next_close.isoformat()}  # fmt: skip
