"""What ran here: each build with its lock file and its settings, and how a record's own stamp is read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from backend.tradingbot.admin.evidence import EvidenceAdmin
from backend.tradingbot.admin.rendering import folded
from backend.tradingbot.models import BuildStamp

NOT_ON_FILE = "not on file: the record is older than the stamps, or its process could not write its own"


def _fact(name: str, title: str) -> Any:
    """A column that reads ``name`` from the build that a row's ``build_stamp`` stands for."""

    @display(description=title)
    def read(self: Any, row: Any) -> str | SafeString:
        build = BuildStamp.objects.filter(pk=row.build_stamp).first()
        if build is None:
            return NOT_ON_FILE
        return format_html("<code>{}</code>", getattr(build, name))

    return read


BUILD_FACTS = (
    _fact("build_timestamp", "Built at"),
    _fact("lock_hash", "Lock hash"),
    _fact("config_hash", "Config hash"),
)


@admin.register(BuildStamp)
class BuildStampAdmin(EvidenceAdmin):
    list_display = ["stamp", "build_id", "clean", "build_timestamp", "lock", "config", "first_seen_at"]
    search_fields = ["stamp__startswith", "build_id__startswith", "lock_hash__startswith", "config_hash__startswith"]
    hidden = ["settings"]
    groups = [
        (None, ["stamp", "build_id build_timestamp", "dirty first_seen_at", "python_version platform"]),
        ("Dependencies", ["lock_hash"]),
        ("Configuration", ["config_hash", "settings_shown"]),
    ]

    @display(description="Files", label={"committed": "success", "changed": "warning"})
    def clean(self, row: BuildStamp) -> str:
        return "changed" if row.dirty else "committed"

    @display(description="Lock")
    def lock(self, row: BuildStamp) -> str:
        return row.lock_hash[:12]

    @display(description="Config")
    def config(self, row: BuildStamp) -> str:
        return row.config_hash[:12]

    @display(description="Settings (secrets are left out)")
    def settings_shown(self, row: BuildStamp) -> str | SafeString:
        return folded(row.settings)
