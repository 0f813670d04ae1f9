"""A person says what became of an order in doubt, because the broker's desk told them and its API does not.

Invariants: only an order in doubt can be attested, or one that was given up and still holds its reservation; what the
broker itself says beats what anyone says; with ATTEST_SECOND_PERSON nothing happens before another person has said the
same; who, why and when are journalled.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

from backend.tradingbot.brokers.alpaca import AlpacaClient
from backend.tradingbot.brokers.answers import BrokerQueryError
from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import Clock
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError
from backend.tradingbot.core.people import same_person
from backend.tradingbot.execution.order_state import Event, Status
from backend.tradingbot.models import Attestation, Order, RiskRow
from backend.tradingbot.models.attestations import ATTESTED_OUTCOMES
from backend.tradingbot.services import adoption, journal
from backend.tradingbot.services.booking import find_order
from backend.tradingbot.services.locks import locked_order
from backend.tradingbot.services.order_life import noting_refusals, transition

EVENTS = {"accepted": Event.ACCEPT, "rejected": Event.REJECT, "never_arrived": Event.GIVE_UP}


def attest(
    order: Order, *, outcome: Any, reason: Any, actor: str, clock: Clock, broker_order_id: Any = ""
) -> tuple[Order, Attestation]:
    """Attest ``outcome`` for ``order``, or confirm what another person attested; what stands afterwards.

    Raises InvalidInputError naming every wrong field; ConflictError ``order_found`` when the broker has the order after
    all, ``order_not_in_doubt``, ``attestation_differs``, ``broker_order_id_taken``.
    """
    said = _checked(outcome, reason, broker_order_id)
    _ask_broker(order, said, clock)
    with noting_refusals(order, actor, clock), locked_order(order.pk) as (row, current):
        overdue = current.status == Status.PENDING_SUBMIT and current.send_by and current.send_by < clock.now()
        given_up = current.watch_until is not None and said["outcome"] != "never_arrived"
        if current.status != Status.IN_DOUBT and not overdue and not given_up:
            raise _not_in_doubt(current)
        if overdue:
            evidence = {"code": "sender_gone", "message": "no answer was recorded in time"}
            transition(row, current, Event.LOSE_SIGHT, evidence, cause=actor, clock=clock)
        attestation = _take(row, current, said, actor, clock)
        if attestation.confirmed_by or not settings.TRADINGBOT.attest_second_person:
            _apply(row, current, attestation, actor, clock)
    return current, attestation


def _checked(outcome: Any, reason: Any, broker_order_id: Any) -> dict[str, str]:
    errors = FieldErrors()
    if outcome not in ATTESTED_OUTCOMES:
        errors.add("outcome", outcome, "is not an outcome", "use " + ", ".join(ATTESTED_OUTCOMES))
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 500 or not reason.isprintable():
        errors.add("reason", reason, "must be 1 to 500 printable characters", "say who told you, for the record")
    if outcome == "accepted" and not broker_order_id:
        errors.add("broker_order_id", broker_order_id, "is missing", "an accepted order has an id at the broker")
    if outcome != "accepted" and broker_order_id:
        errors.add("broker_order_id", broker_order_id, "does not fit the outcome", "leave it out")
    if broker_order_id and not (
        isinstance(broker_order_id, str) and len(broker_order_id) <= 64 and broker_order_id.isprintable()
    ):
        errors.add("broker_order_id", broker_order_id, "must be 1 to 64 printable characters", "copy the broker's id")
    if errors:
        raise InvalidInputError(errors.errors)
    return {"outcome": str(outcome), "reason": reason.strip(), "broker_order_id": broker_order_id or ""}


def _ask_broker(order: Order, said: dict[str, str], clock: Clock) -> None:
    """What the broker itself knows is taken in, and nobody needs to attest it. No answer leaves it to the person."""
    client: AlpacaClient = execution_client(settings.TRADINGBOT)
    try:
        found = client.get_order_by_client_id(order.client_order_id)
        named = client.get_order(said["broker_order_id"]) if said["broker_order_id"] else None
    except BrokerQueryError:
        return
    if found is None and named is not None and named.client_order_id != order.client_order_id:
        raise ConflictError(
            f"the broker's {named.broker_order_id} is the order {named.client_order_id}",
            code="broker_order_id_taken",
            remedy="ask the broker for the id of this order",
        )
    if found is None:
        return
    adoption.adopt(order.account, client, client.latest_of(found), clock=clock)
    raise ConflictError(
        f"the broker has {order.client_order_id} as {found.broker_order_id}: it was taken in",
        code="order_found",
        remedy="read the order; there is nothing left to attest",
    )


def _not_in_doubt(order: Order) -> ConflictError:
    return ConflictError(
        f"{order.client_order_id} is {order.status}",
        code="order_not_in_doubt",
        remedy="only an order in doubt, or one that was given up and is still watched, can be attested",
    )


def _take(row: RiskRow, order: Order, said: dict[str, str], actor: str, clock: Clock) -> Attestation:
    """The attestation as it stands after ``actor`` said this: new, unchanged, replaced by its author, or confirmed."""
    waiting = Attestation.objects.filter(order=order, applied_at=None, overtaken_at=None).first()
    now = clock.now()
    same = waiting is not None and (waiting.outcome, waiting.broker_order_id) == (
        said["outcome"],
        said["broker_order_id"],
    )
    if waiting is not None and same_person(waiting.attested_by, actor):
        if same:
            return waiting
        waiting.overtaken_at = now
        waiting.save(update_fields=["overtaken_at"])
    elif waiting is not None:
        if not same:
            raise ConflictError(
                f"{waiting.attested_by} attested {waiting.outcome} {waiting.broker_order_id}".strip(),
                code="attestation_differs",
                remedy="agree with each other first; whoever attested can attest anew",
            )
        waiting.confirmed_by, waiting.confirmed_at = actor, now
        waiting.save(update_fields=["confirmed_by", "confirmed_at"])
        _note(row, order, "attestation_confirmed", waiting, actor, said["reason"], clock)
        return waiting
    attestation = Attestation.objects.create(order=order, attested_by=actor, attested_at=now, **said)
    _note(row, order, "attested", attestation, actor, said["reason"], clock)
    return attestation


def _note(
    row: RiskRow, order: Order, kind: str, attestation: Attestation, actor: str, reason: str, clock: Clock
) -> None:
    data = {"outcome": attestation.outcome, "broker_order_id": attestation.broker_order_id, "reason": reason}
    journal.append(row, kind=kind, actor=actor, subject=order.client_order_id, data=data, at=clock.now())


def _apply(row: RiskRow, order: Order, attestation: Attestation, actor: str, clock: Clock) -> None:
    if attestation.broker_order_id:
        if find_order(order.account, attestation.broker_order_id) is not None:
            raise ConflictError(
                f"another order here is the broker's {attestation.broker_order_id}",
                code="broker_order_id_taken",
                remedy="ask the broker for the id of this order",
            )
        order.broker_order_id = attestation.broker_order_id
    evidence = {
        "code": "attested", "message": attestation.reason, "attested_by": attestation.attested_by,
        "confirmed_by": attestation.confirmed_by, "outcome": attestation.outcome,
    }  # fmt: skip
    transition(row, order, EVENTS[attestation.outcome], evidence, cause=actor, clock=clock)
    attestation.applied_at = clock.now()
    attestation.save(update_fields=["applied_at"])
