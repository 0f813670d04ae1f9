"""Which scopes may trade: halting, letting reduce only, and re-activating, each on a page that asks for the reason.

Who may trip a breaker may halt, and who may reset one may re-activate.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from backend.tradingbot.admin.asking import ask
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import TradingState
from backend.tradingbot.risk.trading_state import Trading
from backend.tradingbot.services.account_fields import check_reason
from backend.tradingbot.services.trading_states import set_state, wait_for_sends

RESTRICT, ACTIVATE = "tradingbot.trip_breaker", "tradingbot.reset_breaker"
LABELS = {"active": "success", "reducing": "warning", "halted": "danger"}


@admin.register(TradingState)
class TradingStateAdmin(EvidenceAdmin):
    list_display = ["scope", "badge", "reason", "actor", "changed_at"]
    list_filter = ["state"]
    search_fields = ["scope"]
    groups = [(None, ["scope badge", "reason", "actor changed_at"])]
    hidden = ["state"]
    actions_detail = ["activate", "reduce_only", "halt"]

    @display(description="State", ordering="state")
    def badge(self, row: TradingState) -> SafeString:
        return label(row.state, LABELS.get(row.state, ""))

    def has_restrict_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, RESTRICT)

    def has_activate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, ACTIVATE)

    @action(description="Halt", permissions=["restrict"], url_path="halt", icon="block", variant=ActionVariant.DANGER)
    def halt(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask(request, object_id, Trading.HALTED, "Nothing of this scope is sent any more.")

    @action(description="Reduce only", permissions=["restrict"], url_path="reduce", icon="trending_down")
    def reduce_only(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask(request, object_id, Trading.REDUCING, "Only orders that reduce a position are let through.")

    @action(description="Re-activate", permissions=["activate"], url_path="activate", icon="play_arrow")
    def activate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask(request, object_id, Trading.ACTIVE, "Orders of this scope are let through again.")

    def _ask(self, request: HttpRequest, object_id: str, state: Trading, explanation: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = TradingState.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if row is None:
            raise Http404(f"there is no trading state {object_id}")

        def perform(entered: dict[str, Any]) -> str:
            check_reason(entered["reason"])
            set_state(row.scope, state, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK)
            left = wait_for_sends(row.scope, clock=SYSTEM_CLOCK) if state is Trading.HALTED else []
            under_way = f" Still under way to the broker: {', '.join(left)}." if left else ""
            return f"{row.scope} is {state}.{under_way}"

        since = row.changed_at or "its beginning"
        return ask(
            self,
            request,
            row,
            title=f"{row.scope}: {state}",
            explanation=explanation,
            button=f"Set {row.scope} to {state}",
            facts=[("State now", self.badge(row)), ("Since", since), ("Reason", row.reason), ("Set by", row.actor)],
            perform=perform,
        )
