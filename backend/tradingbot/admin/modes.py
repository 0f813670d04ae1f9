"""Builds of strategies: how far each is trusted, on what evidence, and the acts that change it, each with its reason.

The evidence shown is what the service itself judges by, now; a step is judged again when it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from backend.tradingbot.admin.asking import ReasonForm, ask
from backend.tradingbot.admin.divergence import divergence_page
from backend.tradingbot.admin.evidence import EvidenceAdmin, EvidenceInline, actor_of, may
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import TradingbotError
from backend.tradingbot.models import ModeChange, PromotionRequest, StrategyBuild
from backend.tradingbot.services import promotion

PROMOTE, DEMOTE, REGISTER = (f"tradingbot.{name}_build" for name in ("promote", "demote", "register"))
MODE_LABELS = {"shadow": "", "canary": "warning", "live": "success"}
SAYS = {"slippage_bps_difference": "slippage difference, bps", "hard_verdicts": "hard stops of market data"}
REQUEST_LABELS = {"waiting": "warning", "approved": "success", "refused": "danger", "expired": ""}


def standing(row: StrategyBuild) -> SafeString:
    """One badge: what stops or waits first, else nothing to say."""
    if row.withdrawn_at is not None:
        return label("withdrawn", "danger")
    if row.demoted:
        return label("reduces until flat", "danger")
    if waiting(row) is not None:
        return label("waits for a second person", "warning")
    return label("as its mode says", "")


def waiting(row: StrategyBuild) -> PromotionRequest | None:
    """The request that a second person may decide now; one that has expired is none."""
    now = SYSTEM_CLOCK.now()
    requests = row.requests.all()  # type: ignore[attr-defined]
    return next((one for one in requests if one.state == "waiting" and one.expires_at > now), None)


class ModeChangeInline(EvidenceInline):
    model = ModeChange
    verbose_name_plural = "What became of its mode, newest first"
    fields = ["at", "before", "after", "actor", "second", "reason"]
    ordering = ["-id"]


class RequestInline(EvidenceInline):
    model = PromotionRequest
    verbose_name_plural = "Promotions asked for, newest first"
    fields = ["requested_at", "to_mode", "badge", "requested_by", "reason", "decided_by", "decided_at"]
    ordering = ["-id"]

    @display(description="State")
    def badge(self, row: PromotionRequest) -> SafeString:
        return label(row.state, REQUEST_LABELS.get(row.state, ""))


@admin.register(StrategyBuild)
class StrategyBuildAdmin(EvidenceAdmin):
    list_display = ["strategy", "build", "badge", "mode_since", "standing_now", "registered_by", "registered_at"]
    list_filter = ["mode", "strategy"]
    list_select_related = ["strategy"]
    search_fields = ["strategy__code", "build_id"]
    inlines = [RequestInline, ModeChangeInline]
    actions_detail = ["promote", "approve", "refuse", "demote", "divergence", "withdraw"]
    change_form_before_template = "admin/tradingbot/evidence.html"
    hidden = ["strategy", "build_id", "mode", "demoted", "withdrawn_at", "withdrawn_by", "withdrawn_why"]
    groups = [
        (None, ["whose build", "badge mode_since", "standing_now", "registered_by registered_at"]),
        ("Withdrawn", ["withdrawal"]),
    ]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("requests")

    @display(description="Strategy")
    def whose(self, row: StrategyBuild) -> str:
        return row.strategy.code

    @display(description="When, by whom, why")
    def withdrawal(self, row: StrategyBuild) -> str:
        if row.withdrawn_at is None:
            return "never"
        return f"{row.withdrawn_at:%Y-%m-%d %H:%M} by {row.withdrawn_by}: {row.withdrawn_why}"

    @display(description="Build", ordering="build_id")
    def build(self, row: StrategyBuild) -> str:
        return row.build_id or "orders that name none"

    @display(description="Mode", ordering="mode")
    def badge(self, row: StrategyBuild) -> SafeString:
        return label(row.mode, MODE_LABELS.get(row.mode, ""))

    @display(description="Standing")
    def standing_now(self, row: StrategyBuild) -> SafeString:
        return standing(row)

    def has_promote_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, PROMOTE)

    def has_demote_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, DEMOTE)

    def has_register_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, REGISTER)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what can be done now: a request is decided while it waits, a live build is not promoted."""
        row = StrategyBuild.objects.prefetch_related("requests").filter(pk=object_id).first()
        allowed = super().get_actions_detail(request, object_id)
        if row is None:
            return allowed
        waits, gone = waiting(row) is not None, row.withdrawn_at is not None
        hidden = {
            "promote": waits or gone or row.mode == "live",
            "approve": not waits,
            "refuse": not waits,
            "demote": row.mode == "shadow",
            "withdraw": gone,
        }
        return [act for act in allowed if not any(off and act.action_name.endswith(n) for n, off in hidden.items())]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        shown = {} if row is None else evidence_of(row)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    @action(description="Promote", permissions=["promote"], url_path="promote", icon="trending_up")
    def promote(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._found(request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            about: dict[str, Any] = {"actor": actor_of(request), "reason": entered["reason"], "clock": SYSTEM_CLOCK}
            done = promotion.promote(row.strategy, row.build_id, **about)
            if isinstance(done, PromotionRequest):
                return f"The step of {row} to {done.to_mode} waits for a second person until {done.expires_at:%H:%M}."
            return f"{row} is in {done.mode}."

        says = "One step up, when every condition is met. A step to live waits for a second person."
        return self._ask(request, row, f"Promote {row}", says, "Promote", perform, danger=False)

    @action(description="Approve", permissions=["promote"], url_path="approve", icon="check")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, approve=True)

    @action(description="Refuse", permissions=["promote"], url_path="refuse", icon="close")
    def refuse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, approve=False)

    def _decide(self, request: HttpRequest, object_id: str, *, approve: bool) -> HttpResponse:
        row = self._found(request, object_id)
        asked, word = waiting(row), "Approve" if approve else "Refuse"

        def perform(entered: dict[str, Any]) -> str:
            about: dict[str, Any] = {"actor": actor_of(request), "reason": entered["reason"], "clock": SYSTEM_CLOCK}
            done = promotion.decide(row.strategy, row.build_id, approve=approve, **about)
            return f"{row} is in {done.mode}." if approve else f"Refused: {row} stays in {done.mode}."

        says = "The evidence is judged again now. Who asked for it may not approve it."
        title = f"{word} the promotion of {row}" + (f" to {asked.to_mode}" if asked else "")
        facts = [("Asked by", f"{asked.requested_by}: {asked.reason}"), ("Expires", asked.expires_at)] if asked else []
        return self._ask(request, row, title, says, word, perform, danger=False, more=facts)

    @action(description="Demote", permissions=["demote"], url_path="demote", icon="trending_down")
    def demote(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._found(request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            about: dict[str, Any] = {"actor": actor_of(request), "reason": entered["reason"], "clock": SYSTEM_CLOCK}
            promotion.demote(row.strategy, row.build_id, to="shadow", **about)
            return f"{row} is in shadow: until it is flat it places only what reduces its real position."

        says = "To shadow, at once: new risk is simulated from the next order on; what it really holds may be sold."
        return self._ask(request, row, f"Demote {row}", says, "Demote to shadow", perform, danger=True)

    @action(
        description="Withdraw", permissions=["register"], url_path="withdraw", icon="block",
        variant=ActionVariant.DANGER,
    )  # fmt: skip
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._found(request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            about: dict[str, Any] = {"actor": actor_of(request), "reason": entered["reason"], "clock": SYSTEM_CLOCK}
            promotion.withdraw_build(row.strategy, row.build_id, **about)
            return f"{row} is withdrawn: none of its orders passes any more."

        says = "For good: no order of this build passes any more, not even one that reduces. Flatten what it holds."
        return self._ask(request, row, f"Withdraw {row}", says, "Withdraw", perform, danger=True)

    @action(description="Shadow against live", url_path="divergence", icon="compare_arrows")
    def divergence(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return divergence_page(self, request, self._found(request, object_id))

    def _found(self, request: HttpRequest, object_id: str) -> StrategyBuild:
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = StrategyBuild.objects.select_related("strategy").prefetch_related("requests")
        row = rows.filter(pk=object_id).first() if object_id.isdigit() else None
        if row is None:
            raise Http404(f"there is no build {object_id}")
        return row

    def _ask(
        self, request: HttpRequest, row: StrategyBuild, title: str, says: str, button: str,
        perform: Callable[[dict[str, Any]], str], *, danger: bool, more: list[tuple[str, Any]] | None = None,
    ) -> HttpResponse:  # fmt: skip
        facts = [("Mode now", self.badge(row)), ("Since", row.mode_since), *(more or [])]
        facts += [(name.replace("_", " ").capitalize(), text) for name, text in unmet(row)]
        return ask(
            self, request, row, title=title, explanation=says, button=button, facts=facts, perform=perform,
            form_class=ReasonForm, danger=danger,
        )  # fmt: skip


def unmet(row: StrategyBuild) -> list[tuple[str, str]]:
    """What the next step still lacks, in words; nothing for a build that has no step up."""
    found = evidence_of(row)
    return [(one["says"], f"{one['found']}, {one['wanted']} is asked") for one in found["conditions"] if not one["met"]]


def _rounded(found: str) -> str:
    """Four decimals are enough to look at; what it is judged by has all of them."""
    return f"{round(float(found), 4):.10g}" if "." in found else found


def evidence_of(row: StrategyBuild) -> dict[str, Any]:
    """The next step with each condition, what is wanted and what is found; or why there is none."""
    try:
        target, asked = promotion.conditions(row, clock=SYSTEM_CLOCK)
    except TradingbotError as error:
        return {"step": None, "conditions": [], "evidence_problem": error.message}
    shown = [{**vars(one), "badge": label("met" if one.met else "not met", "success" if one.met else "danger"),
              "says": SAYS.get(one.name, one.name.replace("_", " ")), "found": _rounded(one.found)}
             for one in asked]  # fmt: skip
    met = sum(one.met for one in asked)
    return {"step": target, "conditions": shown, "met": met, "profile": row.strategy.promotion_profile}
