"""Statements as they came: uploaded here, shown with hash, counts and problems, and downloadable byte for byte.

An upload is read whole and checked before anything is kept; what is refused leaves nothing behind. How a broker's CSV
is read is saved in versions.
"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
)

from backend.tradingbot.admin.asking import ReasonForm
from backend.tradingbot.admin.csv_mappings import mapping_choices
from backend.tradingbot.admin.entering import enter, row_of
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import facts, label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.models import Account, Statement
from backend.tradingbot.selectors.closing_days import last_due
from backend.tradingbot.selectors.statements import standing_of
from backend.tradingbot.services import statements
from backend.tradingbot.services.recon_by_hand import run_by_hand

START = "tradingbot.start_reconrun"
UPLOAD = "tradingbot.upload_statement"
SOURCES = [
    ("alpaca_json", "Alpaca: account, positions, orders and activities as JSON"),
    ("flex_xml", "Interactive Brokers: Flex query as XML"),
    ("csv", "CSV, read by a saved mapping"),
]


class UploadForm(forms.Form):
    account = forms.ModelChoiceField(queryset=Account.objects.order_by("code"), widget=UnfoldAdminSelectWidget())
    session = forms.DateField(widget=UnfoldAdminDateWidget(), help_text="The session that it is of.")
    source = forms.ChoiceField(choices=SOURCES, widget=UnfoldAdminSelectWidget())
    mapping = forms.ChoiceField(
        required=False,
        choices=mapping_choices,
        widget=UnfoldAdminSelectWidget(),
        help_text="For a CSV: how to read it.",
    )
    file = forms.FileField(widget=UnfoldAdminFileFieldWidget(), help_text="Also as .gz or .zip. The original is kept.")
    controls = forms.CharField(
        required=False, max_length=2_000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text='What the sender says it holds, if he says it: {"executions": {"rows": 5, "total": "-123.45"}}',
    )  # fmt: skip


@admin.register(Statement)
class StatementAdmin(EvidenceAdmin):
    list_display = ["received", "account", "session", "source", "name", "whole", "held", "size", "hash_short",
                    "received_by"]  # fmt: skip
    list_filter = ["source", "account", "session"]
    list_select_related = ["account"]
    search_fields = ["name", "sha256", "received_by"]
    actions_list = ["upload"]
    actions_detail = ["run_with", "original"]
    groups = [
        (None, ["whole account", "standing", "session as_of", "source mapping", "name size", "sha256"]),
        ("Why it must not be compared", ["problem_list"]),
        ("What it holds", ["counts", "totals", "cash equity"]),
        ("What it was said to hold", ["control_list"]),
        ("Received", ["received_at received_by", "trace_id build_id"]),
    ]
    hidden = ["problems", "controls", "sections"]

    class Media:
        css = {"all": ["tradingbot/recon.css"]}

    @display(description="Received", ordering="received_at")
    def received(self, row: Statement) -> str:
        return f"{row.received_at:%Y-%m-%d %H:%M:%S}"

    @display(description="State")
    def whole(self, row: Statement) -> SafeString:
        count = len(row.problems)
        return label(f"{count} problem{'s' if count > 1 else ''}", "danger") if count else label("whole", "success")

    @display(description="Holds")
    def held(self, row: Statement) -> str:
        return ", ".join(f"{count} {name}" for name, count in row.counts.items() if count) or "nothing"

    @display(description="SHA-256")
    def hash_short(self, row: Statement) -> str:
        return row.sha256[:12]

    @display(description="Problems")
    def problem_list(self, row: Statement) -> Any:
        return facts([f"{section}: {text}" for section, text in row.problems]) if row.problems else "none"

    @display(description="Counts")
    def standing(self, row: Statement) -> str:
        words = "; ".join(f"chosen by {each.chosen_by}: {each.reason}" for each in row.choices.all())  # type: ignore[attr-defined]
        return f"{_standing(row)} {words}".strip()

    @display(description="Controls")
    def control_list(self, row: Statement) -> Any:
        told = {each["section"]: f"{each['rows']} rows, total {each['total']}" for each in row.controls}
        return facts(told) if told else "nothing was said"

    def has_upload_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, UPLOAD)

    @action(description="Download the original", permissions=["view"], url_path="original", icon="download")
    def original(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Never shown by the browser: what a stranger wrote is only ever saved."""
        row: Statement = row_of(self, request, object_id)
        answer = HttpResponse(statements.original_of(row), content_type="application/octet-stream")
        answer["Content-Disposition"] = f'attachment; filename="statement-{row.pk}-{row.sha256[:12]}.bin"'
        answer["X-Content-Type-Options"] = "nosniff"
        return answer

    @action(description="Upload a statement", permissions=["upload"], url_path="upload", icon="upload_file")
    def upload(self, request: HttpRequest) -> HttpResponse:
        back = reverse("admin:tradingbot_statement_changelist")
        first = Account.objects.filter(active=True).order_by("code").first()
        session = last_due(SYSTEM_CLOCK.now(), first.session_calendar) if first else None
        return enter(
            self, request, title="Upload a statement", button="Upload", form_class=UploadForm, back=back,
            explanation="It is read whole and checked against account, day and totals before anything is kept. The "
            "next run of its session compares it.",
            perform=lambda entered: self._receive(request, entered), initial={"account": first, "session": session},
        )  # fmt: skip

    def _receive(self, request: HttpRequest, entered: dict[str, Any]) -> tuple[str, str]:
        file, limit = entered["file"], settings.TRADINGBOT.statement_max_bytes
        if file.size > limit:
            problem = f"is larger than {limit} bytes"
            raise InvalidInputError([FieldError("file", file.name, problem, "split it by account or day")])
        found, fresh = statements.receive_statement(
            entered["account"], entered["session"], name=file.name[:120] or "statement", stream=file.file,
            source=entered["source"], actor=actor_of(request), clock=SYSTEM_CLOCK, mapping=entered["mapping"],
            controls=statements.parse_controls(_controls(entered["controls"])),
        )  # fmt: skip
        word = "is stored" if fresh else "was stored before, and nothing is added"
        page = reverse("admin:tradingbot_statement_change", args=[found.pk])
        told = f"statement {found.pk}, SHA-256 {found.sha256[:12]}, {len(found.problems)} problems."
        return f"{found.name} {word}: {told} {_standing(found)}", page

    def has_start_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, START)

    @action(description="Run with this one", permissions=["start"], url_path="run", icon="play_arrow")
    def run_with(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: Statement = row_of(self, request, object_id)
        session = row.session

        def perform(entered: dict[str, Any]) -> tuple[str, str]:
            run = run_by_hand(
                row.account, session, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK,
                statement=row.pk,
            )  # fmt: skip
            return f"{run} is {run.state}.", reverse("admin:tradingbot_reconrun_change", args=[run.pk])

        return enter(
            self, request, title="Run with this statement", button="Reconcile", form_class=ReasonForm, perform=perform,
            explanation="It counts for its session again, until another one is received, and the session is reconciled "
            "with it. Your name and reason are kept.",
            back=reverse("admin:tradingbot_statement_change", args=[row.pk]),
            facts=[("Account", row.account.code), ("Session", session), ("SHA-256", row.sha256),
                   ("Now", _standing(row))],
        )  # fmt: skip


def _standing(row: Statement) -> str:
    """Whether it counts, and what its session's run did with it."""
    told = standing_of(row)
    instead = told["counts_instead"]
    counts = "It counts for its session" if told["counts"] else f"Statement {instead} came later and counts"
    if told["run"] is None:
        return f"{counts}; the session was not run yet."
    compared = "compared it" if told["run"]["compared_it"] else "did not compare it"
    return f"{counts}; run {told['run']['id']} is {told['run']['state']} and {compared}."


def _controls(raw: str) -> dict[str, Any]:
    try:
        told = json.loads(raw) if raw.strip() else {}
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise InvalidInputError([FieldError("controls", raw[:60], "is no JSON object", "as in the example, or empty")])
    return told
