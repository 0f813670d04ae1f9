"""``manage.py seed_demo``: the demo's account, strategy, keys and administrator, once; writes ``demo.env``.

With ``--migrate`` it migrates the database first, so that the start of the stack loads Django once for both.
"""

import os
import secrets
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from backend.tradingbot.brokers.registry import execution_client
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.data.calendar import ROUND_THE_CLOCK
from backend.tradingbot.models import Account
from backend.tradingbot.services.accounts import create_account, create_strategy
from backend.tradingbot.services.feeds import declare_feed
from backend.tradingbot.services.keys import create_key
from backend.tradingbot.services.recon_policies import set_policy
from backend.tradingbot.services.roles import ROLES

SYMBOLS = ["AAPL", "MSFT", "SPY"]
# generous, so that nobody who tries things out is stopped by accident, and visible like any other: GET limits
LIMITS: dict[str, Decimal | None] = {
    "order_qty_max": Decimal(10_000),
    "order_notional_max": Decimal(500_000),
    "gross_exposure_max": Decimal(2_000_000),
    "net_exposure_max": Decimal(2_000_000),
    "concentration_max_bps": Decimal(10_000),
    "order_rate_key_per_min": Decimal(60_000),
    "order_rate_strategy_per_min": Decimal(60_000),
    "order_rate_account_per_min": Decimal(60_000),
    "reducing_rate_account_per_min": Decimal(60_000),
    "duplicate_orders_max": Decimal(10_000),
    "duplicate_window_seconds": Decimal(1),
    "repeat_orders_max": Decimal(100_000),
    "repeat_window_seconds": Decimal(60),
    "name_beta_exposure_max": Decimal(2_000_000),
}
# the paper broker's rates: SEC section 31 and FINRA's trading activity fee
FEES = {"name": "paper", "sale_of_dollar": "0.0000278", "sale_of_share": "0.000166", "sale_cap": "8.30"}
BREAKER = {"cooldown_sec": 5, "max_error_rate_per_min": 20, "ramp_sec": 60}


class Command(BaseCommand):
    help = "Seed the demo account on the paper broker, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--migrate", action="store_true", help="migrate the database first")

    def handle(self, *args: Any, **options: Any) -> None:
        config = settings.TRADINGBOT
        if config.broker != "paper":
            raise CommandError("the demo is seeded only with BROKER=paper")
        if options["migrate"]:
            call_command("migrate", interactive=False, verbosity=0)
            connection.close()  # the next one notes the running build, which had no table before
        if Account.objects.filter(code="demo").exists():
            self.stdout.write("the demo is there already")
            return
        path = config.state_dir / "demo.env"
        values = self._seed()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(f"{name}='{value}'\n" for name, value in values.items())
        self.stdout.write(f"seeded the demo; its keys are in {path}")

    @transaction.atomic
    def _seed(self) -> dict[str, str]:
        broker = execution_client(settings.TRADINGBOT).account()
        account = create_account(
            code="demo",
            name="Demo on the paper broker",
            broker_account=broker.account_number,
            cash=Decimal(broker.cash),
            symbols=SYMBOLS,
            max_tick_age_seconds=60,
            max_mark_age_seconds=3600,
            session_calendar=ROUND_THE_CLOCK,
            breaker=BREAKER,
            limits=LIMITS,
        )
        declare_feed(
            code="demo",
            symbols=SYMBOLS,
            session_calendar=ROUND_THE_CLOCK,
            max_silence_seconds=900,
            actor="setup",
            reason="the demo's ticks; generous, because people type them",
            clock=SYSTEM_CLOCK,
        )
        set_policy(account, {"fees": FEES}, actor="setup", reason="what the paper broker charges", clock=SYSTEM_CLOCK)
        strategy = create_strategy(code="demo", name="Demo strategy", mode="live", breaker=BREAKER)
        _, trader = create_key(
            name="demo-trader",
            role="trader",
            capabilities=["feed"],
            feed_symbols=SYMBOLS,
            account=account,
            strategy=strategy,
        )
        _, risk = create_key(name="demo-risk", role="risk", capabilities=["force_reset"])
        password = secrets.token_urlsafe(18)
        User.objects.create_superuser("admin", password=password)
        port = os.environ.get("PORT", "8000")
        people = {role: secrets.token_urlsafe(18) for role in ROLES if role != "admin"}
        for role, secret in people.items():
            User.objects.create_user(role, password=secret, is_staff=True).groups.add(Group.objects.get(name=role))
        return {
            "TRADINGBOT_URL": f"http://127.0.0.1:{port}",
            "TRADINGBOT_TRADER_TOKEN": trader,
            "TRADINGBOT_RISK_TOKEN": risk,
            "TRADINGBOT_ADMIN_USER": "admin",
            "TRADINGBOT_ADMIN_PASSWORD": password,
            **{f"TRADINGBOT_{role.upper()}_PASSWORD": secret for role, secret in people.items()},
        }
