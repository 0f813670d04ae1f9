"""Sessions of XNYS and of the round-the-clock day, at their edges."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.data import calendar
from backend.tradingbot.data.calendar import NEW_YORK, ROUND_THE_CLOCK, XNYS, OutsideCalendarError


def new_york(*parts):
    return datetime(*parts, tzinfo=NEW_YORK)


def test_the_day_after_thanksgiving_2026_closes_early_after_210_minutes():
    session = calendar.session_on(date(2026, 11, 27))
    assert (session.minutes, session.early_close) == (210, True)
    assert session.opens_at == datetime(2026, 11, 27, 14, 30, tzinfo=UTC)
    assert session.closes_at == datetime(2026, 11, 27, 18, 0, tzinfo=UTC)
    starts = list(session.minute_starts())
    assert (len(starts), starts[0], starts[-1]) == (210, session.opens_at, session.closes_at - timedelta(minutes=1))


def test_every_early_close_of_three_years_is_known():
    """The New York Stock Exchange's published calendars, November 2023 to December 2026."""
    closes = calendar.early_closes_between(date(2023, 11, 1), date(2026, 12, 31))
    assert [session.date for session in closes] == [
        date(2023, 11, 24),
        date(2024, 7, 3),
        date(2024, 11, 29),
        date(2024, 12, 24),
        date(2025, 7, 3),
        date(2025, 11, 28),
        date(2025, 12, 24),
        date(2026, 11, 27),
        date(2026, 12, 24),
    ]
    assert {session.minutes for session in closes} == {210}
    assert {session.closes_at.astimezone(NEW_YORK).hour for session in closes} == {13}


def test_the_holidays_of_2025_and_2026_are_known_with_the_day_of_mourning():
    assert calendar.holidays_between(date(2025, 1, 1), date(2026, 12, 31)) == [
        date(2025, 1, 1),
        date(2025, 1, 9),
        date(2025, 1, 20),
        date(2025, 2, 17),
        date(2025, 4, 18),
        date(2025, 5, 26),
        date(2025, 6, 19),
        date(2025, 7, 4),
        date(2025, 9, 1),
        date(2025, 11, 27),
        date(2025, 12, 25),
        date(2026, 1, 1),
        date(2026, 1, 19),
        date(2026, 2, 16),
        date(2026, 4, 3),
        date(2026, 5, 25),
        date(2026, 6, 19),
        date(2026, 7, 3),
        date(2026, 9, 7),
        date(2026, 11, 26),
        date(2026, 12, 25),
    ]


@pytest.mark.parametrize("day", [date(2026, 11, 26), date(2026, 11, 28), date(2026, 11, 29)])
def test_a_holiday_and_a_weekend_have_no_session(day):
    assert calendar.session_on(day) is None


def test_a_session_is_an_hour_earlier_in_utc_with_daylight_saving_and_as_long():
    """Clocks went forward on 8 March 2026 and back on 1 November 2026."""
    opens = {day: calendar.session_on(day).opens_at.hour for day in (date(2026, 3, 6), date(2026, 3, 9))}
    assert opens == {date(2026, 3, 6): 14, date(2026, 3, 9): 13}
    opens = {day: calendar.session_on(day).opens_at.hour for day in (date(2026, 10, 30), date(2026, 11, 2))}
    assert opens == {date(2026, 10, 30): 13, date(2026, 11, 2): 14}
    assert {session.minutes for session in calendar.sessions_between(date(2026, 3, 2), date(2026, 3, 13))} == {390}


def test_the_round_the_clock_day_has_an_hour_less_or_more_when_the_clocks_change():
    minutes = {
        day: calendar.session_on(day, ROUND_THE_CLOCK).minutes
        for day in (date(2026, 3, 7), date(2026, 3, 8), date(2026, 11, 1), date(2026, 11, 2))
    }
    assert minutes == {
        date(2026, 3, 7): 1440,
        date(2026, 3, 8): 1380,
        date(2026, 11, 1): 1500,
        date(2026, 11, 2): 1440,
    }


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (new_york(2026, 11, 25, 0, 0), date(2026, 11, 25)),
        (new_york(2026, 11, 25, 23, 59, 59), date(2026, 11, 25)),
        (new_york(2026, 11, 26, 12, 0), date(2026, 11, 27)),  # Thanksgiving
        (new_york(2026, 11, 28, 12, 0), date(2026, 11, 30)),  # a Saturday
        (datetime(2026, 11, 25, 4, 59, tzinfo=UTC), date(2026, 11, 24)),
        (datetime(2026, 11, 25, 5, 0, tzinfo=UTC), date(2026, 11, 25)),
        (datetime(2026, 7, 21, 3, 59, tzinfo=UTC), date(2026, 7, 20)),
        (datetime(2026, 7, 21, 4, 0, tzinfo=UTC), date(2026, 7, 21)),
    ],
)
def test_the_trading_date_of_xnys_is_new_yorks_date_or_the_next_session(now, day):
    assert calendar.session_date(now) == day


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (new_york(2026, 11, 28, 16, 59, 59), date(2026, 11, 28)),
        (new_york(2026, 11, 28, 17, 0), date(2026, 11, 29)),
        (datetime(2026, 1, 5, 21, 59, tzinfo=UTC), date(2026, 1, 5)),
        (datetime(2026, 1, 5, 22, 0, tzinfo=UTC), date(2026, 1, 6)),
        (datetime(2026, 7, 6, 20, 59, tzinfo=UTC), date(2026, 7, 6)),
        (datetime(2026, 7, 6, 21, 0, tzinfo=UTC), date(2026, 7, 7)),
    ],
)
def test_a_round_the_clock_day_rolls_at_17_in_new_york(now, day):
    assert calendar.session_date(now, ROUND_THE_CLOCK) == day
    assert calendar.session_on(day, ROUND_THE_CLOCK).contains(now)


