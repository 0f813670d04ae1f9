"""The file of open breaks behind ``EODReconciler``: one JSON document, replaced whole.

Invariants: a write is in a temporary file, synced, then renamed, so that a reader sees the old or the new document and
nothing between; processes take turns by a lock file beside it; what cannot be read is pending, never clean.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend.tradingbot.core.clock import Clock, rfc3339
from backend.tradingbot.core.errors import TradingBlockedError

log = logging.getLogger(__name__)
VERSION = 1


class ReconFileCorruptError(TradingBlockedError):
    """The file of open breaks is damaged, so nobody knows what is open."""

    code = "recon_file_corrupt"

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"RECON_FILE_CORRUPT: {path}: {problem}", remedy="restore the file from a copy, then run again"
        )


class BreaksFile:
    """Open breaks keyed by kind, id and text, with when they were first and last seen, and what was resolved."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path, self._clock = Path(path), clock

    def record(self, found: Iterable[tuple[str, str, str, bool]], seen: Collection[str]) -> None:
        """Merge one run's ``(kind, id, text, overfilled)``: what is about an id in ``seen`` and was not found again is
        explained; all else stays."""
        now = rfc3339(self._clock.now())
        with self._locked():
            document = self._read() or {"version": VERSION, "runs": 0, "open": [], "resolved": []}
            before = {(row["kind"], row["text"]): row for row in document["open"]}
            rows = []
            for kind, subject, text, overfilled in found:
                old = before.pop((kind, text), None)
                first = old["first_seen"] if old else now
                row = {"kind": kind, "id": subject, "text": text, "overfilled": overfilled}
                rows.append({**row, "first_seen": first, "last_seen": now})
            for row in before.values():
                if row["id"] in seen:
                    document["resolved"].append({**row, "at": now, "by": "reconciliation", "reason": "explained"})
                else:
                    rows.append(row)
            document.update(open=rows, runs=document["runs"] + 1, last_run_at=now)
            self._write(document)

    def pending(self, warnings: Collection[str]) -> bool:
        try:
            document = self._read()
        except ReconFileCorruptError as error:
            log.error("recon_file_corrupt %s", error.message)
            return True
        if document is None:
            return True
        return any(row["kind"] not in warnings or row["overfilled"] for row in document["open"])

    def texts(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in (self._read() or {"open": []})["open"]:
            found.setdefault(row["kind"], []).append(row["text"])
        return found

    def resolve(self, subject: str, actor: str, reason: str) -> int:
        with self._locked():
            document = self._read()
            if document is None:
                return 0
            gone = [row for row in document["open"] if row["id"] == subject]
            now = rfc3339(self._clock.now())
            document["open"] = [row for row in document["open"] if row["id"] != subject]
            document["resolved"] += [{**row, "at": now, "by": actor, "reason": reason} for row in gone]
            if gone:
                self._write(document)
            return len(gone)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path.with_name(self._path.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, Any] | None:
        """The document, None when there is none; raises when it is not one of ours."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            document = json.loads(raw)
            good = document["version"] == VERSION and isinstance(document["runs"], int)
            rows = [*document["open"], *document["resolved"]]
            good = good and all({"kind", "id", "text", "overfilled", "first_seen"} <= row.keys() for row in rows)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReconFileCorruptError(self._path, f"is not a file of breaks ({type(error).__name__})") from None
        if not good:
            raise ReconFileCorruptError(self._path, "is not a file of breaks of this version")
        return dict(document)

    def _write(self, document: dict[str, Any]) -> None:
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            with open(fresh, "w") as file:
                json.dump(document, file, indent=1, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self._path)
        finally:
            fresh.unlink(missing_ok=True)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
