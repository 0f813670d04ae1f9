"""When each API key was last used: noted in Valkey now and then, written to the database by beat.

Invariants: no request writes to the database for it; a process notes a key once in ``PAUSE_SECONDS``; a store that does
not answer keeps nobody waiting twice in ``SILENCE_SECONDS``, and refuses nobody. What is lost with the store is a
moment of use, never a right of a key.
"""

from __future__ import annotations

from datetime import datetime
from threading import Lock

from django.db.models import Q

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import UnavailableError
from backend.tradingbot.hot_state import hot_state
from backend.tradingbot.models import ApiKey

PAUSE_SECONDS, SILENCE_SECONDS = 10.0, 60.0


class Noted:
    """What this process noted, by the key's id, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._at: dict[int, float] = {}
        self._silent_until = float("-inf")

    def due(self, key_id: int, now: float) -> bool:
        """Whether the use of a key is to be noted now; a second thread that asks at the same time is told no."""
        with self._lock:
            if now < self._silent_until or now - self._at.get(key_id, float("-inf")) < PAUSE_SECONDS:
                return False
            self._at[key_id] = now
            return True

    def fall_silent(self, now: float) -> None:
        with self._lock:
            self._silent_until = now + SILENCE_SECONDS

    def forget(self) -> None:
        with self._lock:
            self._at.clear()
            self._silent_until = float("-inf")


NOTED = Noted()


def note(key: ApiKey, *, clock: Clock = SYSTEM_CLOCK) -> None:
    """``key`` was used now."""
    if NOTED.due(key.pk, clock.monotonic()):
        try:
            hot_state().note_key_use(key.pk, clock.now().isoformat())
        except UnavailableError:
            NOTED.fall_silent(clock.monotonic())


def flush() -> int:
    """Bring the database up to date; how many keys were. A moment never goes back."""
    try:
        used = hot_state().take_key_uses()
    except UnavailableError:
        return 0
    count = 0
    for key_id, at in used.items():
        moment = datetime.fromisoformat(at)
        older = Q(last_used_at__isnull=True) | Q(last_used_at__lt=moment)
        count += ApiKey.objects.filter(older, pk=key_id).update(last_used_at=moment)
    return count
