"""Reading what somebody sent without trusting it: bounded, unpacked, hashed, decoded.

Invariants: memory is bounded by the limit whatever the input claims to be; an archive is unpacked to at most the limit,
and only when it holds one file; the hash is of the bytes as they came. Nothing here is parsed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, Protocol

from backend.tradingbot.core.errors import FieldError, InvalidInputError

MAX_BYTES = 32 * 1024 * 1024
MOST_ENTRIES = 100
ENTRY = b"PK\x01\x02"
_CHUNK = 1024 * 1024


class SupportsRead(Protocol):
    def read(self, size: int, /) -> bytes: ...


class StatementError(InvalidInputError):
    """A statement that cannot be used. Nothing of it was imported. ``code`` says why."""

    code = "statement_unreadable"

    def __init__(self, code: str, problem: str, remedy: str, *, where: str = "file") -> None:
        super().__init__([FieldError(where, "", problem, remedy)], code=code)


@dataclass(frozen=True)
class Received:
    """A file as it came, and what is in it. ``sha256`` is of ``original``."""

    name: str
    original: bytes
    content: bytes
    sha256: str


def receive(name: str, stream: IO[bytes], *, limit: int = MAX_BYTES) -> Received:
    """Read at most ``limit`` bytes and unpack at most as many. Raises StatementError."""
    original = _read(stream, limit, "statement_too_large", f"is larger than {limit} bytes")
    if not original:
        raise StatementError(
            "statement_empty", "is empty", "an empty file is not a flat day: ask for the statement again"
        )
    return Received(_safe_name(name), original, _unpacked(original, limit), hashlib.sha256(original).hexdigest())


def decode(content: bytes, encoding: str) -> str:
    """The text of ``content``; wrong or mixed encodings raise, no character is replaced."""
    try:
        text = content.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        told = f"is not {encoding}: {error}"[:200]
        raise StatementError("statement_encoding", told, f"save it as {encoding}, or name its encoding") from None
    if "\x00" in text:
        raise StatementError("statement_encoding", "has zero bytes in it", "it is binary, or in another encoding")
    return text.removeprefix("\ufeff")


def _read(stream: SupportsRead, limit: int, code: str, problem: str) -> bytes:
    found = io.BytesIO()
    while chunk := stream.read(_CHUNK):
        if found.tell() + len(chunk) > limit:
            raise StatementError(code, problem, "split it by account or day; the limit is STATEMENT_MAX_BYTES")
        found.write(chunk)
    return found.getvalue()


def _unpacked(original: bytes, limit: int) -> bytes:
    problem = f"unpacks to more than {limit} bytes"
    try:
        if original[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(original)) as member:
                return _read(member, limit, "statement_bomb", problem)
        if original[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            return _only_member(original, limit, problem)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        told = f"cannot be unpacked ({type(error).__name__})"
        raise StatementError(
            "statement_unreadable", told, "send the file again, whole and without a password"
        ) from None
    return original


def _only_member(original: bytes, limit: int, problem: str) -> bytes:
    entries = original.count(ENTRY)  # the list of members alone may be as long as the file, and much longer in memory
    if entries > MOST_ENTRIES:
        told = f"holds {entries} files or folders, more than one"
        raise StatementError("statement_unreadable", told, "an archive must hold exactly one statement")
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        if len(members) != 1:
            told = f"holds {len(members)} files"
            raise StatementError("statement_unreadable", told, "an archive must hold exactly one statement")
        if members[0].file_size > limit:
            raise StatementError("statement_bomb", problem, "send the statement itself")
        with archive.open(members[0]) as member:
            return _read(member, limit, "statement_bomb", problem)


def _safe_name(name: str) -> str:
    """The last part of the name, printable and short; it is shown, never opened."""
    tail = name.replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in tail if character.isprintable())[:120] or "statement"
