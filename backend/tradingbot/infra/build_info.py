"""Which build is running: the stamp that every order and every log line bears, so that a day can be reproduced.

The answer is found once and cached: stamping an order starts no process. The repository asked is the package's own
checkout, never the working folder's. What cannot be found is ``unknown``; nothing is guessed. A dictionary handed in to
be stamped is never changed. The build's id, its time, its dirty mark, the lock file and the configuration together make
the build stamp, so that two records with one stamp were made by the same code, dependencies and settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backend.tradingbot.core.clock import rfc3339

UNKNOWN = "unknown"
SHA_VARIABLE = "WSB_GIT_SHA"
TIMESTAMP_VARIABLE = "WSB_BUILD_TIMESTAMP"
LOCK_FILE = "requirements.lock"
DIRTY = "-dirty"
_SAFE = re.compile(r"[A-Za-z0-9._+-]{1,64}")
_SHA_DIGITS = 12
_STAMP_DIGITS = 16
_config_hash = UNKNOWN
_GIT_SECONDS = 5
_PACKAGE = Path(__file__).resolve().parents[1]
_ROOT = _PACKAGE.parents[1]


@dataclass(frozen=True)
class _Build:
    id: str
    timestamp: str


def build_id() -> str:
    """``WSB_GIT_SHA`` when set, else the first 12 digits of the checkout's commit (``-dirty`` when changed), else
    ``unknown``. A value that is not 1 to 64 of ``A-Za-z0-9._+-`` would spoil log lines and is passed over."""
    return _current().id


def build_timestamp() -> str:
    """When this build was made (RFC 3339, UTC), not when it was asked: ``WSB_BUILD_TIMESTAMP``, else the time of a
    clean checkout's commit, else of the newest source file."""
    return _current().timestamp


def is_dirty() -> bool:
    """Whether the build was made from files that no commit has."""
    return build_id().endswith(DIRTY)


def version_info() -> dict[str, str]:
    """``build_id``, ``build_timestamp``, ``python_version`` and ``platform`` of the running process."""
    return {
        "build_id": build_id(),
        "build_timestamp": build_timestamp(),
        "python_version": platform.python_version(),
        "platform": platform.platform(),
    }


def lock_hash() -> str:
    """SHA-256, in hex, of the lock file that pins every dependency; ``unknown`` when it was not shipped."""
    return _file_hash(_ROOT / LOCK_FILE)


def declare_config(settings: Mapping[str, Any]) -> None:
    """Say what this process is configured with, once at its start: settings by name, none of them a secret."""
    global _config_hash
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    _config_hash = hashlib.sha256(text.encode()).hexdigest()


def config_hash() -> str:
    """SHA-256, in hex, of the settings that were declared (their secrets are no part of it); ``unknown`` before that,
    and in plain Python, which has none."""
    return _config_hash


def build_facts() -> dict[str, Any]:
    """What the stamp stands for: ``build_id``, ``build_timestamp``, ``dirty``, ``lock_hash`` and ``config_hash``."""
    return {
        "build_id": build_id(),
        "build_timestamp": build_timestamp(),
        "dirty": is_dirty(),
        "lock_hash": lock_hash(),
        "config_hash": config_hash(),
    }


def build_stamp() -> str:
    """``build_facts`` in 16 hex digits: what every record bears beside the build's id. Equal facts, equal stamp."""
    return _stamp_of(*build_facts().values())


@lru_cache(maxsize=64)
def _stamp_of(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:_STAMP_DIGITS]


def get_strategy_version(name: str) -> str:
    """``name@build_id``."""
    return f"{name}@{build_id()}"


def stamp_order(order: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``order`` that says which build made it: adds ``build_id`` and ``build_timestamp``."""
    return {**order, "build_id": build_id(), "build_timestamp": build_timestamp()}


def stamp_log_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``entry`` that says which build wrote it: adds ``build_id`` and ``build_timestamp``."""
    return {**entry, "build_id": build_id(), "build_timestamp": build_timestamp()}


class BuildStamper:
    """Stamps what one operation makes: ``with BuildStamper("trading") as stamper: stamper.stamp(order)``."""

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def stamp(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of ``data`` with ``build_id``, ``build_timestamp`` and ``operation_type``."""
        return {**stamp_order(data), "operation_type": self.operation}


def _current() -> _Build:
    return _find(os.environ.get(SHA_VARIABLE), os.environ.get(TIMESTAMP_VARIABLE))


@lru_cache(maxsize=16)
def _find(given_id: str | None, given_timestamp: str | None) -> _Build:
    """The build for these two settings; they are the key, so a changed environment is seen without a new search."""
    identity, committed = _checkout()
    stated = (given_id or "").strip()
    if _SAFE.fullmatch(stated):
        identity = stated
    moment = _parse_time(given_timestamp) or committed or _newest_source()
    return _Build(id=identity, timestamp=rfc3339(moment) or UNKNOWN)


@lru_cache(maxsize=1)
def _checkout() -> tuple[str, datetime | None]:
    """The id of the package's own checkout, and the time of its commit when nothing was changed since."""
    top = _git("rev-parse", "--show-toplevel")
    # A package installed below somebody else's repository must not borrow that repository's name.
    if top is None or Path(top).resolve() != _ROOT:
        return UNKNOWN, None
    head = _git("show", "-s", "--format=%H %cI", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=all", "--", ".")
    if not head or status is None:
        return UNKNOWN, None
    sha, _, committed = head.partition(" ")
    if _is_dirty(status):
        return sha[:_SHA_DIGITS] + DIRTY, None
    return sha[:_SHA_DIGITS], _parse_time(committed)


def _is_dirty(status: str) -> bool:
    """Changed tracked files count, and new ones where code is loaded from; a stray note beside them does not."""
    return any(not line.startswith("??") or line[3:].startswith("backend/") for line in status.splitlines())


def _git(*arguments: str) -> str | None:
    """What git printed, or None when there is no git, no checkout or no answer."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    # Only the line end goes: the first column of ``status --porcelain`` may be a blank.
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def _parse_time(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _newest_source() -> datetime | None:
    times = [path.stat().st_mtime for path in _PACKAGE.rglob("*.py")]
    return datetime.fromtimestamp(max(times), tz=UTC) if times else None


@lru_cache(maxsize=4)
def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return UNKNOWN
