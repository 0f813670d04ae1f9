"""Recorded decisions under proposed limits: what would change, and what cannot be asked."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.risk.gates import evaluate
from backend.tradingbot.risk.limit_replay import compare, proposed_from, under
from backend.tradingbot.risk.snapshot import Headroom
from tests.unit.gate_samples import limits, order, snapshot

ASKED = order(qty="10")
SEEN = snapshot(
    headroom=(Headroom("firm", None, Decimal(4_500)), Headroom("strategy:trend", Decimal(9_000), Decimal(0)))
)


def changed(*rows: tuple[str, str, str | None], seen=SEEN):
    proposed = proposed_from([{"scope": scope, "kind": kind, "value": value} for scope, kind, value in rows])
    return compare(ASKED, seen, evaluate(ASKED, seen).as_dict(), proposed)


def test_a_tighter_limit_would_have_denied_and_says_by_which_gate() -> None:
    change = changed(("account:main", "order_qty_max", "9"))
    assert change is not None
    assert (change.was_allowed, change.would_be_allowed, change.would_be_refused_by) == (True, False, ("order_size",))
    assert changed(("account:main", "order_qty_max", "10")) is None


def test_a_looser_limit_would_have_allowed() -> None:
    denied = snapshot(limits=limits(order_qty_max=5))
    change = changed(("account:main", "order_qty_max", "10"), seen=denied)
    assert change is not None
    assert (change.was_allowed, change.would_be_allowed, change.was_refused_by) == (False, True, ("order_size",))


def test_a_limit_of_another_scope_changes_nothing_and_one_that_is_taken_away_denies() -> None:
    assert changed(("account:other", "order_qty_max", "1"), ("symbol:MSFT", "order_qty_max", "1")) is None
    change = changed(("account:main", "order_qty_max", None))
    assert change is not None and change.would_be_allowed is False


def test_a_new_limit_above_the_account_counts_what_was_taken_then() -> None:
    assert changed(("firm", "gross_exposure_max", "5500")) is None
    change = changed(("firm", "gross_exposure_max", "5499"))
    assert change is not None and change.would_be_refused_by == ("gross_exposure",)
    lifted = under(ASKED, SEEN, {("strategy:trend", "gross_exposure_max"): None})
    assert [room.limit for room in lifted.headroom] == [None, None]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"scope": "firm", "kind": "mystery", "value": "1"}, "not a kind"),
        ({"scope": "desk:a", "kind": "order_qty_max", "value": "1"}, "not a scope"),
        ({"scope": "firm", "kind": "order_qty_max", "value": 1}, "decimal string"),
        ({"scope": "firm", "kind": "order_qty_max", "value": "NaN"}, "finite"),
        ({"scope": "firm", "kind": "order_qty_max"}, "must have"),
        ({"scope": "firm", "kind": "duplicate_window_seconds", "value": "9"}, "window"),
        ("firm", "must have"),
    ],
)
def test_what_cannot_be_proposed_is_named(row, says) -> None:
    with pytest.raises(InvalidInputError, match=says):
        proposed_from([row])