@pytest.mark.parametrize(
    ("now", "opened"),
    [
        (new_york(2026, 11, 27, 9, 29, 59), False),
        (new_york(2026, 11, 27, 9, 30), True),
        (new_york(2026, 11, 27, 12, 59, 59), True),
        (new_york(2026, 11, 27, 13, 0), False),
        (new_york(2026, 11, 30, 15, 59, 59), True),
        (new_york(2026, 11, 30, 16, 0), False),
        (new_york(2026, 11, 26, 12, 0), False),
        (new_york(2026, 11, 28, 12, 0), False),
    ],
)
def test_xnys_is_open_from_the_open_until_the_close(now, opened):
    assert calendar.is_open(now) is opened
    assert calendar.is_open(now, ROUND_THE_CLOCK) is True


def test_the_sessions_before_and_after_step_over_holidays_and_weekends():
    assert calendar.previous_session(date(2026, 11, 27)).date == date(2026, 11, 25)
    assert calendar.next_session(date(2026, 11, 27)).date == date(2026, 11, 30)
    assert calendar.next_session(date(2026, 11, 28)).date == date(2026, 11, 30)
    assert calendar.previous_session(date(2026, 11, 30), ROUND_THE_CLOCK).date == date(2026, 11, 29)
    assert calendar.next_session(date(2026, 11, 27), ROUND_THE_CLOCK).date == date(2026, 11, 28)


def test_an_age_in_business_days_counts_sessions_and_not_days():
    wednesday = date(2026, 11, 25)
    ages = [calendar.business_days_between(wednesday, wednesday + timedelta(days=days)) for days in range(7)]
    assert ages == [0, 0, 1, 1, 1, 2, 3]
    assert calendar.business_days_between(date(2026, 11, 30), wednesday) == -2
    assert calendar.business_days_between(wednesday, date(2026, 11, 30), ROUND_THE_CLOCK) == 5


@pytest.mark.parametrize(
    ("since", "until", "seconds"),
    [
        (new_york(2026, 11, 25, 15, 59, 50), new_york(2026, 11, 27, 9, 30, 20), 30),
        (new_york(2026, 11, 25, 16, 0), new_york(2026, 11, 27, 9, 30), 0),
        (new_york(2026, 11, 25, 9, 0), new_york(2026, 11, 30, 17, 0), (390 + 210 + 390) * 60),
        (new_york(2026, 11, 25, 10, 0), new_york(2026, 11, 25, 10, 0, 7), 7),
        (new_york(2026, 11, 25, 10, 0), new_york(2026, 11, 25, 9, 0), 0),
    ],
)
def test_the_time_that_xnys_was_open_leaves_nights_and_holidays_out(since, until, seconds):
    assert calendar.seconds_open_between(since, until) == seconds
    assert calendar.seconds_open_between(since, until, ROUND_THE_CLOCK) == max((until - since).total_seconds(), 0)


@pytest.mark.parametrize("day", [date(1989, 12, 29), date(2041, 1, 2), date(9999, 12, 31), date(1, 1, 1)])
@pytest.mark.parametrize("name", [XNYS, ROUND_THE_CLOCK])
def test_a_date_outside_the_calendar_is_refused_and_says_what_is_covered(day, name):
    for ask in (calendar.session_on, calendar.previous_session, calendar.next_session):
        with pytest.raises(OutsideCalendarError) as caught:
            ask(day, name)
        assert caught.value.code == "outside_calendar"
        assert str(caught.value) == "day: is outside the calendar, which covers 1990-01-02 to 2040-12-31"
    with pytest.raises(OutsideCalendarError):
        calendar.business_days_between(date(2026, 1, 2), day, name)


@pytest.mark.parametrize("name", [XNYS, ROUND_THE_CLOCK])
def test_the_ends_of_the_calendar_have_no_neighbour_beyond(name):
    with pytest.raises(OutsideCalendarError):
        calendar.previous_session(calendar.FIRST, name)
    with pytest.raises(OutsideCalendarError):
        calendar.next_session(calendar.LAST, name)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(InvalidInputError) as caught:
        calendar.session_date(datetime(2026, 11, 25, 12, 0))  # noqa: DTZ001  what is refused
    assert caught.value.errors[0].field == "now"
    assert caught.value.remedy == "hand over a UTC time"


def test_an_unknown_calendar_is_refused_by_name():
    with pytest.raises(InvalidInputError) as caught:
        calendar.is_open(datetime(2026, 11, 25, tzinfo=UTC), "XLON")
    assert (caught.value.errors[0].value, caught.value.remedy) == ("XLON", "use XNYS, 24/7")


def test_importing_the_calendar_does_not_load_pandas_and_asking_does():
    code = (
        "import sys, datetime as d; from backend.tradingbot.data import calendar as c;"
        "print('pandas' in sys.modules, c.is_open(d.datetime(2026, 11, 25, 15, tzinfo=d.UTC)), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
