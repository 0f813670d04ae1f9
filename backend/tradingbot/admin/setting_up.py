"""Forms whose saving is one call of a service, with who and why; what the service refuses is shown at the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.postgres.forms import SimpleArrayField
from django.db.models import Model
from django.http import HttpRequest, HttpResponseRedirect
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from backend.tradingbot.admin.asking import show_refusal
from backend.tradingbot.core.errors import InvalidInputError, TradingbotError


class SymbolsField(SimpleArrayField):
    """``AAPL, MSFT``: upper-cased, without blanks, each once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(forms.CharField(max_length=32), widget=UnfoldAdminTextInputWidget(), **options)

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        found = super().clean(value)
        return list(dict.fromkeys(symbol.strip().upper() for symbol in found if symbol.strip()))


class ReasonField(forms.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            max_length=200,
            widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
            help_text="Why, for the record: it is kept in the journal with your name.",
            **options,
        )


class ServiceForm(forms.ModelForm):
    """Asks the service's own rules about the fields, so that what it would refuse is said at the field."""

    def refuse(self, values: Mapping[str, Any]) -> None:
        """Raise InvalidInputError for what the service would refuse."""

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                self.refuse(values)
            except InvalidInputError as error:
                show_refusal(self, error)
        return values


class SetUpAdmin(ModelAdmin):
    """Rows that are made and changed by services. None is ever deleted: the evidence refers to it."""

    actions = None
    list_fullwidth = True
    warn_unsaved_form = True

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def create(self, request: HttpRequest, values: Mapping[str, Any]) -> Model:
        """Call the service that makes the row."""
        raise NotImplementedError

    def change(self, request: HttpRequest, row: Any, changes: Mapping[str, Any], reason: str) -> Model:
        """Call the service that changes the row."""
        raise NotImplementedError

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """A plain choice, without the shortcuts to add or change what is chosen from."""
        field = super().formfield_for_foreignkey(db_field, request, **options)
        if field is not None:
            field.widget.can_add_related = field.widget.can_change_related = field.widget.can_view_related = False
        return field

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            changes = {name: form.cleaned_data[name] for name in form.changed_data if name != "reason"}
            saved = self.change(request, obj, changes, form.cleaned_data["reason"])
        else:
            saved = self.create(request, form.cleaned_data)
        obj.__dict__.update({name: value for name, value in saved.__dict__.items() if name != "_state"})
        obj._state.adding = False
        obj._state.db = saved._state.db

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """A refusal that only the database could see (two at once) rolls back and is shown."""
        one_way = {"show_save_and_add_another": False, "show_save_and_continue": False}
        try:
            return super().changeform_view(request, object_id, form_url, {**(extra_context or {}), **one_way})
        except TradingbotError as error:
            messages.error(request, f"Nothing was saved: {error.message}. {error.remedy}")
            return HttpResponseRedirect(request.get_full_path())
