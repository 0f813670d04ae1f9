"""What every long-running process asks before it serves: is what it stands on fit to keep money's records?

Invariant: no answer is a no. A process that may not start says why in one paragraph and ends; it never serves first.
A database that is just restarting is waited for: processes that end one after another take the whole stack down.
"""

from __future__ import annotations

import time

import structlog
from django.conf import settings
from django.core.checks import ERROR, CheckMessage, Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from backend.tradingbot.checks import NO_ANSWER, TAG
from backend.tradingbot.services.anchors import anchor_file

log = structlog.get_logger(__name__)

ASK_AGAIN_SECONDS = 0.5


def refuse_unsafe_start(*, anchors: bool = False) -> None:
    """Raise ImproperlyConfigured naming every error of the system checks, the database's among them.

    ``anchors``: this process writes the journal's anchors, so their file must take a line.
    """
    errors = _errors()
    patient_until = time.monotonic() + settings.TRADINGBOT.start_patience_seconds
    while {error.id for error in errors} == {NO_ANSWER} and time.monotonic() < patient_until:
        log.warning("start_waits", problem=errors[0].msg)
        time.sleep(ASK_AGAIN_SECONDS)
        errors = _errors()
    told = [f"- {error.msg}. {error.hint or ''} [{error.id}]" for error in errors]
    if anchors:
        told += _anchor_problems()
    if told:
        raise ImproperlyConfigured("This must not start:\n" + "\n".join(told))


def _errors() -> list[CheckMessage]:
    try:
        found = run_checks(tags=[TAG, Tags.database], databases=["default"])
    finally:
        connections.close_all()  # a process that forks or serves from other threads must not share this one
    return [message for message in found if message.level >= ERROR and not message.is_silenced()]


def _anchor_problems() -> list[str]:
    try:
        with anchor_file().writing():
            return []
    except OSError as error:
        hint = "Set ANCHOR_FILE to a place that this process can write, outside the database's disk."
        return [f"- the journal's anchors cannot be written to {anchor_file().path}: {error.strerror}. {hint}"]
