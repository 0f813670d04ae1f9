"""Limits laid side by side: the versions of one against what each followed, all limits at two moments, and any two sets
(profiles, or scopes as they stood at a moment).

Invariant: tighter and looser are told by the rule that decides whether a second person is needed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from backend.tradingbot.models import Account, LimitVersion
from backend.tradingbot.risk.limit_profiles import profile_named
from backend.tradingbot.risk.limits import KINDS, is_loosening, scope_kind
from backend.tradingbot.selectors.limits import limit_history, versions_at

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
    """Every version of one limit, the newest first, against the value that it followed."""
    return [
        (row, Change(kind, row.followed, row.value, "looser" if row.loosens else _word(row)))  # type: ignore[attr-defined]
        for row in limit_history(scope, kind)
    ]


def _word(row: LimitVersion) -> str:
    return "the same" if row.value == row.followed else "tighter"  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Difference:
    """One limit that stood otherwise at the later of two moments, and the version that stood there then."""

    scope: str
    change: Change
    version: LimitVersion | None


def limits_changed(since: datetime, until: datetime) -> list[Difference]:
    """Every limit whose value in force differs between the two moments, by scope and kind."""
    before, after = versions_at(since), versions_at(until)
    required = _required({scope for scope, _ in (*before, *after)})
    found = []
    for scope, kind in sorted({*before, *after}):
        old, new = (rows[scope, kind].value if (scope, kind) in rows else None for rows in (before, after))
        word = direction(kind, scope, old, new, kind in required[scope])
        if word != "the same":
            found.append(Difference(scope, Change(kind, old, new, word), after.get((scope, kind))))
    return found


def standing(name: str, moment: datetime) -> dict[str, Decimal]:
    """The limits of ``profile:<name>``, or those of a scope as they stood at ``moment``, by kind."""
    if name.startswith(PROFILE):
        return dict(profile_named(name.removeprefix(PROFILE)).values)
    return {kind: row.value for (_, kind), row in versions_at(moment, name).items() if row.value is not None}


def compared(first: str, first_at: datetime, second: str, second_at: datetime) -> list[Change]:
    """Every limit of two sets (see ``standing``), in the order of the kinds; those that differ say which way."""
    before, after = standing(first, first_at), standing(second, second_at)
    scope = next((name for name in (second, first) if not name.startswith(PROFILE)), "account:of the profile")
    required = _required([scope])[scope]
    return [
        Change(kind, old, new, direction(kind, scope, old, new, kind in required))
        for kind in KINDS
        if (old := before.get(kind)) is not None or kind in after
        for new in [after.get(kind)]
    ]


def _required(scopes: Iterable[str]) -> dict[str, Container[str]]:
    """By scope, the kinds without whose row there is no order: those that the profile of an account requires."""
    codes = {scope: scope.partition(":")[2] for scope in scopes if scope_kind(scope) == "account"}
    profiles = dict(Account.objects.filter(code__in=codes.values()).values_list("code", "profile"))
    known = {scope: profile_named(profiles[code]).values for scope, code in codes.items() if code in profiles}
    return {scope: known.get(scope, ()) for scope in scopes}
