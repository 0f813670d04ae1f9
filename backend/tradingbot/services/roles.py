"""What each role may do in the control room: four groups of Django's, kept by the code and not by the page.

Invariants: a role's rights are these and no others, after every ``migrate``; what a role may not is neither shown nor
answered; nobody's role trades limits for access (``admin`` manages people and keys, ``risk`` decides about risk); the
right to force a reset is in no role, it is given to a person. docs/security.md has the table.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

VIEWER, TRADER, RISK, ADMIN = "viewer", "trader", "risk", "admin"
ROLES = (VIEWER, TRADER, RISK, ADMIN)

PLAIN = r"^(view|add|change|delete)_"
# Pages that only those see who look after them.
NOT_FOR_ALL = frozenset({"view_apikey"})
TRADERS = frozenset({"acknowledge_notification"})
ADMINISTRATORS = frozenset(
    {
        "view_apikey", "add_apikey", "revoke_apikey", "add_account", "change_account", "add_strategy",
        "change_strategy", "acknowledge_notification",
    }
)  # fmt: skip
# Given to a person by name, never by role.
TO_A_PERSON = frozenset({"force_reset_breaker"})
# Every other act of trading is the risk role's, so that no act is anybody's by being forgotten here.
NOT_RISK = TO_A_PERSON | {"revoke_apikey"}
PEOPLE = frozenset(
    {
        "auth.view_user", "auth.add_user", "auth.change_user", "auth.view_group", "axes.view_accessattempt",
        "axes.delete_accessattempt", "axes.view_accesslog",
    }
)  # fmt: skip


def rights_of(role: str) -> list[Permission]:
    """The permissions of ``role`` as they exist in this database."""
    ours = Q(content_type__app_label="tradingbot")
    wanted = ours & Q(codename__startswith="view_") & ~Q(codename__in=NOT_FOR_ALL)
    if role == TRADER:
        wanted |= ours & Q(codename__in=TRADERS)
    elif role == RISK:
        wanted |= ours & ~Q(codename__regex=PLAIN) & ~Q(codename__in=NOT_RISK)
    elif role == ADMIN:
        wanted |= ours & Q(codename__in=ADMINISTRATORS)
        for name in PEOPLE:
            app, _, codename = name.partition(".")
            wanted |= Q(content_type__app_label=app, codename=codename)
    return list(Permission.objects.filter(wanted))


def keep_roles(**_: Any) -> None:
    """Give the four groups their rights, exactly; called after every ``migrate``, when all permissions are there."""
    for role in ROLES:
        Group.objects.get_or_create(name=role)[0].permissions.set(rights_of(role))
