"""Every table that no other module shows has a plain, read-only page. Must be imported last."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.db.models import CompositePrimaryKey, Model
from unfold.paginator import InfinitePaginator

from backend.tradingbot.admin.evidence import EvidenceAdmin


class PlainAdmin(EvidenceAdmin):
    """Newest first, without counting: some of these tables only grow."""

    paginator = InfinitePaginator
    ordering = ["-pk"]


def may_have_a_page(model: type[Model]) -> bool:
    """Django's admin cannot show a table whose primary key is made of several columns."""
    return not isinstance(model._meta.pk, CompositePrimaryKey)


for model in apps.get_app_config("tradingbot").get_models():
    if may_have_a_page(model) and not admin.site.is_registered(model):
        admin.site.register(model, PlainAdmin)
