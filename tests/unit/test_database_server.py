"""What is read from PostgreSQL's answers: durability that is switched off, and the connections that are left."""

import pytest

from backend.tradingbot.selectors.database_server import durability_faults, granted_connections

SAFE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


@pytest.mark.parametrize("level", ["on", "local", "remote_write", "remote_apply"])
def test_every_level_that_flushes_before_it_confirms_is_safe(level):
    assert durability_faults({**SAFE, "synchronous_commit": level}) == []


@pytest.mark.parametrize("name", list(SAFE))
def test_each_switch_that_is_off_is_a_fault_with_its_name(name):
    faults = durability_faults({**SAFE, name: "off"})
    assert [fault.split(":")[0] for fault in faults] == [f"PostgreSQL runs with {name} = off"]


def test_a_server_that_does_not_say_is_not_taken_for_safe():
    assert len(durability_faults({})) == 3


@pytest.mark.parametrize(
    ("told", "granted"),
    [
        ({"max_connections": "100"}, 100),
        ({"max_connections": "100", "superuser_reserved_connections": "3", "reserved_connections": "2"}, 95),
        ({"max_connections": "100", "role limit": "-1", "database limit": "20"}, 20),
        ({"max_connections": "100", "role limit": "0", "database limit": "-1"}, 0),
        ({}, 0),
    ],
)
def test_the_connections_are_what_server_role_and_database_all_grant(told, granted):
    assert granted_connections(told) == granted
