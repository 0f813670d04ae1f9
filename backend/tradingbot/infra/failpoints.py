"""Named points of the order path at which a process can be made to fail from outside, while it runs.

For chaos tests only: nothing happens unless FAILPOINTS named a directory when this module was imported, and with
ENVIRONMENT=production that is refused. Invariants: an armed failure strikes at most once, at the next hit of its point
in whichever process comes first; every hit is written down before anything happens; off, a hit looks one global up.
The directory holds ``armed/<point>/<token>``, moved to ``claimed/<token>`` by the process that it strikes, which then
writes ``struck/<token>``; ``released/<token>`` to end a pause; and ``hits.jsonl``, to which every hit appends one line.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

POINTS: Mapping[str, str] = {
    "submit.id_claimed": "the order's row is inserted and not committed; a second request with the id waits for it",
    "submit.before_intent_commit": "decided, reserved and journalled, and not committed",
    "submit.before_send": "the intent is committed, nothing is sent",
    "submit.send_begins": "past the last look at the time, right before the broker is called",
    "broker.mid_send": "the request is written, the answer is not read",
    "broker.answer_lost": "the broker has answered; whoever asked does not hear it",
    "submit.before_record": "the answer is read, and the second transaction has not begun",
    "record.before_commit": "the second transaction has written everything, and has not committed",
    "recovery.before_record": "an order in doubt was looked up, and what was found is not recorded",
    "cancel.before_send": "the wish to cancel is committed, the broker is not asked",
    "cancel.mid_send": "the request to cancel is written, the answer is not read",
    "fills.before_commit": "an execution is booked, and not committed",
    "fills.before_ack": "an execution is here before the answer to its order",
    "recon.begun": "a reconciliation run is marked as running, nothing is asked yet",
    "recon.statement_stored": "the broker's statement is stored, nothing is compared",
    "recon.before_store": "a session is compared, nothing of it is stored",
    "recon.before_commit": "everything a run found is written, and not committed",
}
MAX_PAUSE_SECONDS = 60.0
_POLL_SECONDS = 0.01
_REAL_TIME = time.time


class Action(StrEnum):
    """What an armed failure does to the process that hits its point."""

    KILL = "kill"  # SIGKILL to itself
    STOP = "stop"  # SIGSTOP to itself; someone outside has to send SIGCONT
    RAISE = "raise"  # the exception that the point names
    PAUSE = "pause"  # wait until it is released, at most `seconds`
    STEP_CLOCK = "step_clock"  # time.time() of this process jumps by `seconds`
    PASS = "pass"  # nothing was armed: what the log says then


class FailpointError(RuntimeError):
    """The failure that an armed ``raise`` makes, where the point names no other."""


@dataclass(frozen=True)
class Hit:
    """One line of the log; ``token`` is empty when nothing was armed, ``subject`` is the order's id or empty."""

    at: float
    pid: int
    point: str
    action: Action
    token: str
    subject: str


