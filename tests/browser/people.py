"""Who visits: one user a role, with what the role may, and the cookie of a session that is signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the models exist only once pytest has set Django up
    from django.contrib.auth.models import User

ROLES = ("viewer", "trader", "risk", "admin")
PASSWORD = "a long password of tests"
BACKEND = "django.contrib.auth.backends.ModelBackend"


def user_of(role: str, name: str = "", rights: tuple[str, ...] = ()) -> User:
    """The user ``name`` (else the role's own) in the group of ``role``, made when it is not there.

    ``rights`` are permissions that only this person has; ``superuser`` is a role of its own here.
    """
    from django.contrib.auth.models import Group, Permission, User

    name = name or f"{role}-person"
    known = User.objects.filter(username=name).first()
    if known is not None:
        return known
    if role == "superuser":
        return User.objects.create_superuser(name, password=PASSWORD)
    user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    return user


def session_cookie(user: User, url: str) -> dict[str, Any]:
    """A signed-in session, as signing in by the form would leave it."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    session = SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), BACKEND
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return {"name": settings.SESSION_COOKIE_NAME, "value": session.session_key, "url": url}
