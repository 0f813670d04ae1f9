"""The life of an order as a table. What is absent is illegal and raises; odd rows say why they exist.

Terminal here means that the order asks for nothing more of the broker. A late fill may still arrive for some terminal
states, because the broker's book and ours race: those rows are in the table and are booked, never dropped.
"""

from __future__ import annotations

from enum import StrEnum

from backend.tradingbot.core.errors import TradingbotError


class Status(StrEnum):
    NEW = "new"
    DENIED = "denied"
    PENDING_SUBMIT = "pending_submit"
    IN_DOUBT = "in_doubt"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    PENDING_CANCEL = "pending_cancel"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    NEVER_ARRIVED = "never_arrived"


class Event(StrEnum):
    DENY = "deny"
    RESERVE = "reserve"
    ACCEPT = "accept"
    REJECT = "reject"
    LOSE_SIGHT = "lose_sight"
    PARTIAL_FILL = "partial_fill"
    FILL = "fill"
    OVER_FILL = "over_fill"
    REQUEST_CANCEL = "request_cancel"
    REFUSE_CANCEL = "refuse_cancel"
    REFUSE_CANCEL_OF_REST = "refuse_cancel_of_rest"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REPLACE = "replace"
    GIVE_UP = "give_up"


TERMINAL = frozenset(
    {Status.DENIED, Status.FILLED, Status.CANCELED, Status.EXPIRED, Status.REJECTED, Status.NEVER_ARRIVED}
)
UNRESOLVED = frozenset({Status.PENDING_SUBMIT, Status.IN_DOUBT})
WORKING = frozenset({Status.ACCEPTED, Status.PARTIALLY_FILLED, Status.PENDING_CANCEL})
OPEN = UNRESOLVED | WORKING

_S, _E = Status, Event
NEXT: dict[tuple[Status, Event], Status] = {
    (_S.NEW, _E.DENY): _S.DENIED,
    (_S.NEW, _E.RESERVE): _S.PENDING_SUBMIT,
    # Something tripped or was halted between the decision and the send, and its sender withheld it.
    (_S.PENDING_SUBMIT, _E.DENY): _S.DENIED,
    (_S.PENDING_SUBMIT, _E.ACCEPT): _S.ACCEPTED,
    (_S.PENDING_SUBMIT, _E.REJECT): _S.REJECTED,
    (_S.PENDING_SUBMIT, _E.LOSE_SIGHT): _S.IN_DOUBT,
    # A fill can reach us before the answer to our own request does.
    (_S.PENDING_SUBMIT, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
    (_S.PENDING_SUBMIT, _E.FILL): _S.FILLED,
    (_S.PENDING_SUBMIT, _E.OVER_FILL): _S.FILLED,
    (_S.IN_DOUBT, _E.ACCEPT): _S.ACCEPTED,
    (_S.IN_DOUBT, _E.REJECT): _S.REJECTED,
    (_S.IN_DOUBT, _E.GIVE_UP): _S.NEVER_ARRIVED,
    (_S.IN_DOUBT, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
    (_S.IN_DOUBT, _E.FILL): _S.FILLED,
    (_S.IN_DOUBT, _E.OVER_FILL): _S.FILLED,
    (_S.ACCEPTED, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
    (_S.ACCEPTED, _E.FILL): _S.FILLED,
    (_S.ACCEPTED, _E.OVER_FILL): _S.FILLED,
    (_S.ACCEPTED, _E.REQUEST_CANCEL): _S.PENDING_CANCEL,
    (_S.ACCEPTED, _E.CANCEL): _S.CANCELED,
    (_S.ACCEPTED, _E.EXPIRE): _S.EXPIRED,
    # Brokers accept first and reject later, when the venue refuses.
    (_S.ACCEPTED, _E.REJECT): _S.REJECTED,
    (_S.PARTIALLY_FILLED, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
    (_S.PARTIALLY_FILLED, _E.FILL): _S.FILLED,
    (_S.PARTIALLY_FILLED, _E.OVER_FILL): _S.FILLED,
    (_S.PARTIALLY_FILLED, _E.REQUEST_CANCEL): _S.PENDING_CANCEL,
    (_S.PARTIALLY_FILLED, _E.CANCEL): _S.CANCELED,
    (_S.PARTIALLY_FILLED, _E.EXPIRE): _S.EXPIRED,
    (_S.PENDING_CANCEL, _E.CANCEL): _S.CANCELED,
    (_S.PENDING_CANCEL, _E.EXPIRE): _S.EXPIRED,
    (_S.PENDING_CANCEL, _E.REJECT): _S.REJECTED,
    # Back to what it was before the cancel was asked for: the two events say which.
    (_S.PENDING_CANCEL, _E.REFUSE_CANCEL): _S.ACCEPTED,
    (_S.PENDING_CANCEL, _E.REFUSE_CANCEL_OF_REST): _S.PARTIALLY_FILLED,
    (_S.PENDING_CANCEL, _E.PARTIAL_FILL): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _E.FILL): _S.FILLED,
    (_S.PENDING_CANCEL, _E.OVER_FILL): _S.FILLED,
    # The broker took the order over into one with a new id. It lives on as it was; a cancel asked for is asked again.
    (_S.ACCEPTED, _E.REPLACE): _S.ACCEPTED,
    (_S.PARTIALLY_FILLED, _E.REPLACE): _S.PARTIALLY_FILLED,
    (_S.PENDING_CANCEL, _E.REPLACE): _S.PENDING_CANCEL,
    # The broker said "filled", and a bust had made its count smaller, before all of its executions were here.
    (_S.FILLED, _E.PARTIAL_FILL): _S.FILLED,
    (_S.FILLED, _E.FILL): _S.FILLED,
    # The broker executed more than was asked for. It is booked, because it happened; services stop and open a break.
    (_S.FILLED, _E.OVER_FILL): _S.FILLED,
    # The fill beat our cancel, or the broker reported the end of the order before its last executions.
    (_S.CANCELED, _E.PARTIAL_FILL): _S.CANCELED,
    (_S.CANCELED, _E.FILL): _S.FILLED,
    (_S.CANCELED, _E.OVER_FILL): _S.FILLED,
    (_S.EXPIRED, _E.PARTIAL_FILL): _S.EXPIRED,
    (_S.EXPIRED, _E.FILL): _S.FILLED,
    (_S.EXPIRED, _E.OVER_FILL): _S.FILLED,
    # A late arrival: the broker had it after all. Services open a critical break beside it.
    (_S.NEVER_ARRIVED, _E.ACCEPT): _S.ACCEPTED,
    (_S.NEVER_ARRIVED, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
    (_S.NEVER_ARRIVED, _E.FILL): _S.FILLED,
    (_S.NEVER_ARRIVED, _E.OVER_FILL): _S.FILLED,
    # It arrived late and the broker refused it: nothing of it is live.
    (_S.NEVER_ARRIVED, _E.REJECT): _S.REJECTED,
}


class IllegalTransitionError(TradingbotError):
    """An event that the table does not allow in this state. It is never repaired silently."""

    code = "illegal_transition"


def is_legal(status: str, event: Event) -> bool:
    return (Status(status), event) in NEXT


def next_status(status: str, event: Event) -> Status:
    """The state after ``event``; raises :class:`IllegalTransitionError` when the table has no such row."""
    found = NEXT.get((Status(status), event))
    if found is None:
        raise IllegalTransitionError(f"an order that is {status} cannot {event}", status=status, event=str(event))
    return found


def is_terminal(status: str) -> bool:
    return Status(status) in TERMINAL
