"""Frozen dataclasses as JSON and back, exactly: what was stored with a decision can be judged again.

Invariants: ``from_json(kind, to_json(value)) == value`` for every snapshot; Decimals and times travel as text; a field
that is missing, unknown or of the wrong shape raises, because half a snapshot is none; one with a default is newer
than the snapshots that lack it, and its default says what was known then.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from backend.tradingbot.core.errors import FieldError, InvalidInputError

REMEDY = "send what to_json() wrote, of this build's shape"


def to_json(value: Any) -> Any:
    """Plain JSON types; raises TypeError for what has no exact form here (a float)."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        return [to_json(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value):
        return {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_json(each) for name, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(to_json(each) for each in value)
    raise TypeError(f"{type(value).__name__} has no exact form in JSON")


def from_json(kind: Any, raw: Any, name: str = "snapshot") -> Any:
    """A ``kind`` (a dataclass, or a type as annotations write it) from what ``to_json`` wrote."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if raw is None and type(None) in inner:
            return None
        return from_json(next(each for each in inner if each is not type(None)), raw, name)
    if is_dataclass(kind):
        return _dataclass(kind, raw, name)
    if origin is tuple or kind is tuple:
        _need(list, raw, name)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(from_json(inner[0], each, name) for each in raw)
        return tuple(from_json(each, value, name) for each, value in zip(inner, raw, strict=True))
    if origin is frozenset:
        return frozenset(from_json(inner[0], each, name) for each in _need(list, raw, name))
    if origin is not None and issubclass(origin, Mapping):
        return {key: from_json(inner[1], value, f"{name}.{key}") for key, value in _need(dict, raw, name).items()}
    return _plain(kind, raw, name)


def _plain(kind: Any, raw: Any, name: str) -> Any:
    if kind in (bool, int, str):
        return _need(kind, raw, name)
    text = _need(str, raw, name)
    try:
        return datetime.fromisoformat(text) if kind is datetime else kind(text)
    except (ValueError, InvalidOperation):
        raise InvalidInputError([FieldError(name, raw, f"is not a {kind.__name__}", REMEDY)]) from None


def _need(kind: type, raw: Any, name: str) -> Any:
    if type(raw) is not kind:
        raise InvalidInputError([FieldError(name, raw, f"must be a {kind.__name__}", REMEDY)])
    return raw


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}


def _dataclass(kind: Any, raw: Any, name: str) -> Any:
    _need(dict, raw, name)
    hints = _hints(kind)
    newer = {item.name for item in fields(kind) if item.default is not MISSING}
    for odd in sorted((set(hints) ^ set(raw)) - (newer - set(raw))):
        problem = "is missing" if odd in hints else "is unknown"
        raise InvalidInputError([FieldError(f"{name}.{odd}", raw.get(odd), problem, REMEDY)])
    return kind(
        **{field: from_json(hint, raw[field], f"{name}.{field}") for field, hint in hints.items() if field in raw}
    )
