"""Who stands behind an actor: one person may hold a key and a log-in, and is still one person."""

from __future__ import annotations


def person(actor: str) -> str:
    """``admin:ann`` and ``key:ann`` are one person when the name is the same."""
    return actor.partition(":")[2] or actor
