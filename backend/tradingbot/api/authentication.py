"""Bearer keys: one indexed look-up by digest, no write. The account and the strategy come with it."""

from __future__ import annotations

from typing import Any, cast

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from backend.tradingbot.core.errors import NotAllowedError
from backend.tradingbot.models import Account, ApiKey, Strategy
from backend.tradingbot.services import key_use
from backend.tradingbot.services.keys import key_digest

UNKNOWN_KEY = "this key is not known here, or was revoked"


class Caller:
    """The key behind a request, in the place where DRF keeps a user."""

    is_authenticated = True

    def __init__(self, key: ApiKey) -> None:
        self.key = key

    @property
    def name(self) -> str:
        return f"key:{self.key.name}"

    def need_role(self, *roles: str) -> None:
        if self.key.role not in roles:
            raise NotAllowedError(
                f"this key has the role {self.key.role}, which may not do this",
                code="role_not_allowed",
                remedy="ask with a key of the role " + " or ".join(roles),
            )

    def need_capability(self, capability: str) -> None:
        if capability not in self.key.capabilities:
            raise NotAllowedError(
                f"this key lacks the capability {capability}", code="capability_missing", remedy="ask an administrator"
            )

    def need_account(self, account: str, strategy: str | None = None) -> None:
        """A trader's key acts for its own account and strategy only."""
        bound = self.key.account
        if bound is not None and bound.code != account:
            raise _not_yours("account", account, bound.code)
        own = self.key.strategy
        if strategy is not None and own is not None and own.code != strategy:
            raise _not_yours("strategy", strategy, own.code)

    def need_strategy(self, strategy: str) -> None:
        """A trader's key speaks for its own strategy only."""
        own = self.key.strategy
        if own is not None and own.code != strategy:
            raise _not_yours("strategy", strategy, own.code)

    def sees(self, scope: str) -> bool:
        """Whether this key may read what is said of a scope: one bound to an account or strategy, not of others."""
        kind, _, code = scope.partition(":")
        own = {"account": self.key.account, "strategy": self.key.strategy}.get(kind)
        return own is None or own.code == code

    def need_scope(self, scope: str) -> None:
        if not self.sees(scope):
            kind = scope.partition(":")[0]
            own = self.key.account if kind == "account" else self.key.strategy
            raise _not_yours("scope", scope, f"{kind}:{'' if own is None else own.code}")

    def parties(self, account: str, strategy: str) -> tuple[Account, Strategy]:
        """The account and the strategy that this key trades for; they came with the key."""
        self.need_role("trader")
        self.need_account(account, strategy)
        if self.key.account is None or self.key.strategy is None:
            remedy = "ask an administrator for a key that is bound to an account and a strategy"
            raise NotAllowedError("this key trades for nobody", code="not_your_account", remedy=remedy)
        return self.key.account, self.key.strategy


def _not_yours(field: str, asked: str, own: str) -> NotAllowedError:
    return NotAllowedError(
        f"{field}: this key is bound to {own} and may not act for {asked}"[:300],
        code="not_your_account",
        remedy=f"name {own}, or use a key that is bound to {asked}"[:300],
    )


def caller(request: Request) -> Caller:
    """Who asks; the authentication class has put it where DRF keeps a user."""
    return cast(Caller, request.user)


class ApiKeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, Any] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        keys = ApiKey.objects.select_related("account", "strategy")
        key = keys.filter(digest=key_digest(token.strip()), revoked_at__isnull=True).first()
        if key is None:
            raise AuthenticationFailed(UNKNOWN_KEY)
        key_use.note(key)
        return Caller(key), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
