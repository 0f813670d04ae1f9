"""Puts the running build on file, so that the stamp on a record can be read as code, dependencies and settings.

Invariants: it happens on a process's first connection, before any transaction, so that no record is older than its
stamp's row; it is one statement that changes nothing the second time; that it cannot be done stops nothing else.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from backend.tradingbot.infra.build_info import build_facts, build_stamp, version_info

log = structlog.get_logger(__name__)

NOTE = """
INSERT INTO tradingbot_buildstamp (stamp, build_id, build_timestamp, dirty, lock_hash, config_hash, settings,
  python_version, platform, first_seen_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (stamp) DO NOTHING
"""
IS_MIGRATED = "SELECT to_regclass('tradingbot_buildstamp') IS NOT NULL"
_noted: set[tuple[Any, str]] = set()


class NotMigrated(Exception):
    """The database has no table of builds: it is not migrated yet, or is another one."""


def note_build(connection: BaseDatabaseWrapper) -> None:
    """Write the running build's row by ``connection`` when it is not there. Raises NotMigrated."""
    known, facts = version_info(), build_facts()
    values = [*facts.values(), json.dumps(settings.TRADINGBOT.public()), known["python_version"]]
    with connection.cursor() as cursor:
        cursor.execute(IS_MIGRATED)  # asked, not tried: the log of a first start shows no error that is none
        if cursor.fetchone() == (False,):
            raise NotMigrated
        cursor.execute(NOTE, [build_stamp(), *values, known["platform"][:160], datetime.now(UTC)])


def note_build_on_connect(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """For the signal that a connection was made: writes once a process and database."""
    mark = (connection.settings_dict["NAME"], build_stamp())
    if mark in _noted:
        return
    try:
        note_build(connection)
    except NotMigrated:
        return
    except Error as error:
        log.warning("build_not_noted", problem=str(error).strip()[:200])
        return
    _noted.add(mark)
