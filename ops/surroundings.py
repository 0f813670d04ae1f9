"""What the stack stands on before it starts anything: its port, its directory, the lock on it, the secrets kept in it.

Invariants: one stack a STATE_DIR; what cannot be had is one clear sentence; a secret is readable by its owner only.
"""

import fcntl
import os
import secrets
import socket
from pathlib import Path
from typing import IO

from ops import monitoring
from ops.servers import write_private


class Refused(Exception):
    """The stack cannot start or go on; the message is one clear sentence for the person at the terminal."""


def kept_secrets(path: Path) -> dict[str, str]:
    """The secrets of this STATE_DIR: made at the first start, readable by the owner only, the same ever after."""
    kept: dict[str, str] = {}
    if path.exists():
        lines = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        kept = {name: value.strip("'") for name, value in lines}
    made = {
        "SECRET_KEY": secrets.token_urlsafe(64),
        "ALPACA_API_KEY": f"PK{secrets.token_hex(9).upper()}",
        "ALPACA_SECRET_KEY": secrets.token_urlsafe(30),
    }
    if made.keys() - kept.keys():
        kept = made | kept
        write_assignments(path, kept)
    return kept


def write_assignments(path: Path, values: dict[str, str]) -> None:
    """Write shell assignments that only the owner can read; the file is whole or not there."""
    temporary = path.with_suffix(".new")
    write_private(temporary, "".join(f"{name}='{value}'\n" for name, value in values.items()))
    temporary.replace(path)


def checked_surroundings() -> tuple[Path, int, IO[str], socket.socket]:
    """(STATE_DIR, PORT, the held lock, the listening socket). Raises Refused with one clear sentence."""
    text = os.environ.get("PORT") or "8000"
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise Refused(f"PORT must be a number from 1 to 65535, not {text!r}")
    if os.environ.get("FEED") == "1" and (os.environ.get("BROKER") or "paper") != "paper":
        raise Refused("FEED=1 invents prices and is only for BROKER=paper")
    if problem := monitoring.fault(os.environ):
        raise Refused(problem)
    state = Path(os.environ.get("STATE_DIR") or ".state").absolute()
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = open(state / "stack.lock", "a+")  # noqa: SIM115 - held until the process ends
    except OSError as error:
        raise Refused(f"STATE_DIR {state} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Refused(f"another stack already runs on {state}") from None
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", int(text)))
        # From here on the port is ours, and a request that comes while the web server starts again waits for it.
        listener.listen(512)
    except OSError as error:
        raise Refused(f"port {text} cannot be used ({error.strerror}); choose another: make up PORT=8001") from None
    return state, int(text), lock, listener
