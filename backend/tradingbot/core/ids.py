"""Identifiers: what a client order id may look like, trace ids, and the digest of a request body."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Any

CLIENT_ORDER_ID_PATTERN = r"[A-Za-z0-9._-]{1,48}"
CLIENT_ORDER_ID = re.compile(CLIENT_ORDER_ID_PATTERN)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def is_client_order_id(value: object) -> bool:
    """True when ``value`` is a string of 1 to 48 letters, digits, dots, underscores and hyphens."""
    return isinstance(value, str) and CLIENT_ORDER_ID.fullmatch(value) is not None


def new_trace_id() -> str:
    """32 lower-case hex digits, as W3C Trace Context has them."""
    return secrets.token_hex(16)


def trace_id_from(traceparent: str | None) -> str:
    """The trace id of a W3C ``traceparent`` header, or a new one when there is none to be read."""
    found = _TRACEPARENT.fullmatch((traceparent or "").strip().lower())
    if found and found.group(1) != "0" * 32:
        return found.group(1)
    return new_trace_id()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256, in hex, of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
