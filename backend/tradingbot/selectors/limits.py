"""Reads of limits: what is in force, what waits, the history of one, and what stood at a moment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.db.models.functions import Now

from backend.tradingbot.models import LimitVersion


def in_force(now: datetime | Now) -> QuerySet[LimitVersion]:
    """The version of every limit that is in force at ``now``, by scope and kind; without a value where it was taken
    away."""
    rows = LimitVersion.objects.filter(state="in_force", effective_from__lte=now)
    return rows.order_by("scope", "kind", "-version").distinct("scope", "kind")


def limits_in_force(
    scopes: Iterable[str] | None, now: datetime, kinds: Iterable[str] | None = None
) -> list[LimitVersion]:
    """The version in force of every limit, by scope and kind; those of ``scopes`` and ``kinds`` only when given."""
    rows = in_force(now)
    if scopes is not None:
        rows = rows.filter(scope__in=list(scopes))
    if kinds is not None:
        rows = rows.filter(kind__in=list(kinds))
    return [row for row in rows if row.value is not None]


def with_followed(versions: QuerySet[LimitVersion]) -> QuerySet[LimitVersion]:
    """``versions``, each with ``followed``: the value in force that it came after; None where there was none, or where
    that took the limit away. A version that was refused or still waits was never a value. And with ``replaced``:
    whether a later one is effective by now."""
    same = LimitVersion.objects.filter(scope=OuterRef("scope"), kind=OuterRef("kind"), state="in_force")
    earlier = same.filter(version__lt=OuterRef("version"))
    later = same.filter(version__gt=OuterRef("version"), effective_from__lte=Now())
    return versions.annotate(
        followed=Subquery(earlier.order_by("-version").values("value")[:1]), replaced=Exists(later)
    )


def limit_version(version_id: int) -> LimitVersion:
    """One version, with the value that it followed."""
    return with_followed(LimitVersion.objects.all()).get(pk=version_id)


def limits_waiting() -> list[LimitVersion]:
    """Loosenings that wait for a second person, the oldest first."""
    return list(with_followed(LimitVersion.objects.filter(state="waiting")).order_by("id"))


def limit_history(scope: str, kind: str) -> list[LimitVersion]:
    """Every version of one limit, the newest first."""
    return list(with_followed(LimitVersion.objects.filter(scope=scope, kind=kind)).order_by("-version"))


def versions_at(moment: datetime, scope: str | None = None) -> dict[tuple[str, str], LimitVersion]:
    """The version of every limit that stood at ``moment``, by scope and kind; its value is None where it was taken
    away."""
    rows = LimitVersion.objects.filter(state="in_force", effective_from__lte=moment, set_at__lte=moment)
    if scope is not None:
        rows = rows.filter(scope=scope)
    decided = [row for row in rows.order_by("version") if row.decided_at is None or row.decided_at <= moment]
    return {(row.scope, row.kind): row for row in decided}
