"""Accounts with their book: made and changed through the services, with a reason; the risk row is evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from backend.tradingbot.admin.evidence import EvidenceAdmin, EvidenceInline, actor_of
from backend.tradingbot.admin.exposure import exposure_page
from backend.tradingbot.admin.setting_up import ReasonField, ServiceForm, SetUpAdmin, SymbolsField
from backend.tradingbot.models import Account, Position, RiskRow
from backend.tradingbot.services import accounts

TERMS = ["symbols", "max_tick_age_seconds", "max_mark_age_seconds", "market_collar_bps"]

CHANGES = ["name", "active", *TERMS]
NEW = ["code", "name", "broker_account", *TERMS]


class AccountForm(ServiceForm):
    symbols = SymbolsField(required=False, help_text="What this account may trade, for example AAPL, MSFT.")
    reason = ReasonField()

    class Meta:
        model = Account
        fields = CHANGES

    def refuse(self, values: Mapping[str, Any]) -> None:
        accounts.check_account_change({name: values[name] for name in CHANGES}, values["reason"])


class NewAccountForm(ServiceForm):
    symbols = AccountForm.base_fields["symbols"]
    cash = forms.DecimalField(
        required=False,
        max_digits=28,
        decimal_places=9,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="The broker's figure now. Left empty it is unknown, and every purchase is refused.",
    )

    class Meta:
        model = Account
        fields = NEW

    def refuse(self, values: Mapping[str, Any]) -> None:
        accounts.check_new_account(**{name: values[name] for name in NEW})


class RiskRowInline(EvidenceInline):
    model = RiskRow
    verbose_name = verbose_name_plural = "Cash and equity"
    fields = ["cash", "reserved_cash", "equity", "journal_seq"]
    ordering = ["scope"]


class PositionInline(EvidenceInline):
    model = Position
    fields = ["symbol", "qty", "avg_price", "realized_pnl"]


@admin.register(Account)
class AccountAdmin(SetUpAdmin):
    list_display = ["code", "name", "broker_account", "state", "exposure_link", "symbols_text"]
    actions_detail = ["exposure"]
    search_fields = ["code", "name", "broker_account"]
    inlines = [RiskRowInline, PositionInline]

    @display(description="State", label={"active": "success", "switched off": "danger"}, ordering="active")
    def state(self, row: Account) -> str:
        return "active" if row.active else "switched off"

    @display(description="Exposure")
    def exposure_link(self, row: Account) -> SafeString:
        address = reverse("admin:tradingbot_account_exposure", args=[row.pk])
        return format_html('<a href="{}" class="text-link">Exposure of {}</a>', address, row.code)

    @action(description="Exposure and what if", permissions=["view"], url_path="exposure", icon="donut_large")
    def exposure(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return exposure_page(self, request, object_id)

    @display(description="May trade")
    def symbols_text(self, row: Account) -> str:
        return ", ".join(row.symbols) or "nothing"

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        return super().get_form(request, obj, change, form=AccountForm if obj else NewAccountForm, **options)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else ["code", "broker_account", *self._fixed()]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [
                (None, {"fields": ["code", "name", "broker_account", "cash"]}),
                ("What it may do", {"fields": TERMS}),
            ]
        why = [("Why", {"fields": ["reason"]})] if self.has_change_permission(request, obj) else []
        return [
            (None, {"fields": ["code", "broker_account", *self._fixed(), "name", "active"]}),
            ("What it may do", {"fields": TERMS}),
            *why,
        ]

    def _fixed(self) -> list[str]:
        """What is set when the account is made, and never changed here."""
        known = {"id", "code", "broker_account", *CHANGES}
        return [field.name for field in Account._meta.fields if field.name not in known]

    def get_inlines(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.inlines if obj else []

    def create(self, request: HttpRequest, values: Mapping[str, Any]) -> Account:
        return accounts.create_account(actor=actor_of(request), **values)

    def change(self, request: HttpRequest, row: Account, changes: Mapping[str, Any], reason: str) -> Account:
        return accounts.change_account(row.code, changes, actor=actor_of(request), reason=reason)


@admin.register(RiskRow)
class RiskRowAdmin(EvidenceAdmin):
    list_display = ["scope", "cash", "reserved_cash", "equity", "journal_seq"]
    search_fields = ["scope"]
