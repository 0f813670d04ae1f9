"""``manage.py heartbeat NAME --within SECONDS``: fails when the process has given no sign of life for so long."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.services.heartbeats import age_of


class Command(BaseCommand):
    help = "Say how a process without a port is doing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--within", type=float, default=30.0, metavar="SECONDS")

    def handle(self, *args: Any, **options: Any) -> None:
        found = age_of(options["name"], SYSTEM_CLOCK.now())
        if found is None:
            raise CommandError(f"{options['name']} has never given a sign of life")
        state, age = found
        if age > options["within"]:
            raise CommandError(f"{options['name']} was {state} and has been silent for {int(age)} s")
        self.stdout.write(f"{options['name']} is {state}")
