"""The life of a break as a table: what is absent is illegal. Maker is not checker: who resolves does not close.

open -> assigned -> explained | force_matched | written_off -> closed
"""

from __future__ import annotations

from enum import StrEnum

from backend.tradingbot.core.errors import ConflictError, NotAllowedError
from backend.tradingbot.core.people import same_person


class BreakStatus(StrEnum):
    OPEN = "open"
    ASSIGNED = "assigned"
    EXPLAINED = "explained"
    FORCE_MATCHED = "force_matched"
    WRITTEN_OFF = "written_off"
    CLOSED = "closed"


class BreakStep(StrEnum):
    ASSIGN = "assign"
    EXPLAIN = "explain"
    FORCE_MATCH = "force_match"
    WRITE_OFF = "write_off"
    CLOSE = "close"
    SEND_BACK = "send_back"
    REOPEN = "reopen"
    CLEAR = "clear"
    CHANGE = "change"


RESOLVED = frozenset({BreakStatus.EXPLAINED, BreakStatus.FORCE_MATCHED, BreakStatus.WRITTEN_OFF})
# What is booked when a second person closes: the broker's word is taken into our books.
BOOKED = frozenset({BreakStatus.FORCE_MATCHED, BreakStatus.WRITTEN_OFF})

_S, _E = BreakStatus, BreakStep
NEXT: dict[tuple[BreakStatus, BreakStep], BreakStatus] = {
    **{(status, _E.ASSIGN): _S.ASSIGNED for status in (_S.OPEN, _S.ASSIGNED)},
    **{(status, _E.EXPLAIN): _S.EXPLAINED for status in (_S.OPEN, _S.ASSIGNED)},
    **{(status, _E.FORCE_MATCH): _S.FORCE_MATCHED for status in (_S.OPEN, _S.ASSIGNED)},
    **{(status, _E.WRITE_OFF): _S.WRITTEN_OFF for status in (_S.OPEN, _S.ASSIGNED)},
    **{(status, _E.CLOSE): _S.CLOSED for status in RESOLVED},
    **{(status, _E.SEND_BACK): _S.ASSIGNED for status in RESOLVED},
    # The evidence changed after somebody had explained it: the explanation was of other figures.
    **{(status, _E.CHANGE): _S.ASSIGNED for status in RESOLVED},
    (_S.OPEN, _E.CHANGE): _S.OPEN,
    (_S.ASSIGNED, _E.CHANGE): _S.ASSIGNED,
    (_S.CLOSED, _E.REOPEN): _S.OPEN,
    # A later run no longer finds it: a correction or a late report has explained it.
    **{(status, _E.CLEAR): _S.CLOSED for status in (_S.OPEN, _S.ASSIGNED, *RESOLVED)},
}


def next_break_status(status: str, step: BreakStep) -> BreakStatus:
    """The status after ``step``; raises ConflictError ``break_step_illegal``."""
    found = NEXT.get((BreakStatus(status), step))
    if found is None:
        raise ConflictError(
            f"a break that is {status} cannot {step.replace('_', ' ')}",
            code="break_step_illegal",
            remedy="open or assigned breaks are resolved, resolved ones are closed or sent back, closed ones reopened",
        )
    return found


def check_second_person(maker: str, checker: str) -> None:
    """Raises NotAllowedError ``maker_is_checker`` when both are the same person, by whatever door."""
    if same_person(maker, checker):
        raise NotAllowedError(
            f"{checker} has resolved it and cannot close it", code="maker_is_checker", remedy="ask a second person"
        )
