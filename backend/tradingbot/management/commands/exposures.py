"""``manage.py exposures verify``: the running sums against positions and open orders; ``revalue`` makes them anew."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.models import Account
from backend.tradingbot.services.revaluation import revalue, unproven, unproven_headroom


class Command(BaseCommand):
    help = "Prove the running exposure, or compute it anew."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["verify", "revalue"])
        parser.add_argument("--account")

    def handle(self, *args: Any, **options: Any) -> None:
        accounts = Account.objects.order_by("code")
        if options["account"]:
            accounts = accounts.filter(code=options["account"])
            if not accounts:
                raise CommandError(f"there is no account {options['account']}")
        wrong = 0
        for account in accounts:
            if options["action"] == "revalue":
                revalue(account, clock=SYSTEM_CLOCK)
                self.stdout.write(f"{account.code}: revalued")
                continue
            problems = unproven(account)
            wrong += bool(problems)
            self.stdout.write(f"{account.code}: " + ("; ".join(problems) or "the sums hold"))
        if options["action"] == "verify":
            problems = unproven_headroom()
            wrong += bool(problems)
            self.stdout.write("above the accounts: " + ("; ".join(problems) or "the headroom holds"))
        if wrong:
            raise CommandError("run exposures revalue, and look for the cause in the journal")
