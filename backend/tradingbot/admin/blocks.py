"""Blocks of the next session: seen, waived for a time, lifted, and placed by hand, each with a reason."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminDateWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from backend.tradingbot.admin.asking import ReasonForm, ask
from backend.tradingbot.admin.entering import enter, row_of
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Account, Break, ReconciliationBlock
from backend.tradingbot.selectors.closing_days import last_due
from backend.tradingbot.services import recon_blocks

WAIVE = "tradingbot.waive_block"
MOST_NAMED = 20
LABELS = {"blocks": "danger", "waived": "warning", "lifted": "success"}
MOMENT = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S"]


def state_of(row: ReconciliationBlock) -> str:
    if row.lifted_at is not None:
        return "lifted"
    return "waived" if row.waived_until is not None and row.waived_until > SYSTEM_CLOCK.now() else "blocks"


class WaiverForm(ReasonForm):
    until = forms.DateTimeField(
        input_formats=MOMENT,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-01-31 20:00", "autocomplete": "off"}),
        help_text=f"UTC, year-month-day hour:minute, at most {recon_blocks.LONGEST_WAIVER.days} days ahead. "
        "From then on it blocks again.",
    )
    field_order = ["until", "reason"]


class PlaceForm(ReasonForm):
    account = forms.ModelChoiceField(queryset=Account.objects.order_by("code"), widget=UnfoldAdminSelectWidget())
    session = forms.DateField(widget=UnfoldAdminDateWidget(), help_text="The day whose books are in question.")
    field_order = ["account", "session", "reason"]


@admin.register(ReconciliationBlock)
class ReconciliationBlockAdmin(EvidenceAdmin):
    list_display = ["badge", "account", "session", "reason", "placed_by", "placed_at", "ends"]
    list_filter = [("lifted_at", admin.EmptyFieldListFilter), "account"]
    list_select_related = ["account"]
    actions_list = ["place_block"]
    actions_detail = ["lift", "waive"]
    hidden = ["waived_breaks"]
    groups = [
        (None, ["badge account", "session reason", "placed_by placed_at"]),
        ("Waiver", ["waived_until waived_by", "waiver_reason", "about"]),
        ("Lifted", ["lifted_at lifted_by", "lift_reason"]),
    ]

    @display(description="State")
    def badge(self, row: ReconciliationBlock) -> SafeString:
        found = state_of(row)
        return label(found, LABELS[found])

    @display(description="Of the breaks")
    def about(self, row: ReconciliationBlock) -> str:
        """What the waiver is about. Statements that could not be had are named by kind and session."""
        numbers = [int(name) for name in row.waived_breaks if name.isdigit()]
        named = [str(found) for found in Break.objects.filter(pk__in=numbers).order_by("pk")[:MOST_NAMED]]
        named += [name.replace("_", " ") for name in row.waived_breaks if not name.isdigit()]
        more = len(row.waived_breaks) - len(named)
        return ", ".join([*named, *([f"and {more} more"] if more > 0 else [])]) or "-"

    @display(description="Ends")
    def ends(self, row: ReconciliationBlock) -> str:
        if row.lifted_at is not None:
            return f"lifted {row.lifted_at:%Y-%m-%d %H:%M} by {row.lifted_by}"
        if row.waived_until is not None:
            word = "is" if row.waived_until > SYSTEM_CLOCK.now() else "was"
            return f"{word} waived until {row.waived_until:%Y-%m-%d %H:%M} by {row.waived_by}"
        return "when its breaks are closed" if row.placed_by == recon_blocks.RECONCILIATION else "when it is lifted"

    def has_waive_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, WAIVE)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """A block that was lifted is history."""
        stands = ReconciliationBlock.objects.filter(pk=object_id, lifted_at=None).exists()
        return super().get_actions_detail(request, object_id) if stands else []

    @action(
        description="Waive for a time", permissions=["waive"], url_path="waive", icon="timer",
        variant=ActionVariant.DANGER,
    )  # fmt: skip
    def waive(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: ReconciliationBlock = row_of(self, request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            until = entered["until"].astimezone(UTC)
            recon_blocks.waive_block(
                row.pk, until=until, reason=entered["reason"], actor=actor_of(request), clock=SYSTEM_CLOCK
            )
            return f"{row.account.code} may trade until {until:%Y-%m-%d %H:%M} UTC."

        text = (
            "The account takes new risk although its breaks stand, whatever session's block holds them. It is blocked "
            "again when the waiver ends, and as soon as another break is found."
        )
        return ask(
            self, request, row, title=f"Waive the block of {row.account.code}", explanation=text, button="Waive it",
            facts=self._facts(row), perform=perform, form_class=WaiverForm,
        )  # fmt: skip

    @action(description="Lift", permissions=["waive"], url_path="lift", icon="lock_open", variant=ActionVariant.DANGER)
    def lift(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: ReconciliationBlock = row_of(self, request, object_id)

        def perform(entered: dict[str, Any]) -> str:
            recon_blocks.lift_block(row.pk, reason=entered["reason"], actor=actor_of(request), clock=SYSTEM_CLOCK)
            return f"{row.account.code} is not blocked by it any more."

        text = "For a block that a person has placed. One that breaks hold goes when they are closed, or is waived."
        return ask(
            self, request, row, title=f"Lift the block of {row.account.code}", explanation=text, button="Lift it",
            facts=self._facts(row), perform=perform,
        )  # fmt: skip

    @action(description="Disable a next day", permissions=["waive"], url_path="place", icon="front_hand")
    def place_block(self, request: HttpRequest) -> HttpResponse:
        back = reverse("admin:tradingbot_reconciliationblock_changelist")

        def perform(entered: dict[str, Any]) -> tuple[str, str]:
            account, reason = entered["account"], recon_blocks.checked_reason(entered["reason"])
            row = recon_blocks.disable_next_day(
                account, entered["session"], reason, actor=actor_of(request), clock=SYSTEM_CLOCK
            )
            page = reverse("admin:tradingbot_reconciliationblock_change", args=[row.pk])
            return f"{account.code} opens no new risk until the block is lifted.", page

        text = "From now on the account takes only orders that reduce its positions, until somebody lifts the block."
        first = Account.objects.order_by("code").first()
        session = last_due(SYSTEM_CLOCK.now(), first.session_calendar) if first else None
        return enter(
            self, request, title="Disable an account's next day", explanation=text, button="Block it",
            form_class=PlaceForm, perform=perform, back=back, initial={"session": session}, danger=True,
        )  # fmt: skip

    def _facts(self, row: ReconciliationBlock) -> list[tuple[str, Any]]:
        return [
            ("State now", self.badge(row)), ("Session", row.session), ("Because of", row.reason),
            ("Placed by", f"{row.placed_by}, {row.placed_at:%Y-%m-%d %H:%M}"),
        ]  # fmt: skip
