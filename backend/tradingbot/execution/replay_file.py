"""The file behind the replay guard: JSON lines, each with a checksum chained to the line before it.

Invariants: one append and one fsync a record, O(1) at any size; nothing is read or written without the inter-process
lock; an unterminated last line (its writer was never answered) is cut off, every other damage raises; a file that
vanished or was replaced by a stranger never makes this process forget what it knew. Only ``forget`` drops ids, and the
file it leaves bears the same lineage with a higher epoch, by which other guards know the forgetting was meant.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from backend.tradingbot.core.errors import TradingBlockedError

log = logging.getLogger(__name__)

_SUM_DIGITS = 16
_PREFIX = b'{"v":1,'


class ReplayGuardCorruptError(TradingBlockedError):
    """The guard's file is damaged: which ids were sent is no longer certain, so nothing may be sent."""

    code = "REPLAY_GUARD_CORRUPT"

    def __init__(self, path: str, what: str) -> None:
        super().__init__(
            f"{self.code}: {path}: {what}",
            remedy="compare the broker's orders with the file, restore it from a backup, and start again",
        )


@dataclass(frozen=True)
class Entry:
    """One id with its last state; ``at`` is when it was recorded, in seconds since the epoch."""

    client_order_id: str
    state: str
    at: float


@dataclass
class _Image:
    """What a run of lines says: entries by id, the header's lineage and epoch, and where the good bytes end."""

    entries: dict[str, Entry]
    lineage: str = ""
    epoch: int = 0
    checksum: str = ""
    end: int = 0


