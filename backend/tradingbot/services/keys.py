"""API keys: made once and shown once; only the digest is kept. Both ends of a key's life are in the firm's journal."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from django.db import transaction

from backend.tradingbot.core.clock import SYSTEM_CLOCK, Clock
from backend.tradingbot.core.errors import ConflictError, FieldErrors, InvalidInputError
from backend.tradingbot.core.parsing import parse_symbol
from backend.tradingbot.models import Account, ApiKey, Strategy
from backend.tradingbot.models.accounts import CAPABILITIES, ROLES
from backend.tradingbot.services import journal
from backend.tradingbot.services.account_fields import check_reason
from backend.tradingbot.services.accounts import ensure_firm
from backend.tradingbot.services.constraints import refused_by
from backend.tradingbot.services.locks import FIRM, lock_risk


def key_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_key(
    *,
    name: str,
    role: str,
    capabilities: Sequence[str] = (),
    feed_symbols: Sequence[str] = (),
    account: Account | None = None,
    strategy: Strategy | None = None,
    actor: str = "setup",
    clock: Clock = SYSTEM_CLOCK,
) -> tuple[ApiKey, str]:
    """A new key and its token, which cannot be read again.

    Raises InvalidInputError naming every wrong field, ConflictError ``key_name_used`` for a name that was ever used.
    """
    check_new_key(
        name=name,
        role=role,
        capabilities=capabilities,
        feed_symbols=feed_symbols,
        account=account,
        strategy=strategy,
    )
    token = "tb_" + secrets.token_urlsafe(32)
    taken = ConflictError(f"there was a key named {name} before", code="key_name_used", remedy="choose another name")
    with transaction.atomic():
        ensure_firm()
        firm = lock_risk(FIRM)
        with refused_by({"api_key_name_once": taken}):
            key = ApiKey.objects.create(
                name=name,
                digest=key_digest(token),
                role=role,
                capabilities=list(capabilities),
                feed_symbols=list(feed_symbols),
                account=account,
                strategy=strategy,
            )
        data = {
            "role": role,
            "capabilities": list(capabilities),
            "feed_symbols": list(feed_symbols),
            "account": account and account.code,
            "strategy": strategy and strategy.code,
        }
        journal.append(firm, kind="key_created", actor=actor, subject=f"key:{name}", data=data, at=clock.now())
    return key, token


def revoke_key(key: ApiKey, *, reason: str, actor: str, clock: Clock) -> bool:
    """Takes effect with the next request. False when it was revoked before.

    Raises InvalidInputError for a reason that the record could not keep.
    """
    check_reason(reason)
    with transaction.atomic():
        firm = lock_risk(FIRM)
        now = clock.now()
        if not ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now):
            return False
        data = {"reason": reason}
        journal.append(firm, kind="key_revoked", actor=actor, subject=f"key:{key.name}", data=data, at=now)
    key.revoked_at = now
    return True


def check_new_key(
    *,
    name: str,
    role: str,
    capabilities: Sequence[str],
    feed_symbols: Sequence[str],
    account: Account | None,
    strategy: Strategy | None,
) -> None:
    """Raise InvalidInputError ``invalid_key`` naming every wrong field."""
    errors = FieldErrors()
    if not (isinstance(name, str) and 1 <= len(name) <= 80 and name.isprintable() and name == name.strip()):
        errors.add("name", name, "must be 1 to 80 printable characters", "it says in the journal who acted")
    if role not in ROLES:
        errors.add("role", role, "is not a role", "use " + ", ".join(ROLES))
    if role == "trader":
        for field, value in (("account", account), ("strategy", strategy)):
            if value is None:
                errors.add(field, None, "is missing", f"a trader's key acts for one {field} only: name it")
    for capability in capabilities:
        if capability not in CAPABILITIES:
            errors.add("capabilities", capability, "is not a capability", "use " + ", ".join(CAPABILITIES))
    if "force_reset" in capabilities and role != "risk":
        errors.add("capabilities", "force_reset", f"does not fit the role {role}", "only the risk role resets")
    if ("feed" in capabilities) != bool(feed_symbols):
        problem = "and the capability feed come together"
        errors.add("feed_symbols", list(feed_symbols), problem, "name the symbols that the key may feed, or neither")
    for symbol in feed_symbols:
        parse_symbol(symbol, "feed_symbols", errors)
    if errors:
        raise InvalidInputError(errors.errors, code="invalid_key")
