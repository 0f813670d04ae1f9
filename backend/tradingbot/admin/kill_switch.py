"""The kill switch: what it would stop and cancel in view, one click to pull it, and how far each run is.

Who may trip a breaker may pull it. Halting and cancelling takes one click, and the reason may follow; flattening sells
and buys, so it asks for the scope to be typed and for a reason first.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from backend.tradingbot.admin.asking import ReasonForm, ask, show_refusal
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.live import changed, whole
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import FieldErrors, InvalidInputError, TradingbotError
from backend.tradingbot.core.parsing import parse_reason, parse_scope
from backend.tradingbot.models import KillSwitchRun
from backend.tradingbot.selectors.kill_switch import choices, preview, progress
from backend.tradingbot.services import kill_switch
from backend.tradingbot.services.trading_states import wait_for_sends

PULL = "tradingbot.trip_breaker"
FIRST_PASS_SECONDS = 3.0
STAGES = {"cancelling": "danger", "flattening": "danger", "done": "success", "stopped": "warning"}


class PullForm(forms.Form):
    """What the page sends. ``act`` is the button that was pressed."""

    scope = forms.CharField(max_length=48)
    act = forms.ChoiceField(choices=[("cancel", "cancel"), ("flatten", "flatten")])
    reason = forms.CharField(max_length=200, required=False)
    flatten_reason = forms.CharField(max_length=200, required=False)
    typed = forms.CharField(max_length=48, required=False)


def scope_asked_for(raw: Any) -> str:
    """A scope by its form; what is none is the firm, which is the page's first choice."""
    errors = FieldErrors()
    return parse_scope(raw, "scope", errors) or "firm"


