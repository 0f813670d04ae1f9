"""Declared market data feeds: what each brings, when, and how long it may be silent as a whole."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from backend.tradingbot.data.calendar import CALENDARS, XNYS
from backend.tradingbot.data.frames import INTERVALS


class Feed(models.Model):
    """``last_seen_at`` is the newest tick of any of its symbols, kept here so that an emptied store forgets nothing.

    Silence counts from ``watched_since`` at the earliest: a feed just declared or changed has not failed yet.
    """

    code = models.SlugField(max_length=32, db_index=False)
    symbols = ArrayField(models.CharField(max_length=32))
    session_calendar = models.CharField(max_length=8, choices=[(name, name) for name in CALENDARS], default=XNYS)
    max_silence_seconds = models.PositiveIntegerField(help_text="Longer silence of every symbol at once trips.")
    bar_intervals = ArrayField(
        models.CharField(max_length=3, choices=[(name, name) for name in INTERVALS]),
        default=list,
        blank=True,
        help_text="Bars that it brings, for example 1m: one that is missing in its session stops its symbol.",
    )
    second_source = models.BooleanField(
        default=False,
        help_text="Its bars are kept beside those that count, and compared with them; nothing else is taken from it.",
    )
    active = models.BooleanField(default=True)
    watched_since = models.DateTimeField()
    last_seen_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["code"]
        constraints = [
            models.UniqueConstraint(fields=["code"], name="feed_code_once"),
            models.CheckConstraint(condition=Q(session_calendar__in=list(CALENDARS)), name="feed_calendar_known"),
            models.CheckConstraint(condition=Q(max_silence_seconds__gt=0), name="feed_silence_positive"),
            models.CheckConstraint(condition=Q(symbols__len__gt=0), name="feed_has_symbols"),
            models.CheckConstraint(
                condition=Q(second_source=False) | Q(bar_intervals__len__gt=0), name="feed_second_source_brings_bars"
            ),
        ]

    def __str__(self) -> str:
        return self.code
