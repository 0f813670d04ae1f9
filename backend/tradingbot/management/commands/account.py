"""``manage.py account create|list|show``: sets accounts up. The journal keeps who did it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.values import plain
from backend.tradingbot.data.calendar import CALENDARS, XNYS
from backend.tradingbot.management.speaking import amount, operator, refusals, symbols, table
from backend.tradingbot.models import Account, Breaker, RiskRow
from backend.tradingbot.selectors.setting_up import account_facts, account_named
from backend.tradingbot.services.accounts import create_account
from backend.tradingbot.services.broker_setup import create_account_from_broker

TERMS = ("max_tick_age_seconds", "max_mark_age_seconds", "market_collar_bps")
BREAKER = ("max_daily_drawdown", "max_error_rate_per_min", "max_data_staleness_sec", "cooldown_sec")
RAMP = ("ramp_sec", "ramp_start_pct")


class Command(BaseCommand):
    help = "Create, list and show accounts."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="create|list|show")
        create = acts.add_parser("create", help="an account with its risk row and its breaker")
        create.add_argument("code", help="letters, digits, - and _, at most 32")
        create.add_argument("--name", default="")
        create.add_argument("--symbols", type=symbols, default=[], help="what it may trade, for example AAPL,MSFT")
        create.add_argument("--from-broker", action="store_true", help="read the number and the cash from the broker")
        create.add_argument("--broker-account", help="the number of the account at the broker")
        create.add_argument("--cash", type=amount, help="cash now; left out it is unknown, and purchases are denied")
        for name in TERMS:
            field: Any = Account._meta.get_field(name)
            create.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{field.help_text} [{field.default}]")
        create.add_argument("--session-calendar", choices=CALENDARS, default=XNYS, help="when its day begins [XNYS]")
        for name in BREAKER:
            kind = int if name == "max_error_rate_per_min" else float
            create.add_argument(f"--{name.replace('_', '-')}", type=kind, help="a limit of its breaker")
        for name in RAMP:
            column: Any = Breaker._meta.get_field(name)
            create.add_argument(
                f"--{name.replace('_', '-')}", type=amount, help=f"{column.help_text} [{column.default}]"
            )
        acts.add_parser("list", help="all accounts")
        acts.add_parser("show", help="everything about one").add_argument("code")

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            getattr(self, options["act"])(options)

    def create(self, options: dict[str, Any]) -> None:
        given = {name: options[name] for name in (*TERMS, *BREAKER, *RAMP) if options[name] is not None}
        fields: dict[str, Any] = {name: value for name, value in given.items() if name in TERMS}
        fields |= {"code": options["code"], "name": options["name"], "symbols": options["symbols"]}
        fields["session_calendar"] = options["session_calendar"]
        fields |= {"breaker": {name: value for name, value in given.items() if name not in TERMS}, "actor": operator()}
        if options["from_broker"]:
            if options["broker_account"] or options["cash"] is not None:
                raise CommandError("--from-broker reads the number and the cash: leave --broker-account and --cash out")
            account, found = create_account_from_broker(**fields)
            source = f"{settings.TRADINGBOT.broker} at {settings.TRADINGBOT.alpaca_base_url}"
            self.stdout.write(f"read from {source}: account {found.account_number}, cash {plain(found.cash)}")
        else:
            if not options["broker_account"]:
                raise CommandError("name --broker-account, or let --from-broker read it")
            account = create_account(broker_account=options["broker_account"], cash=options["cash"], **fields)
        self.stdout.write(self.style.SUCCESS(f"account {account.code} is set up"))
        if not account.symbols:
            self.stderr.write("it may trade nothing yet: name --symbols, or set them in the admin")
        if not options["from_broker"] and options["cash"] is None:
            self.stderr.write("its cash is unknown, so every purchase is denied")

    def list(self, options: dict[str, Any]) -> None:
        rows = [
            (a.code, a.broker_account, "active" if a.active else "off", plain(risk.cash), ", ".join(a.symbols))
            for risk in RiskRow.objects.select_related("account").order_by("scope")
            if (a := risk.account) is not None
        ]
        self.stdout.write(table(["CODE", "AT THE BROKER", "STATE", "CASH", "MAY TRADE"], rows))

    def show(self, options: dict[str, Any]) -> None:
        for name, value in account_facts(account_named(options["code"])).items():
            self.stdout.write(f"{name:<15}{value or '-'}")