class Failpoints:
    """One directory of fail points, from the inside and from the outside. Raises OSError when it cannot be written."""

    def __init__(self, directory: str | Path) -> None:
        self._root = Path(directory)
        for name in ("armed", "claimed", "struck", "released"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        self._log = self._root / "hits.jsonl"
        self._log.touch()

    def arm(self, point: str, action: Action, seconds: float = 0.0) -> str:
        """Let the next hit of ``point`` fail; returns the token of this failure. ValueError for an unknown point."""
        if point not in POINTS:
            raise ValueError(f"there is no fail point {point!r}")
        token = f"{time.monotonic_ns():020d}-{secrets.token_hex(4)}"
        place = self._root / "armed" / point
        place.mkdir(exist_ok=True)
        self._write(place / token, {"action": Action(action), "seconds": seconds})
        return token

    def disarm(self, token: str) -> bool:
        """Take a failure back. False when it has struck, or is striking, already."""
        for armed in (self._root / "armed").glob(f"*/{token}"):
            try:
                armed.unlink()
            except FileNotFoundError:
                return False
            return True
        return False

    def disarm_all(self) -> int:
        """Take everything back and end every pause; how many had not struck."""
        taken = sum(self.disarm(armed.name) for armed in (self._root / "armed").glob("*/*"))
        for claimed in (self._root / "claimed").iterdir():
            self.release(claimed.name)
        return taken

    def release(self, token: str) -> None:
        """End the pause that ``token`` began."""
        (self._root / "released" / token).touch()

    def hits(self) -> Iterator[Hit]:
        """Every hit so far, oldest first; a last line that is still being written is left out."""
        with open(self._log) as log:
            for line in log:
                if line.endswith("\n"):
                    row = json.loads(line)
                    yield Hit(**{**row, "action": Action(row["action"])})

    def struck(self, token: str) -> Hit | None:
        """The hit at which the failure ``token`` struck, or is about to; None while it has not."""
        try:
            row = json.loads((self._root / "struck" / token).read_text())
        except FileNotFoundError:
            return None
        return Hit(**{**row, "action": Action(row["action"])})

    def hit(self, point: str, subject: str, raises: type[Exception]) -> None:
        """Write the hit down and let the oldest failure armed for ``point`` strike, if there is one."""
        if point not in POINTS:
            raise ValueError(f"there is no fail point {point!r}")
        token, order = self._claim(point)
        action = Action(order.get("action", Action.PASS))
        hit = Hit(_REAL_TIME(), os.getpid(), point, action, token, subject)
        self._note(hit)
        if token:
            self._write(self._root / "struck" / token, vars(hit))
        _strike(action, float(order.get("seconds", 0.0)), self._root / "released" / token, raises, point)

    def _claim(self, point: str) -> tuple[str, dict[str, Any]]:
        try:
            tokens = sorted(os.listdir(self._root / "armed" / point))
        except FileNotFoundError:
            return "", {}
        for token in tokens:
            mine = self._root / "claimed" / token
            try:
                os.rename(self._root / "armed" / point / token, mine)
            except FileNotFoundError:
                continue  # another process was faster
            found: dict[str, Any] = json.loads(mine.read_text())
            return token, found
        return "", {}

    def _write(self, place: Path, content: Mapping[str, Any]) -> None:
        """Whole or not there."""
        draft = self._root / f"draft-{secrets.token_hex(8)}"
        draft.write_text(json.dumps(content))
        draft.rename(place)

    def _note(self, hit: Hit) -> None:
        """One write of one short line: appends of many processes do not mix."""
        line = json.dumps(vars(hit)).encode() + b"\n"
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _strike(action: Action, seconds: float, released: Path, raises: type[Exception], point: str) -> None:
    if action is Action.KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    elif action is Action.STOP:
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(_POLL_SECONDS)  # the stop reaches this thread a moment later than the call returns
    elif action is Action.RAISE:
        raise raises(f"fail point {point}")
    elif action is Action.PAUSE:
        deadline = time.monotonic() + min(seconds or MAX_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        while not released.exists() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    elif action is Action.STEP_CLOCK:
        _step_clock(seconds)


def _step_clock(seconds: float) -> None:
    """Shift ``time.time`` of this process, as a step of the machine's clock would; steps add up."""
    before = time.time
    time.time = lambda: before() + seconds


def configured(environment: Mapping[str, str]) -> Failpoints | None:
    """The fail points that ``environment`` asks for. RuntimeError when it asks for them in production."""
    directory = environment.get("FAILPOINTS")
    if not directory:
        return None
    if environment.get("ENVIRONMENT") == "production":
        raise RuntimeError("FAILPOINTS must not be set with ENVIRONMENT=production; unset it")
    return Failpoints(directory)


_active = configured(os.environ)


def active() -> bool:
    """True when this process can be made to fail."""
    return _active is not None


def hit(point: str, subject: str = "", raises: type[Exception] = FailpointError) -> None:
    """Pass ``point`` with the order ``subject``; off, this does nothing. An armed ``raise`` raises ``raises``."""
    if _active is not None:
        _active.hit(point, subject, raises)
