"""What the broker last said of an order, merged and judged. Pure, and the same whatever the order of arrival.

Invariants: merging is commutative, associative and idempotent, so that late, doubled and reordered news end in the same
view; an order is ended only when every execution that the broker counts for it is booked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from backend.tradingbot.execution.order_state import WORKING, Event, Status

# The broker's words that end an order. Every other word (done_for_day, calculated, stopped, one that is new) leaves it.
ENDED = {
    "filled": Event.FILL,
    "canceled": Event.CANCEL,
    "expired": Event.EXPIRE,
    "rejected": Event.REJECT,
}
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class View:
    """The broker's word for one broker order id, how much it counts as filled, and when it last changed."""

    status: str
    filled_qty: Decimal
    updated_at: datetime | None = None

    def _weight(self) -> tuple[bool, datetime, Decimal, str]:
        return (self.status in ENDED, self.updated_at or _NEVER, self.filled_qty, self.status)

    def merged(self, other: View | None) -> View:
        """The newer of two: an ended view beats one that is not, then the later change, then the larger quantity."""
        return self if other is None or self._weight() >= other._weight() else other


@dataclass(frozen=True)
class Standing:
    """Where an order stands here. ``reported_qty`` adds up its executions, busted ones too; ``booked_qty`` is what is
    booked under the broker's present id alone: the same sum, or what corrections made of it when that is more."""

    status: Status
    qty: Decimal
    reported_qty: Decimal
    booked_qty: Decimal


def fill_event(standing: Standing, executed: Decimal) -> Event:
    """Which event an execution of ``executed`` is, before it is added up."""
    total = standing.reported_qty + executed
    if total > standing.qty:
        return Event.OVER_FILL
    return Event.FILL if total == standing.qty else Event.PARTIAL_FILL


def due_event(standing: Standing, view: View | None) -> Event | None:
    """The next event that ``view`` makes of the order, or None when there is nothing to do yet."""
    if view is None:
        return None
    if standing.status in (Status.PENDING_SUBMIT, Status.IN_DOUBT, Status.NEVER_ARRIVED):
        nothing = standing.reported_qty == 0 and view.filled_qty == 0
        return Event.REJECT if view.status == "rejected" and nothing else Event.ACCEPT
    event = ENDED.get(view.status)
    if event is None or standing.status not in WORKING or standing.booked_qty < view.filled_qty:
        return None
    if event is Event.REJECT and standing.reported_qty > 0:
        return Event.CANCEL  # the venue refused what was left of it
    return event


def refusal_event(reported_qty: Decimal) -> Event:
    """The refused cancel leads back to what the order was before it was asked for."""
    return Event.REFUSE_CANCEL_OF_REST if reported_qty > 0 else Event.REFUSE_CANCEL
