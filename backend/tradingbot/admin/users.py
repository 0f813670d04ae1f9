"""The people who may sign in, in the admin's own dress, and who was locked out by failed sign-ins."""

from __future__ import annotations

from typing import Any, ClassVar

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services import people
from backend.tradingbot.services.roles import ROLES

for model in (User, Group, AccessAttempt, AccessFailureLog, AccessLog):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


def is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    """Whoever manages people gives roles, and neither makes a superuser nor changes one, nor their own roles: the
    right to manage people is no way to any other right. Only a superuser gives single permissions."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "first_name", "last_name", "roles", "is_active", "is_superuser", "last_login"]
    filter_horizontal: ClassVar[list[str]] = []

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).prefetch_related("groups")

    @display(description="Roles")
    def roles(self, row: User) -> str:
        return ", ".join(sorted(group.name for group in row.groups.all())) or "-"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or not obj.is_superuser or is_superuser(request))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Switch a leaver off instead: the evidence names people by their user name, which nobody else may get."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fixed = [*super().get_readonly_fields(request, obj), "last_login", "date_joined"]
        if is_superuser(request):
            return fixed
        own = ["groups", "is_staff", "is_active"] if obj is not None and obj.pk == request.user.pk else []
        return [*fixed, "is_superuser", "user_permissions", *own]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        self._journal(request, obj, form, change)

    def _journal(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Who may do what is a fact of the firm: its changes stand in the firm's journal."""
        groups = form.cleaned_data.get("groups")
        facts: dict[str, Any] = {"active": obj.is_active, "staff": obj.is_staff, "superuser": obj.is_superuser}
        if groups is not None:
            facts["roles"] = sorted(group.name for group in groups)
        changed = [name for name in form.changed_data if not name.startswith("password")]
        password = any(name.startswith("password") for name in form.changed_data)
        people.record(
            obj.get_username(),
            made=not change,
            facts={**facts, "changed": changed, "password_changed": password},
            actor=actor_of(request),
            clock=SYSTEM_CLOCK,
        )


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """The four roles are the code's (services/roles.py) and are shown; groups of one's own are the superuser's."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_superuser(request) and (obj is None or obj.name not in ROLES)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)


@admin.register(AccessAttempt)
class AccessAttemptAdmin(EvidenceAdmin):
    """Deleting an attempt lifts the lock that it caused."""

    list_display = ["attempt_time", "username", "ip_address", "failures_since_start"]
    search_fields = ["username", "ip_address"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "axes.delete_accessattempt")


@admin.register(AccessLog)
class AccessLogAdmin(EvidenceAdmin):
    list_display = ["attempt_time", "logout_time", "username", "ip_address"]
    search_fields = ["username", "ip_address"]