def pull(request: HttpRequest, form: PullForm) -> KillSwitchRun:
    """Pull it as the form says; raises InvalidInputError naming the field. The first pass is made at once."""
    given, errors = form.cleaned_data, FieldErrors()
    flattening = given["act"] == "flatten"
    scope = parse_scope(given["scope"], "scope", errors)
    if flattening:
        reason = parse_reason(given["flatten_reason"], "flatten_reason", errors)
        if given["typed"] != scope:
            errors.add("typed", given["typed"], f"does not say {scope}", "type the scope exactly as it stands")
    else:
        reason = parse_reason(given["reason"] or kill_switch.REASON_FOLLOWS, "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    run = kill_switch.pull(scope, flattening=flattening, reason=reason, actor=actor_of(request), clock=SYSTEM_CLOCK)
    wait_for_sends(scope, clock=SYSTEM_CLOCK)
    return kill_switch.advance(run.token, clock=SYSTEM_CLOCK, seconds=FIRST_PASS_SECONDS, settling=False)


@admin.register(KillSwitchRun)
class KillSwitchRunAdmin(EvidenceAdmin):
    list_display = ["started_at", "scope", "badge", "flatten", "open_orders", "actor", "reason", "finished_at"]
    list_filter = ["stage"]
    search_fields = ["scope", "token", "actor"]
    actions_detail = ["stop_run", "give_reason"]

    @display(description="Stage", ordering="stage")
    def badge(self, row: KillSwitchRun) -> SafeString:
        return label(row.stage, STAGES.get(row.stage, ""))

    def has_pull_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, PULL)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("pull/", view(self.pull_view), name="tradingbot_killswitchrun_pull"),
            path("preview/", view(self.preview_view), name="tradingbot_killswitchrun_preview"),
            path("<int:pk>/progress/", view(self.progress_view), name="tradingbot_killswitchrun_progress"),
        ]
        return own + super().get_urls()

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """A run that has ended is not stopped, and a reason that was given stays."""
        row = KillSwitchRun.objects.filter(pk=object_id).first()
        allowed = super().get_actions_detail(request, object_id)
        open_now = row is not None and row.finished_at is None
        unsaid = row is not None and row.reason == kill_switch.REASON_FOLLOWS
        return [act for act in allowed if (open_now if act.action_name.endswith("stop_run") else unsaid)]

    def pull_view(self, request: HttpRequest) -> HttpResponse:
        if not may(request, PULL):
            raise PermissionDenied
        form = PullForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                run = pull(request, form)
                closed = " and its positions closed" if run.flatten else ""
                what = f"its open orders are being cancelled{closed}"
                messages.success(request, f"{run.scope} is halted; {what}.")
                return HttpResponseRedirect(reverse("admin:tradingbot_killswitchrun_change", args=[run.pk]))
            except TradingbotError as error:
                show_refusal(form, error)
        scope = scope_asked_for((request.POST or request.GET).get("scope"))
        offered = choices()
        context = {
            **self.admin_site.each_context(request),
            "title": "Kill switch",
            "opts": self.opts,
            "choices": offered,
            "listed": any(scope in scopes for _, scopes in offered),
            "look": preview(scope),
            "form": form,
            "faults": _faults(form),
        }
        answer = TemplateResponse(request, "admin/tradingbot/kill_switch/pull.html", context)
        answer.status_code = 422 if form.errors else 200
        return answer

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        if not may(request, PULL):
            raise PermissionDenied
        look = preview(scope_asked_for(request.GET.get("scope")))
        return TemplateResponse(request, "admin/tradingbot/kill_switch/preview.html", {"look": look})

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        run = KillSwitchRun.objects.filter(pk=pk).first()
        if not self.has_view_permission(request) or run is None:
            raise PermissionDenied
        return changed(
            request, _parts(run, self._acts(request, run)), as_of=SYSTEM_CLOCK.now(), says={"run": _says(run)}
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = KillSwitchRun.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        if run is None:
            raise Http404(f"there is no run {object_id}")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Kill switch: {run.scope}",
            "opts": self.opts,
            "original": run,
            "run": run,
            "as_of": SYSTEM_CLOCK.now(),
            "parts": whole(_parts(run, self._acts(request, run)), says={"run": _says(run)}),
        }
        return TemplateResponse(request, "admin/tradingbot/kill_switch/run.html", context)

    def _acts(self, request: HttpRequest, run: KillSwitchRun) -> list[tuple[str, str]]:
        if not may(request, PULL):
            return []
        acts = []
        if run.reason == kill_switch.REASON_FOLLOWS:
            acts.append(("Give the reason", reverse("admin:tradingbot_killswitchrun_give_reason", args=[run.pk])))
        if run.finished_at is None:
            acts.append(("Stop this run", reverse("admin:tradingbot_killswitchrun_stop_run", args=[run.pk])))
        return acts

    @action(description="Stop this run", permissions=["pull"], url_path="stop", icon="stop_circle")
    def stop_run(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self._run(object_id)

        def perform(entered: dict[str, Any]) -> str:
            kill_switch.stop(run.token, reason=_reason(entered), actor=actor_of(request), clock=SYSTEM_CLOCK)
            return f"The run is stopped. {run.scope} stays halted."

        return ask(
            self, request, run,
            title=f"Stop the kill switch of {run.scope}",
            explanation="Nothing more is cancelled or flattened by this run. The scope stays halted.",
            button="Stop this run", facts=_facts(run), perform=perform,
        )  # fmt: skip

    @action(description="Give the reason", permissions=["pull"], url_path="reason", icon="edit_note")
    def give_reason(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self._run(object_id)

        def perform(entered: dict[str, Any]) -> str:
            kill_switch.explain(run.token, reason=_reason(entered), actor=actor_of(request), clock=SYSTEM_CLOCK)
            return "The reason is kept with the run and in the journal."

        return ask(
            self, request, run,
            title=f"Why the kill switch of {run.scope} was pulled",
            explanation="It was pulled without a reason; this is the place for it.",
            button="Keep the reason", facts=_facts(run), perform=perform, form_class=ReasonForm, danger=False,
        )  # fmt: skip

    def _run(self, object_id: str) -> KillSwitchRun:
        run = KillSwitchRun.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if run is None:
            raise Http404(f"there is no run {object_id}")
        return run


def _reason(entered: dict[str, Any]) -> str:
    errors = FieldErrors()
    reason = parse_reason(entered["reason"], "reason", errors)
    if errors:
        raise InvalidInputError(errors.errors)
    return reason


def _facts(run: KillSwitchRun) -> list[tuple[str, Any]]:
    return [("Scope", run.scope), ("Stage", run.stage), ("Pulled by", run.actor), ("Open orders", run.open_orders)]


def _faults(form: PullForm) -> list[str]:
    """What is wrong, in one list above the form; each names its field."""
    pairs = [(name.replace("_", " "), str(text)) for name, texts in form.errors.items() for text in texts]
    return [text if name.strip() == "all" else f"{name}: {text}" for name, text in pairs]


def _says(run: KillSwitchRun) -> str:
    left = "" if run.open_orders is None else f", {run.open_orders} orders open"
    return f"{run.scope}: {run.stage}{left}"


def _parts(run: KillSwitchRun, acts: list[tuple[str, str]]) -> dict[str, SafeString]:
    context = {"p": progress(run), "run": run, "acts": acts}
    names = ("run", "results")
    return {name: render_to_string(f"admin/tradingbot/kill_switch/{name}.part.html", context) for name in names}
