"""Which sessions have ended and have to be reconciled, by the exchange's calendar and the real closes."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache

from django.conf import settings

from backend.tradingbot.data.calendar import next_session, previous_session, session_date, session_on, sessions_between
from backend.tradingbot.models import Account, RiskRow


def delay() -> timedelta:
    """How long after the close a session is due."""
    return timedelta(minutes=settings.TRADINGBOT.recon_delay_minutes)


def last_due(now: datetime, calendar: str) -> date:
    """The newest session whose close and the delay after it have passed."""
    return _last_due(now.replace(second=0, microsecond=0), calendar, delay())


@lru_cache(maxsize=512)
def _last_due(minute: datetime, calendar: str, wait: timedelta) -> date:
    day = session_date(minute, calendar)
    session = session_on(day, calendar) or previous_session(day, calendar)
    while session.closes_at + wait > minute:
        session = previous_session(session.date, calendar)
    return session.date


def first_session(account: Account) -> date:
    """The session in which the account was set up: the first that has to be reconciled."""
    return session_date(account.created_at, account.session_calendar)


def missed_sessions(account: Account, through: date | None, now: datetime) -> list[date]:
    """The sessions that are due and were never reconciled, oldest first; ``through`` is the last that was."""
    start = first_session(account)
    if through is not None:
        start = max(start, next_session(through, account.session_calendar).date)
    due = last_due(now, account.session_calendar)
    if start > due:
        return []
    return [session.date for session in sessions_between(start, due, account.session_calendar)]


def reconciled_through(account: Account) -> date | None:
    return RiskRow.objects.filter(account=account).values_list("reconciled_through", flat=True).first()
