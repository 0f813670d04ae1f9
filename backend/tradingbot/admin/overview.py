"""The control room's first page, and the parts of it that change while somebody looks.

The browser asks every 1.5 s and names what it shows; only parts that differ are sent, so that nothing is redrawn under
a reader's eyes. Invariants: one read serves everybody who asks a process within ``SHARED_SECONDS``; a person's first
page is always read afresh; a part, a link or a name outside one's permissions is not sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString

from backend.tradingbot.admin.evidence import may
from backend.tradingbot.admin.live import changed, whole
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.infra.build_info import build_id, build_timestamp
from backend.tradingbot.selectors.overview import Overview, overview
from backend.tradingbot.selectors.overview_stops import Stop

SHARED_SECONDS, PATIENCE_SECONDS = 0.5, 5.0
PARTS = {  # the part and the permission without which it is not shown
    "stops": "",
    "first_steps": "view_account",
    "accounts": "view_riskrow",
    "doubt": "view_order",
    "breakers": "view_breaker",
    "feeds": "view_feed",
    "breaks": "view_break",
    "modes": "view_strategy",
    "decisions": "view_order",
}
ACTS = {"view_killswitchrun", "reset_breaker", "view_datastop", "view_disabledpattern", "view_limitversion",
        "view_promotionrequest", "view_resetrequest"}  # fmt: skip
PAGES: dict[str, Callable[[Any], str]] = {
    "kill_switch": lambda pk: reverse("admin:tradingbot_killswitchrun_change", args=[pk]),
    "breaker_reset": lambda pk: reverse("admin:tradingbot_breaker_reset_breaker", args=[pk]),
    "activate": lambda pk: reverse("admin:tradingbot_tradingstate_activate", args=[pk]),
    "breakers": lambda pk: reverse("admin:tradingbot_breaker_changelist"),
    "riskrows": lambda pk: reverse("admin:tradingbot_riskrow_changelist"),
    "feed": lambda pk: reverse("admin:tradingbot_feed_change", args=[pk]),
    "breaks": lambda pk: reverse("admin:tradingbot_break_changelist"),
    "datastops": lambda pk: reverse("admin:tradingbot_datastop_changelist"),
    "pattern": lambda pk: reverse("admin:tradingbot_disabledpattern_change", args=[pk]),
}
WAITING = {"limit": ("loosened limit", "limitversion"), "promotion": ("promotion", "promotionrequest"),
           "reset": ("reset", "resetrequest")}  # fmt: skip


class _Shared:
    """The newest read of this process, and what was rendered from it for each set of permissions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[bool, tuple[float, Overview, dict[Any, dict[str, SafeString]]]] = {}

    def get(self, everything: bool, afresh: bool) -> tuple[Overview, dict[Any, dict[str, SafeString]]]:
        """Raises UnavailableError when another read is still not back: a slow database must not bind every thread of
        the process, which takes orders as well."""
        if not self._lock.acquire(timeout=PATIENCE_SECONDS if afresh else SHARED_SECONDS):
            raise UnavailableError("the overview is being read and not back yet", code="overview_busy")
        try:
            known = self._read.get(everything)
            if not afresh and known is not None and 0 <= SYSTEM_CLOCK.monotonic() - known[0] < SHARED_SECONDS:
                return known[1], known[2]
            mark_seconds = settings.TRADINGBOT.mark_seconds
            found = overview(SYSTEM_CLOCK.now(), mark_seconds=mark_seconds, all_accounts=everything)
            self._read[everything] = (SYSTEM_CLOCK.monotonic(), found, {})
            return found, self._read[everything][2]
        finally:
            self._lock.release()


_shared = _Shared()


def board(request: HttpRequest, *, afresh: bool) -> tuple[Overview, dict[str, SafeString]]:
    """The read and its parts as HTML, by name, as far as the person may see them."""
    found, rendered = _shared.get(request.GET.get("accounts") == "all", afresh)
    allowed = frozenset(name for name in {*PARTS.values(), *ACTS} if name and may(request, f"tradingbot.{name}"))
    host = request.build_absolute_uri("/").rstrip("/")
    if (allowed, host) not in rendered:
        context = _context(found, allowed, host)
        rendered[(allowed, host)] = {
            name: render_to_string(f"admin/tradingbot/overview/{name}.html", context)
            for name, needed in PARTS.items()
            if not needed or needed in allowed
        }
    return found, rendered[(allowed, host)]


def _context(found: Overview, allowed: frozenset[str], host: str) -> dict[str, Any]:
    waiting = [
        (WAITING[name][0], count, reverse(f"admin:tradingbot_{WAITING[name][1]}_changelist") + "?state__exact=waiting")
        for name, count in found.waiting.items()
        if f"view_{WAITING[name][1]}" in allowed
    ]
    return {
        "board": found,
        "host": host,
        "stops": [(stop, _link(stop, allowed)) for stop in found.stops],
        "waiting": waiting,
        "sees_accounts": "view_account" in allowed,
    }


def _link(stop: Stop, allowed: frozenset[str]) -> str | None:
    return PAGES[stop.page](stop.pk) if not stop.needs or stop.needs in allowed else None


def index_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page needs (``UNFOLD["DASHBOARD_CALLBACK"]``)."""
    everything = "?accounts=all" if request.GET.get("accounts") == "all" else ""
    try:
        found, parts = board(request, afresh=True)
        as_of, html = found.as_of, whole(parts, says={"stops": found.headline})
    except UnavailableError as error:  # the parts fill themselves in as soon as a read comes back
        messages.warning(request, f"{error.message}; the page fills itself in when it is.")
        as_of, html = SYSTEM_CLOCK.now(), whole(dict.fromkeys(PARTS, SafeString("")), says={})
    return context | {
        "title": "Overview",
        "parts": html,
        "parts_url": reverse("overview") + everything,
        "as_of": as_of,
        "build": build_id(),
        "built_at": build_timestamp()[:19].replace("T", " "),
    }


def changed_parts(request: HttpRequest) -> HttpResponse:
    """The parts that differ from those named in ``X-Known`` (``name=digest``, comma between); 204 when none does."""
    try:
        found, parts = board(request, afresh=False)
    except UnavailableError as error:
        return HttpResponse(error.message, status=503)
    return changed(request, parts, as_of=found.as_of, says={"stops": found.headline})


changed_parts_view = admin.site.admin_view(changed_parts)
