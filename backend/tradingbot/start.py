"""What every long-running process asks before it serves: is what it stands on fit to keep money's records?

Invariant: no answer is a no. A process that may not start says why in one paragraph and ends; it never serves first.
"""

from __future__ import annotations

from django.core.checks import ERROR, Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from backend.tradingbot.checks import TAG


def refuse_unsafe_start() -> None:
    """Raise ImproperlyConfigured naming every error of the system checks, the database's among them."""
    try:
        found = run_checks(tags=[TAG, Tags.database], databases=["default"])
    finally:
        connections.close_all()  # a process that forks or serves from other threads must not share this one
    errors = [message for message in found if message.level >= ERROR and not message.is_silenced()]
    if errors:
        told = "\n".join(f"- {error.msg}. {error.hint or ''} [{error.id}]" for error in errors)
        raise ImproperlyConfigured(f"This must not start:\n{told}")
