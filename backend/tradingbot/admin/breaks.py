"""Breaks: found by their age and value, looked at side by side, and worked on by two people.

Every act asks for its reason on a page of its own and calls one service; who has resolved a break cannot close it, and
what closing would book is said before it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from backend.tradingbot.admin.asking import ReasonForm, ask
from backend.tradingbot.admin.break_filters import AgeFilter, OwnerFilter, StandingFilter
from backend.tradingbot.admin.entering import enter, row_of
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import facts, label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.people import same_person
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import BookEntry, Break, BreakEvent, Match
from backend.tradingbot.ops.break_state import NEXT, RESOLVED, BreakStatus, BreakStep
from backend.tradingbot.selectors.break_pages import partners_of, side_by_side, would_book
from backend.tradingbot.selectors.recon_report import age_of
from backend.tradingbot.services import break_workflow as work

WORK, CLOSE = "tradingbot.work_break", "tradingbot.close_break"
SEVERITIES = {"critical": "danger", "warning": "warning"}
STATUSES = {
    "open": "danger", "assigned": "warning", "explained": "info", "force_matched": "info", "written_off": "info",
    "closed": "success",
}  # fmt: skip
STEPS = {
    "assign_break": BreakStep.ASSIGN, "explain_break": BreakStep.EXPLAIN, "force_match": BreakStep.FORCE_MATCH,
    "write_off": BreakStep.WRITE_OFF, "close_break": BreakStep.CLOSE, "send_back": BreakStep.SEND_BACK,
    "reopen_break": BreakStep.REOPEN,
}  # fmt: skip
MOST_AT_ONCE = 500


def words(status: str) -> str:
    return status.replace("_", " ")


class OwnerForm(ReasonForm):
    owner = forms.CharField(
        max_length=120,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text="Who looks into it.",
    )
    field_order = ["owner", "reason"]


class ManyForm(OwnerForm):
    ids = forms.CharField(widget=forms.HiddenInput(), max_length=MOST_AT_ONCE * 20)


class NoteForm(forms.Form):
    text = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "autofocus": True}),
        help_text="Kept for good with your name; the status stays.",
    )


def match_form(row: Break) -> type[ReasonForm]:
    """Asks for the break of the other side where there is one to choose."""
    partners = partners_of(row)
    if not partners:
        return ReasonForm

    class MatchForm(ReasonForm):
        partner = forms.ModelChoiceField(
            queryset=partners,
            required=False,
            label="Is the same execution as",
            empty_label="none: take the broker's word alone",
            widget=UnfoldAdminSelectWidget(),
            help_text=row.suggested_explanation or "The break of the other side; both are resolved together.",
        )
        field_order = ["partner", "reason"]

    return MatchForm


@admin.register(Break)
class BreakAdmin(EvidenceAdmin):
    list_display = [
        "opened", "account", "kind", "weight", "symbol", "subject", "dollars", "age", "state", "owner_text",
    ]  # fmt: skip
    list_filter = [StandingFilter, "severity", "kind", AgeFilter, OwnerFilter, "account"]
    list_select_related = ["account"]
    search_fields = ["subject", "symbol", "owner"]
    ordering = ["severity", "-value", "id"]
    actions = ["assign_selected"]
    actions_detail = [*STEPS, "note_break"]
    change_form_template = "admin/tradingbot/page_form.html"
    change_form_before_template = "admin/tradingbot/break.html"

    class Media:
        css = {"all": ["tradingbot/recon.css"]}

    # -- the list

    @display(description="Found", ordering="opened_at")
    def opened(self, row: Break) -> str:
        return f"{row.opened_at:%Y-%m-%d %H:%M}"

    @display(description="Severity", label=SEVERITIES, ordering="severity")
    def weight(self, row: Break) -> str:
        return row.severity

    @display(description="Dollars", ordering="value")
    def dollars(self, row: Break) -> SafeString:
        return format_html('<span class="recon-number">{}</span>', f"{row.value:,.2f}")

    @display(description="Business days", ordering="-session")
    def age(self, row: Break) -> int:
        return age_of(row, SYSTEM_CLOCK.now().date())

    @display(
        description="Status", label={words(name): variant for name, variant in STATUSES.items()}, ordering="status"
    )
    def state(self, row: Break) -> str:
        return words(row.status)

    @display(description="Owner", ordering="owner")
    def owner_text(self, row: Break) -> str:
        return row.owner or "nobody yet"

    def has_work_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, WORK)

    def has_close_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, CLOSE)

    @action(description="Assign the selected breaks", permissions=["work"])
    def assign_selected(self, request: HttpRequest, queryset: QuerySet[Break]) -> HttpResponse:
        """The list posts the selection; the page that asks for owner and reason carries it on."""
        chosen = [str(number) for number in queryset.values_list("pk", flat=True)[:MOST_AT_ONCE]]
        return self._ask_many(request, ",".join(chosen), post_to=reverse("admin:tradingbot_break_assign_many"))

    def get_urls(self) -> list[Any]:
        page = path("assign-many/", self.admin_site.admin_view(self.assign_many), name="tradingbot_break_assign_many")
        return [page, *super().get_urls()]

    def assign_many(self, request: HttpRequest) -> HttpResponse:
        if not self.has_work_permission(request):
            raise PermissionDenied
        return self._ask_many(request, request.POST.get("ids", ""))

    def _ask_many(self, request: HttpRequest, ids: str, post_to: str = "") -> HttpResponse:
        numbers = [int(number) for number in ids.split(",") if number.isdigit() and len(number) < 19][:MOST_AT_ONCE]
        back = reverse("admin:tradingbot_break_changelist")

        def perform(entered: dict[str, Any]) -> tuple[str, str]:
            owner, reason = entered["owner"], entered["reason"]
            done, refused = work.assign_many(
                numbers, owner=owner, reason=reason, actor=actor_of(request), clock=SYSTEM_CLOCK
            )
            for line in refused[:20]:
                messages.warning(request, line)
            return f"{done} of {len(numbers)} breaks are {owner}'s.", back

        count = f"{len(numbers)} break{'' if len(numbers) == 1 else 's'}"
        return enter(
            self, request, title=f"Assign {count}", button=f"Assign {count}", form_class=ManyForm, perform=perform,
            explanation="Each is assigned on its own; what cannot be is said.", back=back, post_to=post_to,
            initial={"ids": ids},
        )  # fmt: skip

    # -- the page

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return []

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        shown = {} if row is None else self._page(row, actor_of(request))
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    def _page(self, row: Break, actor: str) -> dict[str, Any]:
        resolved = row.status in RESOLVED
        return {
            "row": row,
            "severity": label(row.severity, SEVERITIES.get(row.severity, "")),
            "status": label(words(row.status), STATUSES.get(row.status, "")),
            "age": age_of(row, SYSTEM_CLOCK.now().date()),
            "value": f"{row.value:,.2f}",
            "sides": [(name, _figure(a), _figure(b), _figure(c)) for name, a, b, c in side_by_side(row)],
            "would_book": would_book(row),
            "waits_for_second": resolved,
            "is_maker": resolved and same_person(row.resolved_by, actor),
            "history": BreakEvent.objects.filter(found_break=row).order_by("-id")[:200],
            "matches": Match.objects.filter(found_break=row),
            "entries": BookEntry.objects.filter(found_break=row),
        }

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only the steps that the table of a break's life allows from here."""
        row = Break.objects.filter(pk=object_id).first()
        if row is None:
            return []
        status = BreakStatus(row.status)
        return [
            act
            for act in super().get_actions_detail(request, object_id)
            if (name := self._step_name(act.action_name)) is None or (status, STEPS[name]) in NEXT
        ]

    @staticmethod
    def _step_name(action_name: str) -> str | None:
        return next((name for name in STEPS if action_name.endswith(name)), None)

    # -- the acts

    @action(description="Assign", permissions=["work"], url_path="assign", icon="person_add")
    def assign_break(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: Break = row_of(self, request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            done = work.assign(
                row.pk, owner=entered["owner"], reason=entered["reason"], actor=actor_of(request), clock=SYSTEM_CLOCK
            )
            return f"{done} is {done.owner}'s."

        return self._ask(request, row, "Assign", "It stays open, and blocks, until it is resolved and closed.",
                         perform, OwnerForm)  # fmt: skip

    @action(description="Explain", permissions=["work"], url_path="explain", icon="lightbulb")
    def explain_break(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = "The difference is understood and nothing has to be booked. A second person closes it."
        return self._resolve(request, object_id, "Explain", "explained", text)

    @action(description="Force match", permissions=["work"], url_path="force-match", icon="join_inner")
    def force_match(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = (
            "Both sides are the same thing, by your word. What our books lack is booked when a second person closes it."
        )
        return self._resolve(request, object_id, "Force match", "force_matched", text)

    @action(description="Write off", permissions=["work"], url_path="write-off", icon="ink_eraser")
    def write_off(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = "The broker's word is taken into our books when a second person closes it."
        return self._resolve(request, object_id, "Write off", "written_off", text)

    @action(
        description="Close", permissions=["close"], url_path="close", icon="task_alt", variant=ActionVariant.PRIMARY
    )
    def close_break(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = "You agree with the first person. When nothing else blocks, the next session is free."
        return self._settle(request, object_id, "Close", work.close, text)

    @action(description="Send back", permissions=["close"], url_path="send-back", icon="undo")
    def send_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._settle(request, object_id, "Send back", work.send_back, "You do not agree: it is worked on again.")

    @action(description="Reopen", permissions=["close"], url_path="reopen", icon="restart_alt")
    def reopen_break(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = "It is looked at again, and blocks from now on if its kind does. What was booked stays booked."
        return self._settle(request, object_id, "Reopen", work.reopen, text)

    @action(description="Add a note", permissions=["work"], url_path="note", icon="edit_note")
    def note_break(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: Break = row_of(self, request, object_id)
        back = reverse("admin:tradingbot_break_change", args=[row.pk])

        def perform(entered: dict[str, Any]) -> tuple[str, str]:
            work.note(row.pk, text=entered["text"], actor=actor_of(request), clock=SYSTEM_CLOCK)
            return "The note is kept.", back

        return enter(
            self, request, title=f"Note on {row}", explanation="What did you find out?", button="Keep the note",
            form_class=NoteForm, perform=perform, back=back, facts=self._facts(row),
        )  # fmt: skip

    def _resolve(
        self, request: HttpRequest, object_id: str, title: str, resolution: str, explanation: str
    ) -> HttpResponse:
        row: Break = row_of(self, request, object_id)
        form = match_form(row) if resolution == "force_matched" else ReasonForm

        def perform(entered: dict[str, Any]) -> str:
            partner = entered.get("partner")
            done = work.resolve(
                row.pk, resolution=resolution, reason=entered["reason"], actor=actor_of(request), clock=SYSTEM_CLOCK,
                with_break=partner.pk if partner else None,
            )  # fmt: skip
            return f"{done} is {words(done.status)} and waits for a second person."

        return self._ask(request, row, title, explanation, perform, form, books=resolution != "explained")

    def _settle(
        self, request: HttpRequest, object_id: str, title: str, act: Callable[..., Break], explanation: str
    ) -> HttpResponse:
        row: Break = row_of(self, request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            done = act(row.pk, reason=entered["reason"], actor=actor_of(request), clock=SYSTEM_CLOCK)
            return f"{done} is {words(done.status)}."

        books = act is work.close and row.status in ("force_matched", "written_off")
        return self._ask(request, row, title, explanation, perform, ReasonForm, books=books)

    def _ask(
        self, request: HttpRequest, row: Break, title: str, explanation: str, perform: Callable[[dict[str, Any]], str],
        form_class: type[ReasonForm], books: bool = False,
    ) -> HttpResponse:  # fmt: skip
        told = self._facts(row)
        if books:
            told.append(("Is booked when closed", "; ".join(would_book(row)) or "nothing"))
        return ask(
            self, request, row, title=f"{title}: {row}", explanation=explanation, button=title, facts=told,
            perform=perform, form_class=form_class, danger=False,
        )  # fmt: skip

    def _facts(self, row: Break) -> list[tuple[str, Any]]:
        told = [
            ("Account", row.account.code),
            ("Status", label(words(row.status), STATUSES.get(row.status, ""))),
            ("Difference", facts(row.difference)),
            ("Dollars", f"{row.value:,.2f}"),
        ]
        if row.resolved_by:
            told.append(("Resolved by", f"{row.resolved_by}: {row.resolution}"))
        return told


def _figure(value: Any) -> Any:
    """A figure of one side; decimals without trailing zeros, what is not told as nothing."""
    if value is None:
        return ""
    return facts(value) if isinstance(value, dict | list) else plain(value) if hasattr(value, "quantize") else value
