"""The file of anchors: only ever appended to, one line an anchor, on disk before it counts.

Invariants: one writer at a time (a lock the kernel frees when the writer dies); a line is written by one call and
synced, and so is the directory when the file is new; nothing that stands in it is changed or removed, not even half a
line. The file may be made append-only for root as well (``chattr +a``).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 65_536


class AnchorFile:
    """The anchors at ``path``. OSError passes through: a file that cannot be written must be noticed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def writing(self) -> Iterator[AnchorFile]:
        """Be the only writer; the file and its folder are made when absent."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if fresh:
                _sync_folder(self.path.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._descriptor = descriptor
            yield self
        finally:
            os.close(descriptor)

    def append(self, line: str) -> None:
        """Write one line, within ``writing``; it is on disk when this returns."""
        torn = bool(self._tail(1)) and self._tail(1) != b"\n"
        data = (b"\n" if torn else b"") + line.encode() + b"\n"
        if os.write(self._descriptor, data) != len(data):
            raise OSError(f"{self.path} took only a part of an anchor: is the disk full?")
        os.fsync(self._descriptor)

    def lines(self) -> Iterator[str]:
        """Every line from the first one on; nothing when there is no file."""
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip("\n")

    def lines_from_the_end(self) -> Iterator[str]:
        """The same, the last one first, without reading what comes before."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            position, rest = file.seek(0, os.SEEK_END), b""
            while position > 0:
                start = max(0, position - BLOCK)
                file.seek(start)
                parts = (file.read(position - start) + rest).split(b"\n")
                rest, position = parts[0], start
                yield from (part.decode(errors="replace") for part in reversed(parts[1:]) if part.strip())
            if rest.strip():
                yield rest.decode(errors="replace")

    def _tail(self, size: int) -> bytes:
        with open(self.path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            return file.read()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
