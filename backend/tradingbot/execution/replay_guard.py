"""The exactly-once guard for plain Python: an order id that was claimed or recorded once is never sent again.

Invariants: a claim is on disk (fsync) before it is answered; of any number of processes that claim one id, exactly one
is told True; what cannot be read for certain raises and so stops the sending. The file format and the telling of a torn
line from damage live in ``replay_file``.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import FieldError, InvalidInputError
from backend.tradingbot.execution.replay_file import Entry, ReplayFile, ReplayGuardCorruptError

__all__ = ["MAX_ID_LENGTH", "TERMINAL_STATES", "ReplayGuard", "ReplayGuardCorruptError"]

log = logging.getLogger(__name__)

MAX_ID_LENGTH = 128
MAX_STATE_LENGTH = 64
CLAIMED = "pending_submit"
# Both spellings of cancelled: brokers use either, and this guard keeps the broker's own word.
TERMINAL_STATES = frozenset({"denied", "filled", "canceled", "cancelled", "expired", "rejected", "never_arrived"})
_SECONDS_A_DAY = 86_400.0


class HasClientOrderId(Protocol):
    """Anything that names itself by a client order id."""

    @property
    def client_order_id(self) -> str: ...


class ReplayGuard:
    """Remembers every client order id in an append-only file at ``path``, shared by any number of guards.

    Raises ``REPLAY_GUARD_CORRUPT`` (:class:`ReplayGuardCorruptError`) from any call that finds the file damaged, and
    ``OSError`` when the disk is full or cannot be written; in both cases nothing was claimed. Thread-safe.
    """

    def __init__(self, path: str | os.PathLike[str] = "./.state/replay_guard.json", *, clock: Clock = SYSTEM_CLOCK):
        self.path = os.fspath(path)
        self._clock = clock
        self._threads = threading.RLock()
        self._file = ReplayFile(os.path.realpath(self.path))
        with self._locked():
            pass

    def seen(self, client_order_id: str) -> bool:
        """True when the id was ever claimed or recorded, by any guard on this path."""
        _check_id(client_order_id)
        with self._locked() as entries:
            return client_order_id in entries

    def record(self, client_order_id: str, state: str) -> None:
        """Write down ``state`` for the id; a later record overwrites. On disk when this returns."""
        _check_id(client_order_id)
        _check_text("state", state, MAX_STATE_LENGTH)
        with self._locked():
            self._file.append(Entry(client_order_id, state, self._clock.time()))

    def get_state(self, client_order_id: str) -> str | None:
        """The last state recorded for the id, or None when it was never seen."""
        _check_id(client_order_id)
        with self._locked() as entries:
            entry = entries.get(client_order_id)
            return entry.state if entry else None

    def should_process_order(self, order: HasClientOrderId) -> bool:
        """Claim the order's id: True for exactly one caller ever, whatever the order's other fields say."""
        client_order_id = order.client_order_id
        _check_id(client_order_id)
        with self._locked() as entries:
            if client_order_id in entries:
                return False
            self._file.append(Entry(client_order_id, CLAIMED, self._clock.time()))
            return True

    def clear(self) -> None:
        """Forget every id, on purpose. What was forgotten goes to the archive beside the file."""
        with self._locked() as entries:
            self._file.forget(list(entries))

    def cleanup_old_orders(self, max_age_days: float = 30) -> int:
        """Move terminal ids last recorded at least ``max_age_days`` ago to the archive; returns how many.

        An id that may still be working stays, however old it is.
        """
        if not math.isfinite(max_age_days) or max_age_days < 0:
            raise ValueError("max_age_days must be zero or more")
        oldest = self._clock.time() - max_age_days * _SECONDS_A_DAY
        with self._locked() as entries:
            old = [name for name, entry in entries.items() if entry.state in TERMINAL_STATES and entry.at <= oldest]
            if old:
                self._file.forget(old)
            return len(old)

    def status(self) -> dict[str, Any]:
        """``total_orders`` (ids known), ``state_file`` (as it was given) and ``file_exists``."""
        with self._locked() as entries:
            return {
                "total_orders": len(entries),
                "state_file": self.path,
                "file_exists": os.path.isfile(self.path),
            }

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Entry]]:
        """The only door to the entries: inside it they are as new as the file and nobody else can write."""
        with self._threads, self._file.locked():
            self._file.refresh()
            yield self._file.entries


def _check_id(value: object) -> None:
    _check_text("client_order_id", value, MAX_ID_LENGTH)


def _check_text(name: str, value: object, longest: int) -> None:
    """Refuse what could not be told apart in a log or a file: blank, overlong, or with control characters."""
    problems: list[tuple[str, Callable[[str], bool]]] = [
        ("is blank", lambda text: not text.strip()),
        (f"is longer than {longest} characters", lambda text: len(text) > longest),
        ("has control characters", lambda text: any(unicodedata.category(c) in _UNSAFE for c in text)),
    ]
    if not isinstance(value, str):
        problem = "is not a string"
    else:
        problem = next((said for said, is_wrong in problems if is_wrong(value)), "")
    if problem:
        remedy = f"send 1 to {longest} printable characters"
        raise InvalidInputError([FieldError(name, value, problem, remedy)], code=f"invalid_{name}")


# Control characters, lone surrogates (not encodable), and the two Unicode line ends.
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})
