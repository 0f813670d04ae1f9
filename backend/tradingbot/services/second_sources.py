"""Bars of a second source: kept beside the bars that count, to be compared with them, and used for nothing else.

Invariants: what the source said first stands, and what it says otherwise later is answered as a conflict; nothing of it
reaches the bars, the quotes or the gates but by the verdict of the comparison.
"""

from __future__ import annotations

from backend.tradingbot.core.errors import FieldError, InvalidInputError, NotFoundError
from backend.tradingbot.models import Feed


def second_feed(code: str | None) -> Feed | None:
    """The feed whose bars are to be compared; None without a code. Raises NotFoundError, InvalidInputError."""
    if code is None:
        return None
    feed = None if "\x00" in code else Feed.objects.filter(code=code, active=True).first()
    if feed is None:
        raise NotFoundError(f"there is no feed {code!r} that is watched", code="feed_not_found", remedy="declare it")
    if not feed.second_source:
        remedy = "leave the feed out: these bars are those that count, or declare the feed as a second source"
        raise InvalidInputError([FieldError("feed", code, "is not a second source", remedy)])
    return feed
