"""The rules that days are closed by, in versions: tolerances, which kinds only warn, fees, who signs."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from backend.tradingbot.admin.asking import ReasonForm
from backend.tradingbot.admin.entering import enter, row_of
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.admin.rendering import facts, label
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import Account, ReconPolicy
from backend.tradingbot.ops.fee_schedule import FeeSchedule
from backend.tradingbot.ops.recon_kinds import BreakKind, Tolerances
from backend.tradingbot.services.recon_policies import set_policy

SET = "tradingbot.set_reconpolicy"
TOLERANCES = {
    "price": "Dollars between two reports of one execution.",
    "average_price_ticks": "Ticks between the averages of several.",
    "time": "Seconds between two reports of one execution.",
    "fee": "Dollars of a day's fees.",
    "cash": "Dollars of cash.",
    "cost_basis_ticks": "Ticks of average cost.",
    "unexplained_pnl": "Dollars of P&L that nothing explains, before they are a break.",
    "fee_grace_sessions": "Sessions after which a fee that was earned and not charged is a break.",
    "max_differences": "Differences of one day past which the statement itself is the break.",
}
RATES = [item.name for item in fields(FeeSchedule) if item.name != "name"]


def built_in(name: str) -> str:
    value = getattr(Tolerances(), name)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    return str(plain(value)) if isinstance(value, Decimal) else str(value)


def _number(help_text: str, label_text: str | None = None) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"})
    return forms.CharField(required=False, max_length=32, widget=widget, help_text=help_text, label=label_text)


class PolicyForm(ReasonForm):
    account = forms.ModelChoiceField(
        queryset=Account.objects.order_by("code"), required=False, widget=UnfoldAdminSelectWidget(),
        empty_label="every account without rules of its own",
    )  # fmt: skip
    warnings = forms.MultipleChoiceField(
        required=False, choices=[(str(kind), str(kind)) for kind in BreakKind], label="Kinds that only warn",
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="Every other kind is critical: it blocks the account's next session while it stands.",
    )  # fmt: skip
    upload_only = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget(),
        help_text="Its statements are uploaded, never asked of the broker.",
    )  # fmt: skip
    second_signer = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget(), help_text="Two people affirm a day."
    )
    fee_schedule = forms.CharField(
        required=False,
        max_length=60,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Name of the broker's rates below.",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, text in TOLERANCES.items():
            title = f"Tolerance: {name.replace('_', ' ')}"
            self.fields[f"tolerance_{name}"] = _number(f"{text} Empty: {built_in(name)}, the built-in one.", title)
        for name in RATES:
            self.fields[f"rate_{name}"] = _number("Dollars. Empty: none.", f"Fee: {name.replace('_', ' ')}")
        rates = [f"rate_{name}" for name in RATES]
        self.order_fields(
            ["account", "warnings", *(f"tolerance_{name}" for name in TOLERANCES), "upload_only", "second_signer",
             "fee_schedule", *rates, "reason"]
        )  # fmt: skip


@admin.register(ReconPolicy)
class ReconPolicyAdmin(EvidenceAdmin):
    list_display = ["scope", "version", "force", "only_warn", "tolerance_text", "created_by", "created_at", "reason"]
    list_filter = ["account"]
    list_select_related = ["account"]
    actions_list = ["new_policy"]
    actions_detail = ["new_version"]
    groups = [
        (None, ["scope version", "force", "only_warn", "second_signer upload_only"]),
        ("Tolerances", ["all_tolerances"]),
        ("What the broker charges", ["fees"]),
        ("Record", ["created_by created_at", "reason"]),
    ]
    hidden = ["account", "tolerances", "warnings"]

    @display(description="Account", ordering="account__code")
    def scope(self, row: ReconPolicy) -> str:
        return row.account.code if row.account else "every account"

    @display(description="State")
    def force(self, row: ReconPolicy) -> SafeString:
        newer = ReconPolicy.objects.filter(account=row.account, version__gt=row.version).exists()
        return label("replaced", "") if newer else label("in force", "success")

    @display(description="Only warn")
    def only_warn(self, row: ReconPolicy) -> str:
        return ", ".join(sorted(row.warnings)) or "no kind: every break blocks"

    @display(description="Changed tolerances")
    def tolerance_text(self, row: ReconPolicy) -> str:
        return ", ".join(f"{name} {value}" for name, value in sorted(row.tolerances.items())) or "-"

    @display(description="In force under this version")
    def all_tolerances(self, row: ReconPolicy) -> Any:
        told = {}
        for name in TOLERANCES:
            own = row.tolerances.get(name)
            told[name] = f"{own} (built-in: {built_in(name)})" if own is not None else built_in(name)
        return facts(told)

    def has_set_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, SET)

    @action(description="New rules", permissions=["set"], url_path="new", icon="tune")
    def new_policy(self, request: HttpRequest) -> HttpResponse:
        return self._ask(request, "New rules", reverse("admin:tradingbot_reconpolicy_changelist"), {})

    @action(description="New version", permissions=["set"], url_path="version", icon="edit")
    def new_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: ReconPolicy = row_of(self, request, object_id)
        initial = {"account": row.account, "warnings": row.warnings, "upload_only": row.upload_only}
        initial |= {"second_signer": row.second_signer, "fee_schedule": row.fees.get("name", "")}
        initial |= {f"tolerance_{name}": value for name, value in row.tolerances.items()}
        initial |= {f"rate_{name}": value for name, value in row.fees.items() if name != "name"}
        back = reverse("admin:tradingbot_reconpolicy_change", args=[row.pk])
        return self._ask(request, f"New version of the rules of {self.scope(row)}", back, initial)

    def _ask(self, request: HttpRequest, title: str, back: str, initial: dict[str, Any]) -> HttpResponse:
        def perform(entered: dict[str, Any]) -> tuple[str, str]:
            row = set_policy(
                entered["account"], _changes(entered), actor=actor_of(request), reason=entered["reason"],
                clock=SYSTEM_CLOCK,
            )  # fmt: skip
            page = reverse("admin:tradingbot_reconpolicy_change", args=[row.pk])
            return f"Version {row.version} is in force from the next run on.", page

        text = "A new version; runs keep the one that they were made under, so a later change explains nothing away."
        return enter(
            self, request, title=title, explanation=text, button="Set the rules", form_class=PolicyForm,
            perform=perform, back=back, initial=initial,
        )  # fmt: skip


def _changes(entered: dict[str, Any]) -> dict[str, Any]:
    """Every field of the policy, as the form says it; what is left empty is the built-in rule."""

    def filled(prefix: str, names: Any) -> dict[str, str]:
        return {name: entered[prefix + name].strip() for name in names if entered[prefix + name].strip()}

    fees: dict[str, Any] = filled("rate_", RATES)
    if fees:
        fees["name"] = entered["fee_schedule"].strip() or "unnamed"
    return {
        "warnings": entered["warnings"], "tolerances": filled("tolerance_", TOLERANCES), "fees": fees,
        "upload_only": entered["upload_only"], "second_signer": entered["second_signer"],
    }  # fmt: skip
