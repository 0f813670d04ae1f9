"""JSON bodies, exactly: no NaN, no infinity, no duplicate names, no character that cannot be stored, at most 4 MiB;
whole, or one row a line.
"""

from __future__ import annotations

import json
import re
from typing import Any

from rest_framework.parsers import BaseParser

from backend.tradingbot.core.errors import FieldError, InvalidInputError

MAX_BODY = 4 * 1024 * 1024
MAX_DEPTH = 32


def _refuse(problem: str, raw: bytes = b"") -> InvalidInputError:
    value = raw[:80].decode(errors="replace")
    return InvalidInputError([FieldError("body", value, problem, "send one JSON object")], code="invalid_json")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _refuse("names a field twice")
    return found


def _no_constant(name: str) -> Any:
    raise _refuse(f"contains {name}")


def _read(stream: Any) -> bytes:
    raw: bytes = stream.read(MAX_BODY + 1)
    if len(raw) > MAX_BODY:
        raise _refuse(f"is larger than {MAX_BODY} bytes")
    return raw


# How NUL and half of a surrogate pair are written in JSON; PostgreSQL takes neither as text.
SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def _storable(value: Any) -> bool:
    """Whether every text in a parsed body can be kept as it is."""
    if isinstance(value, str):
        return "\x00" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, dict):
        return all(_storable(name) and _storable(part) for name, part in value.items())
    return all(map(_storable, value)) if isinstance(value, list) else True


def _too_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other deeper than any call here means."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inside = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [each for parts in inside for each in parts if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def _exactly(raw: bytes) -> Any:
    # Decoded here: the parser would guess UTF-16 and let half of a surrogate pair through.
    value = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _too_deep(value):
        raise _refuse(f"has lists and objects in each other more than {MAX_DEPTH} deep")
    if SUSPECT.search(raw) and not _storable(value):
        raise _refuse("has a character in it that cannot be stored: NUL, or half of a surrogate pair")
    return value


class ExactJSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = _read(stream)
        try:
            return _exactly(raw)
        except (ValueError, RecursionError) as error:
            if isinstance(error, InvalidInputError):
                raise
            where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise _refuse(f"is not JSON{where}", raw) from None


class Lines(list[Any]):
    """The rows of a newline-delimited body; a line that is not one JSON value is there as the text that it was."""


class NdjsonParser(BaseParser):
    """One JSON object a line. A line that cannot be read costs that line only."""

    media_type = "application/x-ndjson"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return Lines(self._row(line) for line in _read(stream).splitlines() if line.strip())

    def _row(self, line: bytes) -> Any:
        try:
            return _exactly(line)
        except (ValueError, RecursionError):
            return line[:200].decode(errors="replace")
