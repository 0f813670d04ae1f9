"""Corporate actions on file: entered and withdrawn with a reason, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from backend.tradingbot.admin.asking import ask
from backend.tradingbot.admin.evidence import Shown, actor_of, may
from backend.tradingbot.admin.rendering import label
from backend.tradingbot.admin.setting_up import ReasonField, ServiceForm, SetUpAdmin
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import CorporateAction
from backend.tradingbot.services import corporate_actions

ENTER = "tradingbot.enter_corporateaction"
NEW = ["symbol", "ex_date", "kind", "ratio", "source"]


class CorporateActionForm(ServiceForm):
    reason = ReasonField()

    class Meta:
        model = CorporateAction
        fields = NEW
        help_texts = {
            "ratio": "New shares for each old one: 4 is a split of four for one, 0.1 a reverse split of one for ten."
        }

    def refuse(self, values: Mapping[str, Any]) -> None:
        corporate_actions.parse(_body(values))


def _body(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the service takes, as the API would send it."""
    texts = {"ex_date": values["ex_date"].isoformat(), "ratio": format(values["ratio"], "f")}
    return {**{name: values[name] for name in corporate_actions.FIELDS}, **texts}


@admin.register(CorporateAction)
class CorporateActionAdmin(Shown, SetUpAdmin):
    list_display = ["symbol", "ex_date", "kind", "ratio", "badge", "source", "entered_by", "entered_at"]
    list_filter = ["kind"]
    search_fields = ["symbol", "source"]
    actions_detail = ["withdraw"]
    groups = [
        (None, ["symbol badge", "ex_date kind", "ratio source"]),
        ("Entered", ["entered_at entered_by", "reason"]),
        ("Withdrawn", ["withdrawn_at withdrawn_by", "withdrawn_why"]),
        ("Made by", ["build_id trace_id"]),
    ]

    @display(description="State", ordering="withdrawn_at")
    def badge(self, row: CorporateAction) -> SafeString:
        return label("on file", "success") if row.withdrawn_at is None else label("withdrawn", "warning")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request, ENTER)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        chosen = {} if obj else {"form": CorporateActionForm}
        return super().get_form(request, obj, change, **chosen, **options)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else [(None, {"fields": [*NEW, "reason"]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else []

    def create(self, request: HttpRequest, values: Mapping[str, Any]) -> CorporateAction:
        return corporate_actions.enter(_body(values), actor=actor_of(request), clock=SYSTEM_CLOCK)

    def has_withdraw_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, ENTER)

    @action(
        description="Withdraw",
        permissions=["withdraw"],
        url_path="withdraw",
        icon="undo",
        variant=ActionVariant.DANGER,
    )
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = CorporateAction.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if row is None:
            raise Http404(f"there is no corporate action {object_id}")

        def perform(entered: dict[str, Any]) -> str:
            corporate_actions.withdraw(row.pk, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK)
            return f"{row} is withdrawn."

        return ask(
            self,
            request,
            row,
            title=f"Withdraw {row}",
            explanation="The checks of bars no longer see it, and a ratio that it explained stops again.",
            button="Withdraw",
            facts=[("Ratio", plain(row.ratio)), ("Source", row.source), ("Entered by", row.entered_by)],
            perform=perform,
        )
