"""People at the admin's pages for tests: signed in with exactly the permissions that a role has."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission, User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

RISK = (
    "work_break", "close_break", "waive_block", "start_reconrun", "upload_statement", "save_csvmappingversion",
    "set_reconpolicy", "sign_affirmation",
)  # fmt: skip


def person(name: str, *permissions: str, views: bool = True) -> Client:
    """A signed-in member of the staff; ``views`` is the right to look at everything."""
    user, _ = User.objects.get_or_create(username=name, defaults={"is_staff": True})
    rights = Permission.objects.filter(content_type__app_label="tradingbot")
    looking = rights.filter(codename__startswith="view_") if views else []
    user.user_permissions.set([*looking, *rights.filter(codename__in=permissions)])
    client = Client()
    client.force_login(user)
    return client


def viewer() -> Client:
    return person("vera")


def trader() -> Client:
    """Somebody who may sign in and has been given no right to look at the books."""
    return person("tom", views=False)


def risk(name: str) -> Client:
    return person(name, *RISK)


def page(row: Model, act: str = "change") -> str:
    return reverse(f"admin:tradingbot_{row._meta.model_name}_{act}", args=[row.pk])


def listed(model: str, act: str = "changelist") -> str:
    return reverse(f"admin:tradingbot_{model}_{act}")


def text_of(answer: Any) -> str:
    return str(answer.content.decode())
