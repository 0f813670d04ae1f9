"""``manage.py strategy create|list``: sets strategies up. The journal keeps who did it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.management.speaking import operator, refusals, table
from backend.tradingbot.models import Strategy
from backend.tradingbot.models.modes import MODES
from backend.tradingbot.services.accounts import create_strategy


class Command(BaseCommand):
    help = "Create and list strategies."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="create|list")
        create = acts.add_parser("create", help="a strategy with its breaker")
        create.add_argument("code", help="letters, digits, - and _, at most 32")
        create.add_argument("--name", default="")
        create.add_argument(
            "--mode",
            choices=MODES,
            default="shadow",
            help="how far it is trusted from the start; orders are simulated in shadow",
        )
        acts.add_parser("list", help="all strategies")

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            if options["act"] == "list":
                rows = [(s.code, s.name, "active" if s.active else "off", rfc3339(s.created_at)) for s in _all()]
                self.stdout.write(table(["CODE", "NAME", "STATE", "CREATED"], rows))
                return
            mode = options["mode"]
            strategy = create_strategy(code=options["code"], name=options["name"], mode=mode, actor=operator())
            self.stdout.write(self.style.SUCCESS(f"strategy {strategy.code} is set up, in {mode}"))


def _all() -> list[Strategy]:
    return list(Strategy.objects.all())
