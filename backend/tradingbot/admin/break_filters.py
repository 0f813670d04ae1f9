"""How the list of breaks is narrowed: what stands first of all, then age by business days, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Break
from backend.tradingbot.ops.break_state import RESOLVED
from backend.tradingbot.selectors.break_pages import UNRESOLVED, of_age
from backend.tradingbot.selectors.recon_report import AGE_BANDS

NOBODY = "nobody"


class StandingFilter(admin.SimpleListFilter):
    """Without a choice the list shows what is not closed: that is what people come for."""

    title, parameter_name = "standing", "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("work", "To work on"), ("second", "Waits for a second person"), ("closed", "Closed"), ("all", "All")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Break]) -> QuerySet[Break]:
        chosen = self.value()
        if chosen == "all":
            return queryset
        if chosen == "closed":
            return queryset.filter(status="closed")
        if chosen == "second":
            return queryset.filter(status__in=RESOLVED)
        if chosen == "work":
            return queryset.filter(status__in=UNRESOLVED)
        return queryset.exclude(status="closed")

    def choices(self, changelist: Any) -> Iterator[Any]:
        first, *others = super().choices(changelist)
        yield {**first, "display": "Not closed"}  # type: ignore[misc]
        yield from others


class AgeFilter(admin.SimpleListFilter):
    title, parameter_name = "business days", "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.capitalize()) for name in AGE_BANDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Break]) -> QuerySet[Break]:
        return of_age(queryset, self.value() or "", SYSTEM_CLOCK.now().date())


class OwnerFilter(admin.SimpleListFilter):
    title, parameter_name = "owner", "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = Break.objects.exclude(status="closed").exclude(owner="").values_list("owner", flat=True)
        return [(NOBODY, "Nobody yet"), *((name, name) for name in names.order_by("owner").distinct()[:50])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Break]) -> QuerySet[Break]:
        chosen = self.value()
        if chosen is None:
            return queryset
        return queryset.filter(owner="" if chosen == NOBODY else chosen)
