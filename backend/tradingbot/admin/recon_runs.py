"""Runs of the end of the day: the list, the day's report as a page, the same to keep, and a run started by hand."""

from __future__ import annotations

from datetime import date
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminDateWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from backend.tradingbot.admin.asking import ReasonForm
from backend.tradingbot.admin.entering import enter, row_of
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Account, ReconRun
from backend.tradingbot.selectors.closing_days import last_due
from backend.tradingbot.selectors.recon_runs import listed
from backend.tradingbot.services.recon_by_hand import run_by_hand
from backend.tradingbot.services.recon_page import report_context, report_page

START = "tradingbot.start_reconrun"
MOST_BREAKS = 500
STATES = {"completed": "success", "interim": "info", "running": "info", "incomplete": "danger", "failed": "danger"}


class RunForm(ReasonForm):
    account = forms.ModelChoiceField(
        queryset=Account.objects.filter(active=True).order_by("code"), widget=UnfoldAdminSelectWidget()
    )
    session = forms.DateField(
        widget=UnfoldAdminDateWidget(),
        help_text="A session that has ended. Earlier ones that were missed are closed first.",
    )
    interim = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Compare the session of now as it stands: breaks open and block at once, the day stays open.",
    )
    field_order = ["account", "session", "interim", "reason"]


@admin.register(ReconRun)
class ReconRunAdmin(EvidenceAdmin):
    list_display = [
        "session", "account", "badge", "matched", "breaks", "signed", "duration", "attempts", "started_by",
    ]  # fmt: skip
    list_filter = ["state", "account", "session"]
    list_select_related = ["account"]
    search_fields = ["account__code", "failure"]
    ordering = ["-session", "account__code"]
    actions_list = ["start_run"]
    actions_detail = ["run_again", "download"]
    change_form_template = "admin/tradingbot/page_form.html"
    change_form_before_template = "admin/tradingbot/recon_run.html"

    class Media:
        css = {"all": ["tradingbot/recon.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReconRun]:
        """Without the figures of a whole day, which a list does not show."""
        return listed(super().get_queryset(request)).defer("opening", "closing", "proofs", "pnl", "watermarks")

    @display(description="State", ordering="state")
    def badge(self, row: ReconRun) -> SafeString:
        return label(row.state, STATES.get(row.state, ""))

    @display(description="Executions matched")
    def matched(self, row: ReconRun) -> str:
        told = sum(row.counts.get("matched", {}).values())
        return f"{told:,} of {row.counts.get('ours', 0):,} here, {row.counts.get('theirs', 0):,} there"

    @display(description="Breaks that stand")
    def breaks(self, row: Any) -> SafeString:
        parts = [
            label(f"{count} {name}", variant)
            for count, name, variant in ((row.critical, "critical", "danger"), (row.warnings, "warning", "warning"))
            if count
        ]
        return format_html("{} {}", *parts, *[""] * (2 - len(parts))) if parts else label("none", "success")

    @display(description="Affirmed", boolean=True)
    def signed(self, row: Any) -> bool:
        return bool(row.affirmed)

    @display(description="Took", ordering="seconds")
    def duration(self, row: Any) -> str:
        return "-" if row.seconds is None or row.seconds.total_seconds() < 0 else f"{row.seconds.total_seconds():.1f} s"

    # -- the report

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return []

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        shown = (
            {} if row is None else {**report_context(row, now=SYSTEM_CLOCK.now(), most=MOST_BREAKS), "in_admin": True}
        )
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    @action(description="Download the report", url_path="report", icon="download", permissions=["view"])
    def download(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: ReconRun = row_of(self, request, object_id)
        answer = HttpResponse(report_page(row, now=SYSTEM_CLOCK.now()), content_type="text/html; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="recon-{row.account.code}-{row.session}.html"'
        return answer

    # -- by hand

    def has_start_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, START)

    @action(description="Reconcile by hand", permissions=["start"], url_path="start", icon="play_arrow")
    def start_run(self, request: HttpRequest) -> HttpResponse:
        first = Account.objects.filter(active=True).order_by("code").first()
        due = last_due(SYSTEM_CLOCK.now(), first.session_calendar) if first else None
        return self._start(request, reverse("admin:tradingbot_reconrun_changelist"), first, due)

    @action(description="Run again", permissions=["start"], url_path="again", icon="replay")
    def run_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: ReconRun = row_of(self, request, object_id)
        back = reverse("admin:tradingbot_reconrun_change", args=[row.pk])
        return self._start(request, back, row.account, row.session, interim=row.state == "interim")

    def _start(
        self, request: HttpRequest, back: str, account: Account | None, session: date | None, interim: bool = False
    ) -> HttpResponse:
        def perform(entered: dict[str, Any]) -> tuple[str, str]:
            run = run_by_hand(
                entered["account"], entered["session"], actor=actor_of(request), reason=entered["reason"],
                clock=SYSTEM_CLOCK, interim=entered["interim"],
            )  # fmt: skip
            return f"{run} is {run.state}.", reverse("admin:tradingbot_reconrun_change", args=[run.pk])

        text = (
            "The statement is asked of the broker, or taken as it was uploaded, and compared with our books. The same "
            "inputs twice add nothing."
        )
        return enter(
            self, request, title="Reconcile by hand", explanation=text, button="Reconcile", form_class=RunForm,
            perform=perform, back=back, initial={"account": account, "session": session, "interim": interim},
        )  # fmt: skip