class ReplayFile:
    """The entries at ``path`` (absolute). Everything but the constructor is called inside ``locked()``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._image = _Image({})
        self._mark: tuple[int, int] = (-1, -1)

    def __del__(self) -> None:
        self._close()

    @property
    def entries(self) -> dict[str, Entry]:
        """Entries by id as of the last ``refresh``; not to be changed."""
        return self._image.entries

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock between processes. It lives beside the file, since the file itself can be replaced.

        The lock file is opened anew each time: a descriptor inherited over a fork would share its parent's lock.
        """
        descriptor = self._acquire()
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _acquire(self) -> int:
        lock_path = f"{self.path}.lock"
        while True:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                held = os.fstat(descriptor)
                with suppress(FileNotFoundError):
                    found = os.stat(lock_path)
                    # A lock on a deleted file keeps nobody out.
                    if (held.st_ino, held.st_dev) == (found.st_ino, found.st_dev):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def refresh(self) -> None:
        """Bring the entries up to the file; write the file anew when it is gone. Raises REPLAY_GUARD_CORRUPT."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self._replace(self.entries.values(), secrets.token_hex(8), 1)
            return
        if not stat.S_ISREG(found.st_mode):
            raise ReplayGuardCorruptError(self.path, "is not a regular file")
        if self._fd < 0 or not os.path.samestat(found, os.fstat(self._fd)):
            self._open_other()
        elif found.st_size == 0:
            self._replace(self.entries.values(), secrets.token_hex(8), 1)
        elif found.st_size < self._image.end:
            raise ReplayGuardCorruptError(self.path, "is shorter than what was written to it")
        elif found.st_size > self._image.end:
            self._image = self._read(self._fd, self._image)
            self._note_mark()
        elif (found.st_size, found.st_mtime_ns) != self._mark:
            self._adopt(self._fd, self._read(self._fd, _Image({})))

    def append(self, entry: Entry) -> None:
        """Add one record and fsync it. Raises OSError, with the record taken back, when it cannot be kept."""
        body = {"v": 1, "id": entry.client_order_id, "state": entry.state, "at": entry.at}
        line, checksum = _line(body, self._image.checksum)
        try:
            _write_all(self._fd, line)
            os.fsync(self._fd)
        except OSError:
            # Should this fail too, the next reader meets a torn line, or an id that counts as seen: both are safe.
            with suppress(OSError):
                os.ftruncate(self._fd, self._image.end)
                self._note_mark()
            raise
        self._image.checksum = checksum
        self._image.end += len(line)
        self._image.entries[entry.client_order_id] = entry
        self._note_mark()

    def forget(self, names: Iterable[str]) -> None:
        """Move ``names`` to the archive beside the file, then replace the file by one without them."""
        dropped = set(names)
        gone = [entry for name, entry in self.entries.items() if name in dropped]
        kept = [entry for name, entry in self.entries.items() if name not in dropped]
        if gone:
            self._archive(gone)
        self._replace(kept, self._image.lineage, self._image.epoch + 1)

    def _archive(self, gone: list[Entry]) -> None:
        descriptor = os.open(f"{self.path}.archive", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            bodies = ({"v": 1, "id": entry.client_order_id, "state": entry.state, "at": entry.at} for entry in gone)
            _write_all(descriptor, b"".join(_line(body, "")[0] for body in bodies))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _replace(self, entries: Iterable[Entry], lineage: str, epoch: int) -> None:
        """Put a whole new file in place, atomically: a crash leaves the old one or the new one."""
        image = _Image({entry.client_order_id: entry for entry in entries}, lineage, epoch)
        bodies: list[dict[str, Any]] = [{"v": 1, "lineage": lineage, "epoch": epoch}]
        bodies += [{"v": 1, "id": e.client_order_id, "state": e.state, "at": e.at} for e in image.entries.values()]
        lines = []
        for body in bodies:
            line, image.checksum = _line(body, image.checksum)
            lines.append(line)
        content = b"".join(lines)
        image.end = len(content)
        fresh = f"{self.path}.new"
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
            os.replace(fresh, self.path)
            _sync_folder(self.path)
        except BaseException:
            os.close(descriptor)
            raise
        self._adopt_descriptor(descriptor, image)

    def _open_other(self) -> None:
        """Read a file that is not the one this guard had open: its first, or one that took the place of that."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size == 0:
                os.close(descriptor)
                descriptor = -1
                self._replace(self.entries.values(), secrets.token_hex(8), 1)
                return
            image = self._read(descriptor, _Image({}))
        except BaseException:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        self._adopt(descriptor, image)

    def _adopt(self, descriptor: int, image: _Image) -> None:
        """Take over ``image``. Ids that it lacks are put back into it, unless a later epoch dropped them on purpose."""
        before = self._image
        meant = image.lineage == before.lineage and image.epoch > before.epoch
        self._adopt_descriptor(descriptor, image)
        if meant:
            return
        lost = [entry for name, entry in before.entries.items() if name not in image.entries]
        if lost:
            log.error("replay_guard_restored path=%s ids=%d", self.path, len(lost))
        try:
            for entry in lost:
                self.append(entry)
        except OSError:
            # Not all are back on disk: keep knowing them, and meet the file as a stranger's the next time.
            image.entries.update({entry.client_order_id: entry for entry in lost})
            self._close()
            raise

    def _adopt_descriptor(self, descriptor: int, image: _Image) -> None:
        if descriptor != self._fd:
            self._close()
        self._fd = descriptor
        self._image = image
        self._note_mark()

    def _read(self, descriptor: int, known: _Image) -> _Image:
        """``known`` carried on over the bytes after it; an unterminated last line is cut off the file."""
        content = _read_from(descriptor, known.end)
        whole, newline, tail = content.rpartition(b"\n")
        image = _Image(dict(known.entries) if not known.end else known.entries, known.lineage, known.epoch)
        image.checksum, image.end = known.checksum, known.end
        for line in (whole + newline).splitlines(keepends=True):
            self._take(image, line)
        if tail:
            self._cut(descriptor, image, tail)
        return image

    def _take(self, image: _Image, line: bytes) -> None:
        try:
            body = json.loads(line)
            expected, checksum = _line({name: value for name, value in body.items() if name != "sum"}, image.checksum)
            if expected != line:
                raise ValueError("checksum")
            if image.end == 0:
                image.lineage, image.epoch = str(body["lineage"]), int(body["epoch"])
            else:
                entry = Entry(str(body["id"]), str(body["state"]), float(body["at"]))
                image.entries[entry.client_order_id] = entry
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ReplayGuardCorruptError(self.path, f"the line at byte {image.end} cannot be trusted") from None
        image.checksum = checksum
        image.end += len(line)

    def _cut(self, descriptor: int, image: _Image, tail: bytes) -> None:
        """Cut the torn line off. What no interrupted append of ours leaves behind is damage instead.

        A file system may have grown the file before the bytes came: such a tail ends in, or is, zero bytes.
        """
        written = tail.rstrip(b"\0")
        ours = written.startswith(_PREFIX) or _PREFIX.startswith(written)
        unfinished = written.startswith(b"{") and not _is_json(written)
        # The first line is only ever put in place whole, so it cannot be torn.
        if image.end == 0 or not (ours or unfinished):
            raise ReplayGuardCorruptError(self.path, f"the bytes from {image.end} on are no record")
        log.warning("replay_guard_torn_line_cut path=%s at=%d bytes=%d", self.path, image.end, len(tail))
        os.ftruncate(descriptor, image.end)
        os.fsync(descriptor)

    def _note_mark(self) -> None:
        found = os.fstat(self._fd)
        self._mark = (found.st_size, found.st_mtime_ns)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(body: dict[str, Any], before: str) -> tuple[bytes, str]:
    """``body`` as a line, and its checksum: SHA-256 over the checksum of the line before and the body."""
    text = json.dumps(body, separators=(",", ":"))
    checksum = hashlib.sha256(f"{before}{text}".encode()).hexdigest()[:_SUM_DIGITS]
    return f'{text[:-1]},"sum":"{checksum}"}}\n'.encode(), checksum


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _read_from(descriptor: int, offset: int) -> bytes:
    blocks = []
    while block := os.pread(descriptor, 1 << 20, offset):
        blocks.append(block)
        offset += len(block)
    return b"".join(blocks)


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
