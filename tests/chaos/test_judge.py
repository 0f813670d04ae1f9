"""The judge finds every way in which the books can be wrong, and nothing when they are right."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.chaos.judge import Answer, Execution, Finding, OurBooks, OurOrder, TheirBooks, TheirOrder, judge

FILL = Execution("x1", "b1", "S001", "buy", Decimal(5), Decimal("20.01"))
THEIR_FILLED = TheirOrder("c1", "b1", "S001", "buy", Decimal(5), "filled", Decimal(5), Decimal("100.05"))
THEIR_RESTING = TheirOrder("c2", "b2", "S002", "buy", Decimal(3), "new")
OUR_FILLED = OurOrder(
    "c1", "b1", "S001", "buy", Decimal(5), "filled", Decimal(5), Decimal("20.01"), Decimal(21), "filled"
)
OUR_RESTING = OurOrder(
    "c2", "b2", "S002", "buy", Decimal(3), "accepted", reserved_price=Decimal(10), journal_status="accepted"
)
OUR_DENIED = OurOrder("c3", None, "S001", "buy", Decimal(5), "denied", journal_status="denied")
THEIRS = TheirBooks([THEIR_FILLED, THEIR_RESTING], [FILL], {"S001": Decimal(5)}, Decimal("899.95"))
OURS = OurBooks(
    [OUR_FILLED, OUR_RESTING, OUR_DENIED], [FILL], {"S001": Decimal(5)}, Decimal("899.95"), reserved_cash=Decimal(30)
)
SENDS = {"c1": 1, "c2": 1}
ANSWERS = [Answer("c1", 201, "accepted", "b1"), Answer("c1", 200, "filled", "b1"), Answer("c3", 422, "denied", None)]


def found(**changes: object) -> list[Finding]:
    given = {"theirs": THEIRS, "ours": OURS, "sends": SENDS, "answers": ANSWERS, **changes}
    return judge(**given).findings  # type: ignore[arg-type]


def test_books_that_agree_are_clean() -> None:
    verdict = judge(THEIRS, OURS, SENDS, ANSWERS)
    assert verdict.findings == []
    assert (verdict.clean, verdict.books()) == (True, "books agree")


def theirs(order: TheirOrder = THEIR_RESTING, **changes: object) -> TheirBooks:
    return replace(THEIRS, orders=[THEIR_FILLED, order], **changes)  # type: ignore[arg-type]


def ours(order: OurOrder = OUR_RESTING, **changes: object) -> OurBooks:
    return replace(OURS, orders=[OUR_FILLED, order, OUR_DENIED], **changes)  # type: ignore[arg-type]


def resting(**changes: object) -> OurOrder:
    changed = replace(OUR_RESTING, **changes)  # type: ignore[arg-type]
    return replace(changed, journal_status=changed.status)


WRONG = {
    "two broker orders for one id": (
        {"theirs": replace(THEIRS, orders=[*THEIRS.orders, replace(THEIR_RESTING, broker_order_id="b9")])},
        ("duplicated", "c2", "2 orders at the broker"),
    ),
    "a resubmission that the broker refused": (
        {"theirs": theirs(replace(THEIR_RESTING, refused_duplicates=2))},
        ("duplicated", "c2", "sent again 2 time(s)"),
    ),
    "two sends of one id": ({"sends": {"c1": 1, "c2": 2}}, ("duplicated", "c2", "2 sends began")),
    "two orders here for one id": (
        {"ours": replace(OURS, orders=[*OURS.orders, OUR_DENIED])},
        ("duplicated", "c3", "2 orders here"),
    ),
    "an order at the broker that we do not know": (
        {"theirs": replace(THEIRS, orders=[*THEIRS.orders, replace(THEIR_RESTING, client_order_id="c9")])},
        ("lost", "c9", "new at the broker, not known here"),
    ),
    "an order in doubt": (
        {"ours": ours(resting(status="in_doubt"))},
        ("unresolved", "c2", "in_doubt here"),
    ),
    "an order whose sender died": (
        {"ours": ours(resting(status="pending_submit", broker_order_id=None))},
        ("unresolved", "c2", "pending_submit here"),
    ),
    "an order that is working here and unknown there": (
        {"theirs": replace(THEIRS, orders=[THEIR_FILLED])},
        ("books", "c2", "accepted here, not at the broker"),
    ),
    "an order given up here that the broker has": (
        {"ours": ours(resting(status="never_arrived"), reserved_cash=Decimal(0))},
        ("books", "c2", "never_arrived here, new at the broker"),
    ),
    "an order denied here that the broker has": (
        {"ours": ours(resting(status="denied"), reserved_cash=Decimal(0))},
        ("books", "c2", "denied here, new at the broker"),
    ),
    "an order rejected here that works there": (
        {"ours": ours(resting(status="rejected"), reserved_cash=Decimal(0))},
        ("books", "c2", "rejected here, new at the broker"),
    ),
    "an order canceled there that works here": (
        {"theirs": theirs(replace(THEIR_RESTING, status="canceled"))},
        ("books", "c2", "accepted here, canceled at the broker"),
    ),
    "another broker id": (
        {"ours": ours(resting(broker_order_id="b7"))},
        ("books", "c2", "broker order b7 here, b2 there"),
    ),
    "another quantity": (
        {"theirs": theirs(replace(THEIR_RESTING, qty=Decimal(4)))},
        ("books", "c2", "buy 3 S002 here, buy 4 S002 at the broker"),
    ),
    "a fill that was not counted": (
        {"theirs": theirs(replace(THEIR_RESTING, status="partially_filled", filled_qty=Decimal(1)))},
        ("books", "c2", "filled 0 here, 1 at the broker"),
    ),
    "another average price": (
        {"theirs": replace(THEIRS, orders=[replace(THEIR_FILLED, filled_value=Decimal(100)), THEIR_RESTING])},
        ("books", "c1", "average price 20.01 here, 20 at the broker"),
    ),
    "an execution that is not booked": (
        {"ours": replace(OURS, executions=[])},
        ("lost", "x1", "an execution of 5 S001 is not booked here"),
    ),
    "an execution that nobody made": (
        {"theirs": replace(THEIRS, executions=[])},
        ("books", "x1", "an execution is booked here that the broker has not got"),
    ),
    "an execution that is booked twice": (
        {"ours": replace(OURS, executions=[FILL, FILL])},
        ("books", "executions", "1 booked twice"),
    ),
    "another position": (
        {"ours": replace(OURS, positions={})},
        ("books", "S001", "position 0 here, 5 at the broker"),
    ),
    "other cash": (
        {"theirs": replace(THEIRS, cash=Decimal(900))},
        ("books", "cash", "899.95 here, 900 at the broker"),
    ),
    "cash reserved for nothing": (
        {"ours": replace(OURS, reserved_cash=Decimal("30.01"))},
        ("books", "reserved cash", "30.01 is reserved, 1 open orders account for 30"),
    ),
    "a running sum that ran away": (
        {"ours": replace(OURS, running={"firm headroom": (Decimal(3), Decimal(2))})},
        ("books", "firm headroom", "3 is kept, it adds up to 2"),
    ),
    "cash given back for an order that is still looked for": (
        {"ours": ours(resting(status="never_arrived", watched=True), reserved_cash=Decimal(0))},
        ("books", "reserved cash", "0 is reserved, 1 open orders account for 30"),
    ),
    "a broken chain": (
        {"ours": replace(OURS, journal_problems=["entry 7 was changed"])},
        ("books", "journal", "entry 7 was changed"),
    ),
    "an order that the journal leaves elsewhere": (
        {"ours": ours(replace(OUR_RESTING, journal_status="in_doubt"))},
        ("books", "c2", "accepted, but the journal leaves it in_doubt"),
    ),
    "an order that a client was told of": (
        {"answers": [Answer("c8", 201, "accepted", "b8")]},
        ("lost", "c8", "a client was answered 201 accepted; not known here"),
    ),
    "two broker ids told for one id": (
        {"answers": [Answer("c1", 201, "accepted", "b1"), Answer("c1", 200, "filled", "b5")]},
        ("books", "c1", "clients were told ['b1', 'b5'], it is b1"),
    ),
    "a denial of what was sent": (
        {"answers": [Answer("c1", 422, "denied", None)]},
        ("books", "c1", "a client was told denied; the broker has it"),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_judge_finds(wrong: str) -> None:
    changes, expected = WRONG[wrong]
    assert Finding(*expected) in found(**changes)


def test_a_verdict_counts_what_is_wrong_by_kind() -> None:
    verdict = judge(replace(THEIRS, cash=Decimal(1), orders=[*THEIRS.orders, THEIR_RESTING]), OURS, SENDS, ANSWERS)
    assert (verdict.clean, verdict.count("duplicated"), verdict.books()) == (False, 1, "books disagree in 1")
