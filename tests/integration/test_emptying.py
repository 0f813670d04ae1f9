"""A test that committed leaves nothing to the next one, in the database as in Django's own way of emptying it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connection

from backend.tradingbot.models import Account, JournalEntry
from backend.tradingbot.services.roles import ROLES, rights_of
from tests.emptying import empty
from tests.integration.recon_house import House

pytestmark = pytest.mark.django_db(transaction=True)


def counted() -> dict[str, int]:
    """The rows of every table that has any."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True, include_views=False):
            cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(table)}")
            if number := cursor.fetchone()[0]:
                found[table] = number
    return found


def rights() -> dict[str, set[int]]:
    return {group.name: set(group.permissions.values_list("pk", flat=True)) for group in Group.objects.all()}


def test_what_was_written_is_gone_the_append_only_rows_too() -> None:
    empty(connection)
    bare = counted()
    assert set(bare) == {"django_content_type", "auth_permission", "auth_group", "auth_group_permissions"}
    House()
    assert JournalEntry.objects.exists()
    assert Account.objects.exists()
    empty(connection)
    assert counted() == bare


def test_the_append_only_rows_are_guarded_again_afterwards() -> None:
    empty(connection)
    House()
    with pytest.raises(DatabaseError, match="Cannot update or delete rows from tradingbot_journalentry"):
        JournalEntry.objects.all().delete()


def spoil_a_role() -> None:
    Group.objects.get(name="viewer").permissions.clear()


def spoil_the_types() -> None:
    ContentType.objects.filter(app_label="tradingbot").delete()


def spoil_a_group() -> None:
    Group.objects.create(name="interlopers").permissions.add(Permission.objects.all()[0])


@pytest.mark.parametrize("spoil", [spoil_a_role, spoil_the_types, spoil_a_group])
def test_what_migrate_gives_is_there_again_after_a_test_that_changed_it(spoil: Any) -> None:
    empty(connection)
    before = counted()
    spoil()
    assert counted() != before
    empty(connection)
    ContentType.objects.clear_cache()
    assert counted() == before
    assert rights() == {role: {permission.pk for permission in rights_of(role)} for role in ROLES}


def test_who_is_still_writing_is_waited_for() -> None:
    empty(connection)
    wrote, may_commit = threading.Event(), threading.Event()

    def write() -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO auth_group (name) VALUES ('late')")
            wrote.set()
            may_commit.wait(30)
            cursor.execute("COMMIT")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert wrote.wait(30)
    threading.Timer(0.3, may_commit.set).start()
    House()
    empty(connection)
    writer.join()
    assert not Group.objects.filter(name="late").exists()
