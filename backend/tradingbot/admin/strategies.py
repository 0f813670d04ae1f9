"""Strategies: made and changed through the services, with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display

from backend.tradingbot.admin.evidence import actor_of
from backend.tradingbot.admin.setting_up import ReasonField, ServiceForm, SetUpAdmin
from backend.tradingbot.models import Strategy
from backend.tradingbot.services import accounts

CHANGES = ["name", "active"]
NEW = ["code", "name"]


class StrategyForm(ServiceForm):
    reason = ReasonField()

    class Meta:
        model = Strategy
        fields = CHANGES

    def refuse(self, values: Mapping[str, Any]) -> None:
        accounts.check_strategy_change({name: values[name] for name in CHANGES}, values["reason"])


class NewStrategyForm(ServiceForm):
    class Meta:
        model = Strategy
        fields = NEW

    def refuse(self, values: Mapping[str, Any]) -> None:
        accounts.check_new_strategy(**{name: values[name] for name in NEW})


@admin.register(Strategy)
class StrategyAdmin(SetUpAdmin):
    list_display = ["code", "name", "state", "created_at"]
    search_fields = NEW

    @display(description="State", label={"active": "success", "switched off": "danger"}, ordering="active")
    def state(self, row: Strategy) -> str:
        return "active" if row.active else "switched off"

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        return super().get_form(request, obj, change, form=StrategyForm if obj else NewStrategyForm, **options)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else ["code", "created_at"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["code", "name"]})]
        why = [("Why", {"fields": ["reason"]})] if self.has_change_permission(request, obj) else []
        return [(None, {"fields": ["code", "created_at", "name", "active"]}), *why]

    def create(self, request: HttpRequest, values: Mapping[str, Any]) -> Strategy:
        return accounts.create_strategy(actor=actor_of(request), **values)

    def change(self, request: HttpRequest, row: Strategy, changes: Mapping[str, Any], reason: str) -> Strategy:
        return accounts.change_strategy(row.code, changes, actor=actor_of(request), reason=reason)
