"""Whatever happens to an order, the table alone decides where it goes, and a finished order is never sent again."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from backend.tradingbot.execution.order_state import (
    NEXT,
    OPEN,
    TERMINAL,
    WORKING,
    Event,
    IllegalTransitionError,
    Status,
    is_terminal,
    next_status,
)

CLOSED_FOR_GOOD = (Status.DENIED, Status.REJECTED, Status.FILLED)
BOOKED_ALL_THE_SAME = {(Status.FILLED, fill) for fill in (Event.PARTIAL_FILL, Event.FILL, Event.OVER_FILL)}


class OrderLife(RuleBasedStateMachine):
    """An order that is handed any event at any time, from its birth on."""

    def __init__(self) -> None:
        super().__init__()
        self.status = Status.NEW
        self.lived = [Status.NEW]

    @rule(event=st.sampled_from(Event))
    def hand_any_event(self, event: Event) -> None:
        expected = NEXT.get((self.status, event))
        if expected is None:
            with pytest.raises(IllegalTransitionError) as refused:
                next_status(self.status, event)
            assert refused.value.details == {"status": self.status, "event": event.value}
            return
        self._move(next_status(self.status, event), expected)

    @rule(data=st.data())
    def hand_a_legal_event(self, data: st.DataObject) -> None:
        legal = [event for event in Event if (self.status, event) in NEXT]
        if legal:
            event = data.draw(st.sampled_from(legal))
            self._move(next_status(self.status, event), NEXT[self.status, event])

    def _move(self, found: Status, expected: Status) -> None:
        assert found is expected
        assert self.status not in CLOSED_FOR_GOOD or found is self.status
        self.status = found
        self.lived.append(found)

    @invariant()
    def it_is_sent_once_and_never_after_it_ended(self) -> None:
        assert self.lived.count(Status.PENDING_SUBMIT) <= 1
        ended = next((place for place, status in enumerate(self.lived) if is_terminal(status)), len(self.lived))
        assert Status.PENDING_SUBMIT not in self.lived[ended:]

    @invariant()
    def it_is_new_open_or_ended(self) -> None:
        assert [self.status is Status.NEW, self.status in OPEN, self.status in TERMINAL].count(True) == 1


TestOrderLife = OrderLife.TestCase


def reachable(start: Status) -> set[Status]:
    """Every status that one or more events can lead to."""
    found: set[Status] = set()
    ahead = [start]
    while ahead:
        status = ahead.pop()
        new = {after for (before, _), after in NEXT.items() if before is status} - found
        found |= new
        ahead.extend(new)
    return found


@pytest.mark.parametrize("status", CLOSED_FOR_GOOD)
def test_a_denied_rejected_or_filled_order_moves_no_more(status: Status) -> None:
    for event in [event for event in Event if (status, event) not in BOOKED_ALL_THE_SAME]:
        with pytest.raises(IllegalTransitionError, match=f"^an order that is {status} cannot {event}$"):
            next_status(status, event)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_no_path_leads_from_an_ended_order_back_to_sending(status: Status) -> None:
    assert reachable(status) & {Status.NEW, Status.PENDING_SUBMIT, Status.IN_DOUBT} == set()


def test_every_status_can_be_reached_from_new_and_every_open_order_can_end() -> None:
    assert reachable(Status.NEW) == set(Status) - {Status.NEW}
    assert {status for status in OPEN if not reachable(status) & TERMINAL} == set()


def test_a_late_fill_is_booked_after_the_order_was_canceled_expired_or_given_up() -> None:
    late = (Status.CANCELED, Status.EXPIRED, Status.NEVER_ARRIVED)
    assert [next_status(status, Event.FILL) for status in late] == [Status.FILLED] * 3


def test_an_over_fill_is_legal_wherever_a_fill_is_and_leaves_the_order_filled() -> None:
    fillable = {status for status, event in NEXT if event is Event.FILL}
    assert {status for status, event in NEXT if event is Event.OVER_FILL} == fillable | {Status.FILLED}
    assert {after for (_, event), after in NEXT.items() if event is Event.OVER_FILL} == {Status.FILLED}


def test_a_refused_cancel_leads_back_to_what_the_order_was() -> None:
    assert next_status(Status.PENDING_CANCEL, Event.REFUSE_CANCEL) is Status.ACCEPTED
    assert next_status(Status.PENDING_CANCEL, Event.REFUSE_CANCEL_OF_REST) is Status.PARTIALLY_FILLED


def test_a_replaced_order_stays_what_it_was() -> None:
    replaced = {before: after for (before, event), after in NEXT.items() if event is Event.REPLACE}
    assert replaced == {status: status for status in WORKING}


def test_a_status_that_does_not_exist_raises() -> None:
    with pytest.raises(ValueError, match="'lost' is not a valid Status"):
        next_status("lost", Event.FILL)
