"""Who is whom when two people are needed: a name is one person, whichever door he comes through.

Invariant: in doubt they are the same person, so that one cannot approve at a page what he has asked for by a key.
"""

from __future__ import annotations

DOORS = ("admin:", "key:")


def name_of(actor: str) -> str:
    """``admin:Ann`` and ``key:ann`` are ``ann``."""
    name = actor.strip().casefold()
    for door in DOORS:
        name = name.removeprefix(door)
    return name.strip()


def same_person(one: str, other: str) -> bool:
    return name_of(one) == name_of(other)
