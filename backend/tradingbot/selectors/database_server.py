"""What the PostgreSQL server is run with: whether a commit survives a crash, and how many connections it grants.

The rules are plain functions over the answers, so that they can be tested without a server that is set up wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db import connections

DURABILITY = {
    "fsync": "a crash of the machine can lose or corrupt everything",
    "full_page_writes": "a crash during a write can corrupt a page for good",
    "synchronous_commit": "a crash loses orders that were answered as accepted",
}
CONNECTIONS = ("max_connections", "superuser_reserved_connections", "reserved_connections")
ASK = """
SELECT name, setting FROM pg_settings WHERE name = ANY(%s)
UNION ALL SELECT 'role limit', rolconnlimit::text FROM pg_roles WHERE rolname = current_user
UNION ALL SELECT 'database limit', datconnlimit::text FROM pg_database WHERE datname = current_database()
"""


def server_settings(alias: str = "default") -> dict[str, str]:
    """The server's own words, by name; ``role limit`` and ``database limit`` are -1 when there is none."""
    with connections[alias].cursor() as cursor:
        cursor.execute(ASK, [[*DURABILITY, *CONNECTIONS]])
        return dict(cursor.fetchall())


def durability_faults(settings: Mapping[str, str]) -> list[str]:
    """What is switched off that must be on, and why it matters. A setting that was not told counts as off."""
    return [
        f"PostgreSQL runs with {name} = {settings.get(name, 'unknown')}: {danger}"
        for name, danger in DURABILITY.items()
        if settings.get(name, "off") == "off"
    ]


def granted_connections(settings: Mapping[str, str]) -> int:
    """How many connections this role can have in this database; 0 when the server did not say."""
    reserved = sum(int(settings.get(name, "0")) for name in CONNECTIONS[1:])
    limits = [int(settings.get("max_connections", "0")) - reserved]
    limits += [int(settings[name]) for name in ("role limit", "database limit") if int(settings.get(name, "-1")) >= 0]
    return min(limits)
