"""JSON bodies, exactly: no NaN, no infinity, no duplicate names, at most 4 MiB; whole, or one row a line."""

from __future__ import annotations

import json
from typing import Any

from rest_framework.parsers import BaseParser

from backend.tradingbot.core.errors import FieldError, InvalidInputError

MAX_BODY = 4 * 1024 * 1024


def _refuse(problem: str) -> InvalidInputError:
    return InvalidInputError([FieldError("body", "", problem, "send one JSON object")], code="invalid_json")


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


class ExactJSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = _read(stream)
        try:
            return json.loads(raw, object_pairs_hook=_once, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise _refuse("is not JSON") from None


class Lines(list[Any]):
    """The rows of a newline-delimited body; a line that is not one JSON value is there as the text that it was."""


class NdjsonParser(BaseParser):
    """One JSON object a line. A line that cannot be read costs that line only."""

    media_type = "application/x-ndjson"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return Lines(self._row(line) for line in _read(stream).splitlines() if line.strip())

    def _row(self, line: bytes) -> Any:
        try:
            return json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return line[:200].decode(errors="replace")
