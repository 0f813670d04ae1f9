"""``manage.py key create|revoke|list``: API keys. Only the new key's secret goes to the standard output."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.management.speaking import operator, refusals, symbols, table
from backend.tradingbot.models import ApiKey
from backend.tradingbot.models.accounts import CAPABILITIES, ROLES
from backend.tradingbot.selectors.setting_up import account_named, key_named, strategy_named
from backend.tradingbot.services.keys import create_key, revoke_key


class Command(BaseCommand):
    help = "Create, revoke and list API keys."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="create|revoke|list")
        create = acts.add_parser("create", help="a key; its secret is printed once, alone on the standard output")
        create.add_argument("name", help="the journal names the key by it; never used twice")
        create.add_argument("--role", required=True, choices=ROLES)
        create.add_argument("--account", help="the account that it acts for; a trader's key needs one")
        create.add_argument("--strategy", help="the strategy that it acts for; a trader's key needs one")
        create.add_argument("--capability", action="append", default=[], choices=CAPABILITIES)
        create.add_argument("--feed", type=symbols, default=[], help="with --capability feed: for example AAPL,MSFT")
        revoke = acts.add_parser("revoke", help="refuse it from its next request on")
        revoke.add_argument("name")
        revoke.add_argument("--reason", required=True, help="for the record")
        acts.add_parser("list", help="all keys, without their secrets")

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            getattr(self, options["act"])(options)

    def create(self, options: dict[str, Any]) -> None:
        account, strategy = options["account"], options["strategy"]
        key, token = create_key(
            name=options["name"],
            role=options["role"],
            capabilities=options["capability"],
            feed_symbols=options["feed"],
            account=account_named(account) if account else None,
            strategy=strategy_named(strategy) if strategy else None,
            actor=operator(),
        )
        self.stderr.write(f"key {key.name} is made; this is its secret, shown once and kept nowhere:")
        self.stdout.write(token)

    def revoke(self, options: dict[str, Any]) -> None:
        key = key_named(options["name"])
        done = revoke_key(key, reason=options["reason"], actor=operator(), clock=SYSTEM_CLOCK)
        self.stdout.write(f"key {key.name} is revoked" if done else f"key {key.name} was revoked before")

    def list(self, options: dict[str, Any]) -> None:
        keys = ApiKey.objects.select_related("account", "strategy")
        rows = [
            (
                key.name,
                key.role,
                key.account,
                key.strategy,
                ", ".join(key.capabilities),
                ", ".join(key.feed_symbols),
                "live" if key.revoked_at is None else f"revoked {rfc3339(key.revoked_at)}",
            )
            for key in keys
        ]
        self.stdout.write(table(["NAME", "ROLE", "ACCOUNT", "STRATEGY", "CAPABILITIES", "FEEDS", "STATE"], rows))
