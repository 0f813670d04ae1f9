"""Drawings made by the server: plain SVG with classes, so that no page needs a script or an inline style for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from backend.tradingbot.selectors.breaker_history import Timeline
from backend.tradingbot.templatetags.control_room import figure

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 220, 78, 26, 16


LEVEL = (
    '<line class="{0}" x1="{1}" x2="{2}" y1="{3}" y2="{3}"/><text class="tl-axis" x="4" y="{3}">{4}</text>'
    '<text class="tl-axis" x="{1}" y="{5}" dx="4">{6}</text>'
)
EVENT = (
    '<line class="tl-event" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
    '<text class="tl-axis" x="{3}" y="12" text-anchor="middle">{4}</text>'
)
WHOLE = (
    '<svg class="timeline" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}'
    '<polyline class="tl-line" points="{}"/>{}<text class="tl-axis" x="{}" y="{}">{}</text>'
    '<text class="tl-axis" x="{}" y="{}" text-anchor="end">{} UTC</text></svg>'
)
SHOWN_TIME = "%m-%d %H:%M:%S"


@dataclass(frozen=True)
class _Scale:
    """Where a moment and a value are on the drawing."""

    since: datetime
    seconds: float
    low: float
    high: float

    def x(self, at: datetime) -> float:
        share = (at - self.since).total_seconds() / self.seconds
        return LEFT + (WIDTH - LEFT - 8) * min(max(share, 0.0), 1.0)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self.low) / (self.high - self.low))


def _scale(line: Timeline) -> _Scale:
    values = [value for _, value in line.points] + [value for value in (line.limit, line.start) if value is not None]
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or max(abs(high) * 0.01, 1.0)
    seconds = max((line.until - line.since).total_seconds(), 1.0)
    return _Scale(line.since, seconds, low - room if line.of == "equity" else 0.0, high + room)


def timeline_svg(line: Timeline) -> SafeString:
    """The values over time with the limit and the day's start as lines, and each event where it happened."""
    scale = _scale(line)
    at = [(f"{scale.x(moment):.1f}", f"{scale.y(value):.1f}") for moment, value in line.points]
    dots = at if len(at) <= 60 else at[-1:]
    return format_html(
        WHOLE, WIDTH, HEIGHT, _in_words(line),
        _level(line.limit, "trips at", "tl-limit", scale), _level(line.start, "day's start", "tl-start", scale),
        _events(line, scale), " ".join(",".join(point) for point in at),
        format_html_join("", '<circle class="tl-dot" cx="{}" cy="{}" r="2.5"/>', dots),
        LEFT, HEIGHT - 8, line.since.strftime(SHOWN_TIME), WIDTH - 8, HEIGHT - 8, line.until.strftime(SHOWN_TIME),
    )  # fmt: skip


def _events(line: Timeline, scale: _Scale) -> SafeString:
    places = [(scale.x(at), what) for at, what in line.happened]
    rows = ((f"{x:.1f}", TOP, HEIGHT - BOTTOM, f"{min(max(x, LEFT + 14), WIDTH - 24):.1f}", what) for x, what in places)
    return format_html_join("", EVENT, rows)


def _level(value: float | None, words: str, css: str, scale: _Scale) -> SafeString:
    if value is None:
        return SafeString("")
    y = scale.y(value)
    return format_html(LEVEL, css, LEFT, WIDTH - 8, f"{y:.1f}", figure(value), f"{y - 4:.1f}", words)


def _in_words(line: Timeline) -> str:
    first, last = line.points[0][1], line.points[-1][1]
    limit = "" if line.limit is None else f"; it trips at {figure(line.limit)}"
    happened = "; ".join(f"{what} at {at:%H:%M:%S}" for at, what in line.happened[:6])
    return f"{line.of} from {figure(first)} to {figure(last)}{limit}" + (f"; {happened}" if happened else "")
