"""How brokers' CSVs are read: saved in versions that never change, by a form that names what it means."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from backend.tradingbot.admin.asking import ReasonForm
from backend.tradingbot.admin.entering import enter, row_of
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.models import CsvMappingVersion
from backend.tradingbot.ops.statement_mappings import NEEDED, TABLES, CsvMapping
from backend.tradingbot.services.recon_policies import save_mapping

SAVE = "tradingbot.save_csvmappingversion"
PAIRS = ("columns", "side_words", "kind_words")
PLAIN = ("delimiter", "encoding", "decimal_mark", "thousands_mark", "time_zone", "date_format", "time_format",
         "account_column", "trailer")  # fmt: skip
DEFAULTS = CsvMapping("", 1, "cash", {"amount": "Amount"})


def mapping_choices() -> list[tuple[str, str]]:
    """The newest version of each name."""
    newest: dict[str, CsvMappingVersion] = {}
    for row in CsvMappingVersion.objects.order_by("name", "version"):
        newest[row.name] = row
    return [("", "none"), *((name, f"{name}, version {row.version}") for name, row in newest.items())]


def as_lines(pairs: Any) -> str:
    return "\n".join(f"{name} = {value}" for name, value in dict(pairs).items())


def from_lines(text: str, field: str) -> dict[str, str]:
    """``name = value`` a line. Raises InvalidInputError."""
    told: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, sign, value = line.partition("=")
        if not sign or not name.strip() or not value.strip() or name.strip() in told:
            problem = "is no line of its own form" if name.strip() not in told else "stands twice"
            raise InvalidInputError([FieldError(field, line[:60], problem, "write: name = value")])
        told[name.strip()] = value.strip()
    return told


def _text(**options: Any) -> forms.CharField:
    return forms.CharField(required=False, max_length=60, strip=False, widget=UnfoldAdminTextInputWidget(), **options)


def _lines(rows: int, **options: Any) -> forms.CharField:
    widget = UnfoldAdminTextareaWidget(attrs={"rows": rows, "class": "font-mono"})
    return forms.CharField(max_length=4_000, widget=widget, **options)


class MappingForm(ReasonForm):
    name = forms.CharField(max_length=60, widget=UnfoldAdminTextInputWidget(), help_text="For example: mybank trades.")
    table = forms.ChoiceField(
        choices=[(name, f"{name} (needs {', '.join(NEEDED[name])})") for name in TABLES],
        widget=UnfoldAdminSelectWidget(), help_text="What a line of the file is.",
    )  # fmt: skip
    columns = _lines(6, help_text="Our field = the file's header, a line each. For example: symbol = Ticker")
    side_words = _lines(4, required=False, help_text="The file's word = buy or sell. Without a side column the sign of "
                        "the quantity is the side.")  # fmt: skip
    kind_words = _lines(
        2, required=False, help_text="For activities: the file's word = fee, dividend, interest, flow..."
    )
    delimiter = _text(help_text="One character between the cells.")
    encoding = _text()
    decimal_mark = _text(help_text=". or ,")
    thousands_mark = _text(help_text="Empty when there is none.")
    time_zone = _text(help_text="Of times without an offset, for example America/New_York.")
    date_format = _text(help_text="As strptime reads it, for example %d.%m.%Y; empty is year-month-day.")
    time_format = _text(help_text="The same for times; empty is ISO 8601.")
    account_column = _text(help_text="The header of the account's number, so that a stranger's file is refused.")
    trailer = _text(help_text="First cell of a last line that counts the rows, and totals them.")
    field_order = ["name", "table", *PAIRS, *PLAIN, "reason"]


@admin.register(CsvMappingVersion)
class CsvMappingVersionAdmin(EvidenceAdmin):
    list_display = ["name", "version", "table", "created_by", "created_at", "reason"]
    search_fields = ["name", "reason"]
    actions_list = ["new_mapping"]
    actions_detail = ["new_version"]

    @display(description="Lines are")
    def table(self, row: CsvMappingVersion) -> str:
        return str(row.body.get("table", ""))

    def has_save_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, SAVE)

    @action(description="New mapping", permissions=["save"], url_path="new", icon="add")
    def new_mapping(self, request: HttpRequest) -> HttpResponse:
        initial = {name: getattr(DEFAULTS, name) for name in PLAIN} | {"side_words": as_lines(DEFAULTS.side_words)}
        return self._ask(request, "New CSV mapping", reverse("admin:tradingbot_csvmappingversion_changelist"), initial)

    @action(description="New version", permissions=["save"], url_path="version", icon="edit")
    def new_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row: CsvMappingVersion = row_of(self, request, object_id)
        told = {name: getattr(DEFAULTS, name) for name in PLAIN} | dict(row.body)
        told |= {name: as_lines(told.get(name) or getattr(DEFAULTS, name)) for name in PAIRS if name != "columns"}
        told |= {"columns": as_lines(row.body["columns"]), "name": row.name}
        back = reverse("admin:tradingbot_csvmappingversion_change", args=[row.pk])
        return self._ask(request, f"New version of {row.name}", back, told)

    def _ask(self, request: HttpRequest, title: str, back: str, initial: dict[str, Any]) -> HttpResponse:
        def perform(entered: dict[str, Any]) -> tuple[str, str]:
            body = {name: entered[name] for name in ("name", "table", *PLAIN)}
            body |= {name: from_lines(entered[name], name) for name in PAIRS}
            row = save_mapping(body, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK)
            page = reverse("admin:tradingbot_csvmappingversion_change", args=[row.pk])
            return f"{row.name} is saved as version {row.version}.", page

        text = "A saved version never changes; uploads use the newest one of its name and keep which it was."
        return enter(
            self, request, title=title, explanation=text, button="Save it", form_class=MappingForm, perform=perform,
            back=back, initial=initial,
        )  # fmt: skip
