"""Breakers: their state, their events, and the two acts of trip and reset, each with a permission of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from backend.tradingbot.admin.asking import ForceForm, ReasonForm, ask
from backend.tradingbot.admin.charts import timeline_svg
from backend.tradingbot.admin.evidence import EvidenceAdmin, EvidenceInline, actor_of, may
from backend.tradingbot.admin.rendering import facts, label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Breaker, BreakerEvent, ResetRequest
from backend.tradingbot.selectors.breaker_history import last_trip, timeline, waiting_reset
from backend.tradingbot.services import breaker_resets, breakers

TRIP, RESET, FORCE = (f"tradingbot.{name}" for name in ("trip_breaker", "reset_breaker", "force_reset_breaker"))

EVENT_LABELS = {"breaker_trip": "danger", "breaker_reset": "success"}


def seconds(value: float | None) -> str:
    """``4000.2`` -> ``1 h 6 min 41 s``: rounded up, so that "0 s" means that it is over."""
    if value is None:
        return "-"
    whole = -int(-value // 1)
    hours, rest = divmod(whole, 3600)
    minutes, last = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (last, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def status_of(row: Breaker) -> dict[str, Any]:
    """What the pure breaker of ``row`` says now; nothing is changed."""
    return breakers.restore(row, SYSTEM_CLOCK).status()


def event_badge(row: BreakerEvent) -> SafeString:
    return label(row.kind.removeprefix("breaker_"), EVENT_LABELS.get(row.kind, ""))


def now_of(row: Breaker, may_refuse: bool) -> dict[str, Any]:
    """What the head of the page says: state, countdown, what holds, what waits, the cause and the timeline."""
    now, status, trip = SYSTEM_CLOCK.now(), status_of(row), last_trip(row)
    waiting, line = waiting_reset(row, now), timeline(row, trip, now)
    left = status["cooldown_remaining_sec"]
    refuse = reverse("admin:tradingbot_breaker_refuse_reset", args=[row.pk]) if waiting and may_refuse else ""
    return {
        "row": row,
        "open": row.tripped_at is not None,
        "trip": trip,
        "cooldown_over": now + timedelta(seconds=left) if left > 0 else None,
        "holding": status["holding_causes"],
        "later": status["later_causes"],
        "second_person": settings.TRADINGBOT.reset_second_person,
        "waiting": waiting,
        "refuse_url": refuse,
        "line": line,
        "drawing": None if line is None else timeline_svg(line),
        "values": [] if trip is None else _values(trip),
    }  # fmt: skip


def _values(trip: BreakerEvent) -> list[tuple[str, Any]]:
    """The figures of the moment; what the head says already is left out, and epoch seconds are told as times."""
    shown: list[tuple[str, Any]] = []
    for name, value in trip.values.items():
        if name in ("errors_before", "holding_causes", "later_causes", "can_trade", "tripped", "reason"):
            continue
        if value in (None, "None"):
            continue
        if name.endswith("_at") and str(value).replace(".", "", 1).isdigit():
            value = datetime.fromtimestamp(float(value), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        elif name.endswith("_sec"):
            value = f"{float(value):.1f}"
        shown.append((name.replace("_", " "), value))
    return shown


class BreakerEventInline(EvidenceInline):
    model = BreakerEvent
    verbose_name_plural = "Events, newest first"
    fields = ["at", "badge", "actor", "reason"]
    ordering = ["-id"]

    @display(description="What")
    def badge(self, row: BreakerEvent) -> SafeString:
        return event_badge(row)


@admin.register(Breaker)
class BreakerAdmin(EvidenceAdmin):
    list_display = ["scope", "opened", "reason", "tripped_at", "cooldown_left", "evaluated_at"]
    search_fields = ["scope"]
    inlines = [BreakerEventInline]
    actions_detail = ["reset_breaker", "trip_breaker", "refuse_reset"]
    change_form_before_template = "admin/tradingbot/breaker_now.html"
    hidden = ["state", "scope", "reason", "tripped_at"]  # the head of the page says them
    groups = [
        ("Limits", ["max_daily_drawdown max_error_rate_per_min", "max_data_staleness_sec cooldown_sec"]),
        ("Ramp after a reset", ["ramp_sec ramp_start_pct", "reset_at size_now"]),
        ("What it was told last", ["session evaluated_at", "figures"]),
    ]

    class Media:
        js = ["tradingbot/live.js"]

    @display(description="State", label={"open": "danger", "closed": "success"}, ordering="tripped_at")
    def opened(self, row: Breaker) -> str:
        return "closed" if row.tripped_at is None else "open"

    @display(description="State")
    def badge(self, row: Breaker) -> SafeString:
        return label("closed", "success") if row.tripped_at is None else label("open", "danger")

    @display(description="Cooldown left")
    def cooldown_left(self, row: Breaker) -> str:
        return "-" if row.tripped_at is None else seconds(status_of(row)["cooldown_remaining_sec"])

    @display(description="Largest order now")
    def size_now(self, row: Breaker) -> str:
        share = breakers.share_of_size(row, SYSTEM_CLOCK.now())
        return "its limit" if share == 1 else f"{round(share * 100, 1)} % of its limit, and rising"

    @display(description="Figures")
    def figures(self, row: Breaker) -> Any:
        status = status_of(row)
        return facts({name: status.get(name) for name in ("start_equity", "last_equity", "errors_last_min")})

    def has_trip_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, TRIP)

    def has_reset_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, RESET)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """A closed breaker has nothing to reset, and refusing stands beside the request itself."""
        row = Breaker.objects.filter(pk=object_id).first()
        is_open = row is not None and row.tripped_at is not None
        allowed = [
            act
            for act in super().get_actions_detail(request, object_id)
            if not act.action_name.endswith("refuse_reset")
        ]
        return [act for act in allowed if is_open or not act.action_name.endswith("reset_breaker")]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        shown = {} if row is None else {"now": now_of(row, self.has_reset_permission(request))}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    @action(description="Trip", permissions=["trip"], url_path="trip", icon="block", variant=ActionVariant.DANGER)
    def trip_breaker(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._breaker(request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            breakers.trip(row.scope, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK)
            return f"{row.scope} is open: new risk in this scope is refused until somebody resets it."

        return ask(
            self,
            request,
            row,
            title=f"Trip {row.scope}",
            explanation="Every order of this scope that does not only reduce a position is refused from now on.",
            button=f"Trip {row.scope}",
            facts=[("State now", self.badge(row)), ("Reason now", row.reason or "-")],
            perform=perform,
        )

    @action(description="Reset", permissions=["reset"], url_path="reset", icon="restart_alt")
    def reset_breaker(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._breaker(request, object_id)
        may_force = may(request, FORCE)

        def perform(entered: dict[str, Any]) -> str:
            force = bool(entered.get("force"))
            answer = breaker_resets.ask_reset(
                row.scope, actor=actor_of(request), reason=entered["reason"], force=force, clock=SYSTEM_CLOCK
            )
            if answer.request is not None:
                return f"A second person has to carry it out before {answer.request.expires_at:%H:%M:%S} UTC."
            return f"{row.scope} is closed again" + (" (forced)." if force else ".")

        return ask(
            self,
            request,
            row,
            title=f"Reset {row.scope}",
            explanation=(
                f"Orders of this scope are let through again, the largest at {row.ramp_start_pct.normalize():f} % of "
                f"their limit at first and at all of it after {seconds(float(row.ramp_sec))}. "
                "It can trip again at once."
            ),
            button=f"Reset {row.scope}",
            facts=self._reset_facts(row),
            perform=perform,
            form_class=ForceForm if may_force else ReasonForm,
        )

    @action(description="Refuse the reset", permissions=["reset"], url_path="refuse", icon="cancel")
    def refuse_reset(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._breaker(request, object_id)
        asked = waiting_reset(row, SYSTEM_CLOCK.now())
        if asked is None:
            raise Http404("no reset waits here")

        def perform(entered: dict[str, Any]) -> str:
            breaker_resets.refuse(asked.pk, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK)
            return f"{row.scope} stays open; the request to reset it is refused."

        return ask(
            self,
            request,
            row,
            title=f"Refuse the reset of {row.scope}",
            explanation="The breaker stays open. Whoever wants it reset has to ask anew.",
            button="Refuse the reset",
            facts=[("Asked by", asked.requested_by), ("Reason", asked.reason), ("Expires", asked.expires_at)],
            perform=perform,
        )

    def _breaker(self, request: HttpRequest, object_id: str) -> Breaker:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = Breaker.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if row is None:
            raise Http404(f"there is no breaker {object_id}")
        return row

    def _reset_facts(self, row: Breaker) -> list[tuple[str, Any]]:
        status, asked = status_of(row), waiting_reset(row, SYSTEM_CLOCK.now())
        waits = [] if asked is None else [("Asked for by", f"{asked.requested_by}: {asked.reason}")]
        return [
            *waits,
            ("State now", self.badge(row)),
            ("Opened", row.tripped_at),
            ("Reason", row.reason or "-"),
            ("Later causes", facts(status["later_causes"])),
            ("Cooldown remaining", seconds(status["cooldown_remaining_sec"])),
            ("Causes that still hold", facts(status["holding_causes"])),
        ]


@admin.register(BreakerEvent)
class BreakerEventAdmin(EvidenceAdmin):
    list_display = ["at", "breaker", "badge", "actor", "reason"]
    list_filter = ["kind"]
    list_select_related = ["breaker"]
    search_fields = ["breaker__scope", "actor", "reason"]
    groups = [
        (None, ["at badge", "breaker actor", "reason"]),
        ("Figures at that moment", ["values"]),
        ("Made by", ["build_id build_stamp", "trace_id"]),
    ]
    hidden = ["kind"]

    @display(description="What", ordering="kind")
    def badge(self, row: BreakerEvent) -> SafeString:
        return event_badge(row)


@admin.register(ResetRequest)
class ResetRequestAdmin(EvidenceAdmin):
    list_display = ["requested_at", "breaker", "requested_by", "reason", "forced", "state", "decided_by", "expires_at"]
    list_filter = ["state"]
    list_select_related = ["breaker"]
