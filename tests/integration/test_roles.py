"""Who may see and do what in the admin: every address of the URL conf, asked by every role, none forgotten.

An address that no rule here names fails the test: whoever adds a page or an act says here whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.contrib.messages.storage.base import BaseStorage
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import RequestFactory
from django.urls import URLPattern, get_resolver, resolve

from backend.tradingbot.models import JournalEntry
from backend.tradingbot.services import roles
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.keys import create_key
from backend.tradingbot.services.roles import ADMIN, RISK, ROLES, TRADER, VIEWER

pytestmark = pytest.mark.django_db
ALL, NOBODY, ONLY_ADMIN, ONLY_RISK = set(ROLES), set(), {ADMIN}, {RISK}
DESK = {TRADER, RISK, ADMIN}
OPEN = {"login", "logout", "jsi18n"}

# Models whose pages are not everybody's.
SEEN_BY = {"tradingbot_apikey": ONLY_ADMIN, "auth_": ONLY_ADMIN, "axes_": ONLY_ADMIN}
ADDED_BY = {
    "tradingbot_apikey": ONLY_ADMIN, "tradingbot_account": ONLY_ADMIN, "tradingbot_strategy": ONLY_ADMIN,
    "auth_user": ONLY_ADMIN, "tradingbot_corporateaction": ONLY_RISK,
}  # fmt: skip
DELETED_BY = {"axes_accessattempt": ONLY_ADMIN}
# Acts that are not the risk role's; every other act is, and nobody else's.
ACTS = {
    "apikey_revoke_key": ONLY_ADMIN, "notification_acknowledge": DESK, "user_password_change": ONLY_ADMIN,
    "user_reset_second_factor": ONLY_ADMIN, "reconrun_download": ALL, "statement_original": ALL,
}  # fmt: skip
# Pages beside the models' own.
PAGES = {
    "index": ALL, "app_list": ALL, "password_change": ALL, "password_change_done": ALL, "view_on_site": ALL,
    "autocomplete": NOBODY,  # without the model that is asked about; with one, that model's right decides
    "search": ALL, "toggle_sidebar": ALL, "overview": ALL,
    "tradingbot_feed_symbol": ALL, "tradingbot_strategybuild_divergence": ALL,
    "second_factor": ALL, "second_factor_set_up": ALL, "tradingbot_journalentry_search_entries": ALL,
    "tradingbot_account_exposure": ALL, "tradingbot_limitversion_differences": ALL,
    "tradingbot_limitversion_compare": ALL,
    "tradingbot_killswitchrun_progress": NOBODY,  # there is no run 0, and that is not told either
}  # fmt: skip


def addresses() -> Iterator[tuple[str, str]]:
    """Name and a path of every address under ``/admin/``, with 0 for each number and x for each word."""

    def walk(patterns: list[Any], before: str) -> Iterator[tuple[str, str]]:
        for pattern in patterns:
            route = before + str(pattern.pattern).lstrip("^").removesuffix("$").removesuffix("\\Z")
            if isinstance(pattern, URLPattern):
                yield pattern.name or "", route
            else:
                yield from walk(pattern.url_patterns, route)

    for name, route in walk(get_resolver().url_patterns, "/"):
        if route.startswith("/admin/"):
            path = re.sub(r"<int:[^>]+>", "0", route)
            path = re.sub(r"\(\?P<url>.*|\(\?P<app_label>[^)]*\)", "tradingbot", path)
            yield name, re.sub(r"<[^>]+>", "0", path).replace("?$", "")


def by_prefix(table: dict[str, set[str]], name: str) -> set[str] | None:
    return next((who for start, who in table.items() if name.startswith(start)), None)


def expected(name: str) -> set[str] | None:
    """Who may, by the rules above; None when no rule names the address."""
    if name in PAGES:
        return PAGES[name]
    model, _, last = name.rpartition("_")
    act = by_prefix(ACTS, name.removeprefix("tradingbot_").removeprefix("auth_"))
    if last in ("changelist", "change", "history"):
        return by_prefix({**SEEN_BY, "tradingbot_": ALL}, name)
    if last == "add":
        return ADDED_BY.get(model, NOBODY)
    if last == "delete":
        return DELETED_BY.get(model, NOBODY)
    return act or (ONLY_RISK if name.startswith("tradingbot_") else None)


class Silent(BaseStorage):
    def _get(self, *_: Any, **__: Any) -> tuple[list[Any], bool]:
        return [], True

    def _store(self, *_: Any, **__: Any) -> list[Any]:
        return []


def answer(user: User | AnonymousUser, path: str) -> int | str:
    """The status, ``login`` when one is sent there; what is allowed is not drawn."""
    request = RequestFactory().get(path)
    request.user, request.session = user, {}  # type: ignore[assignment]
    request._messages = Silent(request)  # type: ignore[attr-defined]
    found = resolve(path)
    try:
        given = found.func(request, *found.args, **found.kwargs)
    except PermissionDenied:
        return 403
    except Http404:
        return 404
    return "login" if "/login/" in given.headers.get("Location", "") else given.status_code


def person(role: str) -> User:
    user = User.objects.create_user(f"a-{role}", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


@cache
def all_addresses() -> list[tuple[str, str]]:
    return [(name, path) for name, path in addresses() if name not in OPEN]


def test_every_address_of_the_admin_has_a_rule() -> None:
    assert len(all_addresses()) > 150
    assert [pair for pair in all_addresses() if expected(pair[0]) is None and pair[0]] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_its_own_pages_and_acts_and_403_for_every_other(role: str) -> None:
    user, wrong = person(role), []
    for name, path in all_addresses():
        who = expected(name)
        given, may = answer(user, path), who is None or role in who
        if name.endswith("_history") and given == 302:
            continue  # Django looks for the row before it asks who is asking, and there is none
        if given == "login" or (given == 403) is may:
            wrong.append((name, path, given, "allowed" if may else "refused"))
    assert wrong == []


def test_the_history_of_a_row_is_for_those_who_see_the_row() -> None:
    ensure_firm()
    key = create_key(name="bot", role="risk")[0]
    user = User.objects.create_user("somebody")
    pages = {f"/admin/tradingbot/apikey/{key.pk}/history/": ADMIN, f"/admin/auth/user/{user.pk}/history/": ADMIN}
    people = {role: person(role) for role in ROLES}
    answers = {(path, role): answer(people[role], path) for path in pages for role in ROLES}
    assert {pair for pair, given in answers.items() if given != 403} == set(pages.items())


def test_who_has_not_signed_in_is_sent_to_the_door_from_everywhere() -> None:
    wrong = [(name, path) for name, path in all_addresses() if name and answer(AnonymousUser(), path) != "login"]
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_is_shown_it_may_open(role: str, client: Any) -> None:
    user = person(role)
    client.force_login(user)
    shown = set(re.findall(r'href="(/admin/[^"?#]*)"', client.get("/admin/").content.decode()))
    assert len(shown) > 15
    assert [path for path in shown if answer(user, path) == 403] == []
    assert any("apikey" in path for path in shown) is (role == ADMIN)


def test_the_rights_that_are_named_exist_and_the_risk_role_has_every_act_but_two() -> None:
    ours = set(Permission.objects.filter(content_type__app_label="tradingbot").values_list("codename", flat=True))
    named = roles.TRADERS | roles.ADMINISTRATORS | roles.NOT_RISK | roles.NOT_FOR_ALL
    assert sorted(named - ours) == []
    acts = {name for name in ours if not name.startswith(("view_", "add_", "change_", "delete_"))}
    held = {right.codename for right in roles.rights_of(RISK)}
    assert acts - held == {"force_reset_breaker", "revoke_apikey"}


def test_a_role_that_somebody_widened_is_what_it_was_after_the_next_migrate() -> None:
    group = Group.objects.get(name=VIEWER)
    group.permissions.add(Permission.objects.get(codename="trip_breaker"))
    roles.keep_roles()
    assert not group.permissions.filter(codename="trip_breaker").exists()


class TestManagingPeople:
    @pytest.fixture
    def chief(self, client):
        client.force_login(person(ADMIN))
        return client

    def form(self, user: User, **changes: Any) -> dict[str, Any]:
        kept = {"username": user.username, "is_active": "on", "is_staff": "on"}
        return {**kept, "groups": list(user.groups.values_list("pk", flat=True)), **changes}

    def test_an_administrator_gives_a_role_and_the_journal_has_it(self, chief):
        user = person(VIEWER)
        groups = [Group.objects.get(name=TRADER).pk]
        page = f"/admin/auth/user/{user.pk}/change/"
        assert chief.post(page, self.form(user, groups=groups)).status_code == 302
        assert list(user.groups.values_list("name", flat=True)) == [TRADER]
        entry = JournalEntry.objects.get(kind="person_changed")
        assert (entry.actor, entry.subject, entry.data["roles"]) == ("admin:a-admin", "person:a-viewer", [TRADER])

    def test_an_administrator_makes_no_superuser_and_gives_no_single_right(self, chief):
        user = person(VIEWER)
        right = Permission.objects.get(codename="force_reset_breaker").pk
        chief.post(f"/admin/auth/user/{user.pk}/change/", self.form(user, is_superuser="on", user_permissions=[right]))
        user.refresh_from_db()
        assert (user.is_superuser, user.user_permissions.count()) == (False, 0)

    def test_an_administrator_does_not_touch_a_superuser_nor_their_own_roles(self, chief):
        boss = User.objects.create_superuser("boss")
        assert chief.post(f"/admin/auth/user/{boss.pk}/change/", self.form(boss)).status_code == 403
        assert chief.post(f"/admin/auth/user/{boss.pk}/password/", {"password1": "x"}).status_code == 403
        own = User.objects.get(username="a-admin")
        groups = list(Group.objects.values_list("pk", flat=True))
        chief.post(f"/admin/auth/user/{own.pk}/change/", self.form(own, groups=groups))
        assert list(own.groups.values_list("name", flat=True)) == [ADMIN]

    def test_the_four_roles_are_not_changed_by_hand(self, client):
        client.force_login(User.objects.create_superuser("boss"))
        group = Group.objects.get(name=RISK)
        assert client.post(f"/admin/auth/group/{group.pk}/change/", {"name": "x"}).status_code == 403
        assert client.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"}).status_code == 403
