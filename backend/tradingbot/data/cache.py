"""Bars kept as Parquet files, each with a manifest that says what the file must be. What is not, is never used.

A file is written whole, synced and renamed into place under a name that holds its SHA-256; then its manifest replaces
the old one by a rename. Invariants: a reader sees the old file or the new one, never a part; bytes are hashed before a
row of them is read; a file that differs from its manifest is moved into quarantine with the evidence beside it, and is
never deleted, mended or fetched again by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.core.errors import FieldError, InvalidInputError, NotFoundError
from backend.tradingbot.core.ids import digest
from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data.frame_quality import DataBlockedError

SCHEMA_VERSION = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MANIFEST, DATA, QUARANTINE = ".manifest.json", ".parquet", "quarantine"


@dataclass(frozen=True)
class Manifest:
    """What a file must be: its name and SHA-256, rows, columns with their types, the schema's version, the source."""

    name: str
    file: str
    sha256: str
    rows: int
    columns: dict[str, str]
    symbols: tuple[str, ...]
    source: str
    written_at: str
    schema_version: int = SCHEMA_VERSION

    def as_text(self) -> str:
        """JSON with a digest of its own, so that a manifest that was edited is known."""
        body = asdict(self) | {"symbols": list(self.symbols)}
        return json.dumps({**body, "digest": digest(body)}, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Manifest:
        """Raises ValueError for what ``as_text`` did not write."""
        body = json.loads(text)
        if not isinstance(body, dict) or body.pop("digest", None) != digest(body):
            raise ValueError("the manifest is not what was written")
        try:
            return cls(**{**body, "symbols": tuple(body["symbols"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"the manifest is of another shape: {error}") from None


@dataclass(frozen=True)
class Mismatch:
    """A cached file that is not what its manifest says, or has none that can be read."""

    name: str
    problem: str
    expected: str | None
    found: str | None
    symbols: tuple[str, ...]
    files: tuple[str, ...]

    def verdicts(self) -> list[Verdict]:
        """One a symbol; ``*`` when nobody can tell whose bars they were."""
        evidence = {"file": self.name, "problem": self.problem, "expected": self.expected, "found": self.found}
        symbols = self.symbols or ("*",)
        return [Verdict("cache_mismatch", Severity.HARD, symbol, evidence) for symbol in symbols]


class CacheMismatchError(DataBlockedError):
    """The file was put into quarantine; ``mismatch`` says what was wrong with it."""

    def __init__(self, mismatch: Mismatch) -> None:
        message = f"CACHE_MISMATCH: {mismatch.name}: {mismatch.problem}"
        super().__init__(message, code="CACHE_MISMATCH", remedy="look at the evidence, then write the file again")
        self.mismatch = mismatch


class BarCache:
    """The cache in the folder ``root``, which is made when it is not there. Several processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.quarantined = root / QUARANTINE
        self.quarantined.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        return sorted(path.name.removesuffix(MANIFEST) for path in self.root.glob(f"*{MANIFEST}"))

    def write(self, name: str, frame: pl.DataFrame, *, source: str, now: datetime) -> Manifest:
        """Keep ``frame`` as ``name``, in place of what was there. Raises InvalidInputError: a bad name, or no rows."""
        _check_name(name)
        if not len(frame) or "symbol" not in frame.columns:
            problem = "has no rows" if not len(frame) else "has no column symbol"
            raise InvalidInputError([FieldError("frame", name, problem, "cache bars of at least one symbol")])
        buffer = BytesIO()
        frame.write_parquet(buffer)
        raw = buffer.getvalue()
        sha256 = hashlib.sha256(raw).hexdigest()
        manifest = Manifest(
            name=name,
            file=f"{name}.{sha256[:16]}{DATA}",
            sha256=sha256,
            rows=len(frame),
            columns={column: str(kind) for column, kind in frame.schema.items()},
            symbols=tuple(sorted(frame["symbol"].unique().to_list())),
            source=source,
            written_at=str(rfc3339(now)),
        )
        with self._locked():
            self._place(manifest.file, raw)
            self._place(f"{name}{MANIFEST}", manifest.as_text().encode())
            for path in self._data_files(name):
                if path.name != manifest.file:
                    path.unlink()
        return manifest

    def read(self, name: str) -> pl.DataFrame:
        """The bars of ``name``, proven to be what was written.

        Raises NotFoundError when there is none, CacheMismatchError after putting a bad one into quarantine.
        """
        _check_name(name)
        with self._locked():
            if not (self.root / f"{name}{MANIFEST}").exists():
                raise NotFoundError(f"the cache has no {name}", code="cache_miss", remedy="write it first")
            frame, mismatch = self._examine(name)
            if mismatch is not None:
                self._set_aside(mismatch)
        if mismatch is not None:
            raise CacheMismatchError(mismatch)
        assert frame is not None
        return frame

    def mismatches(self) -> Iterator[Mismatch]:
        """Every file that differs from its manifest, and every data file without one; nothing is moved."""
        with self._locked():
            for name in self.names():
                _, mismatch = self._examine(name)
                if mismatch is not None:
                    yield mismatch
            known = {path.name for name in self.names() for path in self._data_files(name)}
            for path in sorted(self.root.glob(f"*{DATA}")):
                if path.name not in known:
                    problem = "no manifest names this file"
                    yield Mismatch(path.name, problem, None, None, _symbols_in(path), (path.name,))

    def set_aside(self, mismatch: Mismatch) -> None:
        """Move the files of ``mismatch`` into quarantine, with the evidence beside them."""
        with self._locked():
            self._set_aside(mismatch)

    def _examine(self, name: str) -> tuple[pl.DataFrame | None, Mismatch | None]:
        path = self.root / f"{name}{MANIFEST}"
        files = tuple(sorted({path.name, *(data.name for data in self._data_files(name))}))
        try:
            manifest = Manifest.from_text(path.read_text(encoding="utf-8"))
            if manifest.name != name:
                raise ValueError(f"the manifest is that of {manifest.name}")
        except (OSError, ValueError) as error:
            symbols = tuple(sorted({s for data in self._data_files(name) for s in _symbols_in(data)}))
            return None, Mismatch(name, "the manifest cannot be read", None, str(error)[:200], symbols, files)

        def wrong(problem: str, expected: Any, found: Any) -> tuple[None, Mismatch]:
            return None, Mismatch(name, problem, str(expected), str(found)[:500], manifest.symbols, files)

        try:
            raw = (self.root / manifest.file).read_bytes()
        except OSError as error:
            return wrong("the file cannot be read", manifest.file, error.strerror)
        sha256 = hashlib.sha256(raw).hexdigest()
        if sha256 != manifest.sha256:
            return wrong("the SHA-256 differs", manifest.sha256, sha256)
        if manifest.schema_version != SCHEMA_VERSION:
            return wrong("the schema is of another version", SCHEMA_VERSION, manifest.schema_version)
        try:
            frame = pl.read_parquet(BytesIO(raw))
        except (pl.exceptions.PolarsError, OSError) as error:
            return wrong("the file is not a whole Parquet file", "Parquet", error)
        columns = {column: str(kind) for column, kind in frame.schema.items()}
        if columns != manifest.columns:
            return wrong("the columns differ", manifest.columns, columns)
        if len(frame) != manifest.rows:
            return wrong("the number of rows differs", manifest.rows, len(frame))
        return frame, None

    def _set_aside(self, mismatch: Mismatch) -> None:
        folder = self.quarantined / f"{mismatch.name}-{os.urandom(4).hex()}"
        folder.mkdir()
        evidence = {**asdict(mismatch), "symbols": list(mismatch.symbols), "files": list(mismatch.files)}
        (folder / "evidence.json").write_text(json.dumps(evidence, indent=1) + "\n", encoding="utf-8")
        for file in mismatch.files:
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.root / file, folder / file)

    def _data_files(self, name: str) -> list[Path]:
        found = re.compile(re.escape(name) + r"\.[0-9a-f]{16}" + re.escape(DATA))
        return [path for path in self.root.glob(f"*{DATA}") if found.fullmatch(path.name)]

    def _place(self, name: str, raw: bytes) -> None:
        """Write, sync and rename, so that the name never stands for a part."""
        temporary = self.root / f".{name}.{os.urandom(4).hex()}"
        try:
            with temporary.open("wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.root / name)
        finally:
            temporary.unlink(missing_ok=True)
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time among the processes that share the folder."""
        with (self.root / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidInputError(
            [FieldError("name", name, "is not a name for a cached file", "letters, digits, '.', '_' and '-'")]
        )


def _symbols_in(path: Path) -> tuple[str, ...]:
    """Whose bars a file holds, as far as it can still be read."""
    try:
        return tuple(sorted(pl.read_parquet(path, columns=["symbol"])["symbol"].unique().to_list()))
    except (pl.exceptions.PolarsError, OSError, TypeError):
        return ()
