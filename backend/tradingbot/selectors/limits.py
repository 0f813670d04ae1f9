"""Reads of limits: what is in force, what waits, the history of one, and what changed since a moment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from backend.tradingbot.models import LimitVersion


def limits_in_force(
    scopes: Iterable[str] | None, now: datetime, kinds: Iterable[str] | None = None
) -> list[LimitVersion]:
    """The version in force of every limit, by scope and kind; those of ``scopes`` and ``kinds`` only when given."""
    rows = LimitVersion.objects.filter(state="in_force", effective_from__lte=now)
    if scopes is not None:
        rows = rows.filter(scope__in=list(scopes))
    if kinds is not None:
        rows = rows.filter(kind__in=list(kinds))
    newest = rows.order_by("scope", "kind", "-version").distinct("scope", "kind")
    return [row for row in newest if row.value is not None]


def limits_waiting() -> list[LimitVersion]:
    """Loosenings that wait for a second person, the oldest first."""
    return list(LimitVersion.objects.select_related("previous").filter(state="waiting").order_by("id"))


def limit_history(scope: str, kind: str) -> list[LimitVersion]:
    """Every version of one limit, the newest first."""
    return list(LimitVersion.objects.select_related("previous").filter(scope=scope, kind=kind).order_by("-version"))


def values_at(moment: datetime, scope: str | None = None) -> dict[tuple[str, str], Decimal | None]:
    """The value of every limit as it stood at ``moment``, by scope and kind; None for one that was taken away."""
    rows = LimitVersion.objects.filter(state="in_force", effective_from__lte=moment, set_at__lte=moment)
    if scope is not None:
        rows = rows.filter(scope=scope)
    decided = [row for row in rows.order_by("version") if row.decided_at is None or row.decided_at <= moment]
    return {(row.scope, row.kind): row.value for row in decided}


def limits_changed(since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Every limit whose value in force differs between the two moments."""
    before, after = values_at(since), values_at(until)
    keys = sorted(set(before) | set(after))
    return [
        {"scope": scope, "kind": kind, "before": before.get((scope, kind)), "after": after.get((scope, kind))}
        for scope, kind in keys
        if before.get((scope, kind)) != after.get((scope, kind))
    ]
