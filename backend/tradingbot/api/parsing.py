"""JSON bodies, exactly: no NaN, no infinity, no duplicate names, at most 4 MiB."""

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


class ExactJSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = stream.read(MAX_BODY + 1)
        if len(raw) > MAX_BODY:
            raise _refuse(f"is larger than {MAX_BODY} bytes")
        try:
            return json.loads(raw, object_pairs_hook=_once, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise _refuse("is not JSON") from None
