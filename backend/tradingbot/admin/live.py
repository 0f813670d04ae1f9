"""Pages that follow what happens: parts with a digest each, of which only those that changed are sent again.

``static/tradingbot/live.js`` asks, naming what it shows in ``X-Known`` (``name=digest``, comma between).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from backend.tradingbot.core.clock import rfc3339

LONGEST_KNOWN = 2_000
Says = Mapping[str, str]


def whole(parts: Mapping[str, SafeString], *, says: Says) -> SafeString:
    """Every part, for the page as it is first opened. ``says`` is what is read out when a part changes."""
    return _sections(parts, says, "", None)


def changed(request: HttpRequest, parts: Mapping[str, SafeString], *, as_of: datetime, says: Says) -> HttpResponse:
    """The parts that differ from those the browser shows; 204 when none does."""
    pairs = (pair.partition("=") for pair in request.headers.get("X-Known", "")[:LONGEST_KNOWN].split(","))
    html = _sections(parts, says, SafeString(' hx-swap-oob="true"'), {name: digest for name, _, digest in pairs})
    answer = HttpResponse(html, status=200 if html else 204)
    answer["X-As-Of"] = rfc3339(as_of) or ""
    answer["Cache-Control"] = "no-store"
    return answer


def _sections(parts: Mapping[str, SafeString], says: Says, swap: str, known: Mapping[str, str] | None) -> SafeString:
    rows = [
        (name, "cr-part" if html.strip() else "cr-part cr-empty", digest, _said(says.get(name)), swap, html)
        for name, html in parts.items()
        if (digest := _digest(html)) and (known is None or known.get(name) != digest)
    ]
    return format_html_join("\n", '<section id="cr-{}" class="{}" data-digest="{}"{}{}>{}</section>', rows)


def _said(words: str | None) -> SafeString:
    return format_html_join("", ' data-says="{}"', [(words,)] if words else [])


def _digest(html: str) -> str:
    return hashlib.blake2b(html.encode(), digest_size=8).hexdigest()
