"""The people who may sign in, in the admin's own dress, and who was locked out by failed sign-ins."""

from __future__ import annotations

from typing import Any, ClassVar

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from backend.tradingbot.admin.asking import ask
from backend.tradingbot.admin.evidence import EvidenceAdmin, actor_of, may
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services import people, second_factor
from backend.tradingbot.services.roles import ROLES

# Devices hold secrets: they are set up by their owner, and taken away as a whole by an act of the user's page.
for model in (User, Group, AccessAttempt, AccessFailureLog, AccessLog, TOTPDevice, StaticDevice):
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
    actions_detail: ClassVar[list[str]] = ["reset_second_factor"]
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

    def has_reset_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Nobody takes their own away: a second factor that its owner can drop unasked is none."""
        row = User.objects.filter(pk=object_id).first() if str(object_id).isdigit() else None
        return self.has_change_permission(request, row) and str(request.user.pk) != str(object_id)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        has_one = TOTPDevice.objects.filter(user_id=object_id, confirmed=True).exists()
        return super().get_actions_detail(request, object_id) if has_one else []

    @action(
        description="Take the second factor away",
        permissions=["reset"],
        url_path="second-factor",
        icon="phonelink_erase",
    )
    def reset_second_factor(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_reset_permission(request, object_id):
            raise PermissionDenied
        person = User.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        if person is None:
            raise Http404(f"there is no person {object_id}")

        def perform(entered: dict[str, Any]) -> str:
            gone = second_factor.take_away(
                person, actor=actor_of(request), reason=entered["reason"], clock=SYSTEM_CLOCK
            )
            return f"{person} has no second factor any more." if gone else f"{person} had none."

        return ask(
            self,
            request,
            person,
            title=f"Take the second factor of {person} away",
            explanation="For somebody who has lost the phone and the backup codes. Make sure that it is they who ask.",
            button="Take it away",
            facts=[("Person", person.get_username()), ("Last sign-in", person.last_login or "-")],
            perform=perform,
        )

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
