"""Pages of rows that people read and never edit, and who is asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib.admin.utils import unquote
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import JSONField, Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from backend.tradingbot.admin.rendering import shown

LONGEST_ACTOR = 120


def actor_of(request: HttpRequest) -> str:
    """Who acts, as the journal and the events name it: ``admin:<username>``."""
    name = f"admin:{request.user.get_username()}"
    return name if len(name) <= LONGEST_ACTOR else f"admin:user-{request.user.pk}"


def may(request: HttpRequest, permission: str) -> bool:
    """Whether the person who asks has ``permission`` (``app.codename``)."""
    return isinstance(request.user, PermissionsMixin) and request.user.has_perm(permission)


class ReadOnly:
    """No adding, no changing, no deleting: not by a form, and not by an address that somebody types."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Shown:
    """Shows decimals and JSON readably. ``groups`` are the fieldsets, a row of several fields as one text with blanks
    between; a field that none names comes in a last one."""

    model: type[Model]
    groups: ClassVar[list[tuple[str | None, list[str]]]] = []
    hidden: ClassVar[list[str]] = []

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """An address that somebody typed is answered as that of a row that is gone, before it is looked for."""
        try:
            self.model._meta.pk.to_python(None if object_id is None else unquote(object_id))
        except ValidationError:
            return self._get_obj_does_not_exist_redirect(request, self.model._meta, object_id)  # type: ignore[attr-defined]
        return super().changeform_view(request, object_id, form_url, extra_context)  # type: ignore[misc]

    def _shown(self, name: str) -> str | Callable[[Any], Any]:
        cache = self.__dict__.setdefault("_shown_fields", {})
        if name not in cache:
            try:
                cache[name] = shown(self.model._meta.get_field(name))  # type: ignore[arg-type]
            except FieldDoesNotExist:
                cache[name] = name
        return cache[name]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        rest = self._rest()
        groups = [*self.groups, *([("Other", rest)] if rest else [])] if self.groups else [(None, rest)]
        return [(title, {"fields": [self._row(names) for names in rows]}) for title, rows in groups]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        names = dict.fromkeys([*self._named(), *(f.name for f in self.model._meta.fields)])
        return [self._shown(name) for name in names]

    def _named(self) -> list[str]:
        return [name for _, rows in self.groups for names in rows for name in names.split()]

    def _rest(self) -> list[str]:
        """The fields that no group names, two to a row; JSON has a row of its own."""
        left = [f for f in self.model._meta.fields if f.name not in {*self._named(), *self.hidden, "id"}]
        short = [field.name for field in left if not isinstance(field, JSONField)]
        pairs = [" ".join(short[place : place + 2]) for place in range(0, len(short), 2)]
        return pairs + [field.name for field in left if isinstance(field, JSONField)]

    def _row(self, names: str) -> Any:
        fields = tuple(self._shown(name) for name in names.split())
        return fields[0] if len(fields) == 1 else fields

    def get_list_display(self, request: HttpRequest) -> Any:
        """What the page names, else the first fields that are short."""
        named = list(self.list_display)  # type: ignore[attr-defined]
        if named == ["__str__"]:
            short = [field.name for field in self.model._meta.fields if not isinstance(field, JSONField)]
            named = [name for name in short if name != "id"][:8]
        return [self._shown(name) for name in named]


class EvidenceAdmin(ReadOnly, Shown, ModelAdmin):
    """Rows that people read and never edit."""

    list_per_page = 50
    show_full_result_count = False
    list_fullwidth = True
    actions: Any = None


class EvidenceInline(ReadOnly, TabularInline):
    """The same, below the row that they belong to."""

    extra = 0
    can_delete = False
    hide_title = True
    per_page = 20

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [self._field(name) for name in self.fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.get_fields(request, obj)

    def _field(self, name: str) -> Any:
        cache = self.__dict__.setdefault("_shown_fields", {})
        if name not in cache:
            try:
                cache[name] = shown(self.model._meta.get_field(name))
            except FieldDoesNotExist:
                cache[name] = name
        return cache[name]
