"""The people who may sign in, in the admin's own dress, and who was locked out by failed sign-ins."""

from __future__ import annotations

from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from backend.tradingbot.admin.evidence import EvidenceAdmin, may

for model in (User, Group, AccessAttempt, AccessFailureLog, AccessLog):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "first_name", "last_name", "is_active", "is_superuser", "last_login"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Switch a leaver off instead: the evidence names people by their user name, which nobody else may get."""
        return False


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


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
