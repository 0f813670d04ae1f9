"""Limits laid side by side: the versions of one against what each followed, and any two sets (profiles, or scopes as
they stood at a moment).

Invariant: tighter and looser are told by the rule that decides whether a second person is needed.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from backend.tradingbot.models import Account, LimitVersion
from backend.tradingbot.risk.limit_profiles import profile_named
from backend.tradingbot.risk.limits import KINDS, is_loosening, scope_kind
from backend.tradingbot.selectors.limits import values_at

PROFILE = "profile:"


def scopes_with_limits() -> list[str]:
    """Every scope that ever had a limit."""
    return list(LimitVersion.objects.order_by("scope").values_list("scope", flat=True).distinct())


@dataclass(frozen=True)
class Change:
    """One limit before and after, the change in percent of before (None when that cannot be said), and its direction:
    ``tighter``, ``looser`` or ``the same``."""

    kind: str
    before: Decimal | None
    after: Decimal | None
    direction: str

    @property
    def percent(self) -> Decimal | None:
        if self.before is None or self.after is None or self.before == 0:
            return None
        return (self.after - self.before) / self.before * 100


def direction(kind: str, scope: str, before: Decimal | None, after: Decimal | None, required: bool) -> str:
    """By the rule that decides whether a second person is needed."""
    if before == after:
        return "the same"
    return "looser" if is_loosening(kind, scope, before, after, required) else "tighter"


def history_of(scope: str, kind: str) -> list[tuple[LimitVersion, Change]]:
    """Every version of one limit, the newest first, against the value that was to be in force before it.

    A version that was refused or still waits was never a value, so no later one is held against it.
    """
    found: list[tuple[LimitVersion, Change]] = []
    last: Decimal | None = None
    for row in LimitVersion.objects.select_related("previous").filter(scope=scope, kind=kind).order_by("version"):
        word = "looser" if row.loosens else "the same" if row.value == last else "tighter"
        found.append((row, Change(kind, last, row.value, word)))
        if row.state == "in_force":
            last = row.value
    return found[::-1]


def standing(name: str, moment: datetime) -> dict[str, Decimal]:
    """The limits of ``profile:<name>``, or those of a scope as they stood at ``moment``, by kind."""
    if name.startswith(PROFILE):
        return dict(profile_named(name.removeprefix(PROFILE)).values)
    return {kind: value for (_, kind), value in values_at(moment, name).items() if value is not None}


def compared(first: str, first_at: datetime, second: str, second_at: datetime) -> list[Change]:
    """Every limit of two sets (see ``standing``), in the order of the kinds; those that differ say which way."""
    before, after = standing(first, first_at), standing(second, second_at)
    scope = next((name for name in (second, first) if not name.startswith(PROFILE)), "account:of the profile")
    required = _required_at(scope)
    return [
        Change(kind, old, new, direction(kind, scope, old, new, kind in required))
        for kind in KINDS
        if (old := before.get(kind)) is not None or kind in after
        for new in [after.get(kind)]
    ]


def _required_at(scope: str) -> Container[str]:
    """The kinds without whose row at ``scope`` there is no order: those that the account's profile requires."""
    if scope_kind(scope) != "account":
        return ()
    profile = Account.objects.filter(code=scope.partition(":")[2]).values_list("profile", flat=True).first()
    return () if profile is None else profile_named(profile).values
