"""Identifiers: what a client order id may look like, trace ids, and the digest of a request body."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

CLIENT_ORDER_ID = re.compile(r"[A-Za-z0-9._-]{1,48}")
CLIENT_ORDER_ID_REMEDY = 'use 1 to 48 of A-Z a-z 0-9 . _ - and a new id for each order, for example "mean-2026-0001"'
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def is_client_order_id(value: object) -> bool:
    """True when ``value`` is a string of 1 to 48 letters, digits, dots, underscores and hyphens."""
    return isinstance(value, str) and CLIENT_ORDER_ID.fullmatch(value) is not None


def new_trace_id() -> str:
    """32 lower-case hex digits, as W3C Trace Context has them."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Traceparent:
    """What a W3C ``traceparent`` header says: the trace, the caller's span, and whether the caller records it."""

    trace_id: str
    span_id: str
    sampled: bool


def read_traceparent(header: str | None) -> Traceparent | None:
    """The header's parts; None when there is none, or it is not what W3C Trace Context allows."""
    found = _TRACEPARENT.fullmatch((header or "").strip().lower())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    impossible = version == "ff" or (version == "00" and more) or trace_id == "0" * 32 or span_id == "0" * 16
    return None if impossible else Traceparent(trace_id, span_id, bool(int(flags, 16) & 1))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256, in hex, of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
