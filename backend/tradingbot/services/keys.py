"""API keys: made once and shown once; only the digest is kept."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.models import ApiKey


def key_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_key(**fields: Any) -> tuple[ApiKey, str]:
    """A new key and its token, which cannot be read again."""
    token = "tb_" + secrets.token_urlsafe(32)
    return ApiKey.objects.create(digest=key_digest(token), **fields), token


def revoke_key(key: ApiKey, *, clock: Clock) -> None:
    """Takes effect with the next request."""
    ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=clock.now())
