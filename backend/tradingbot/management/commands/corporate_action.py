"""``manage.py corporate_action enter|withdraw|list``: splits and the like on file. The journal keeps who did it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.values import plain
from backend.tradingbot.management.speaking import operator, refusals, table
from backend.tradingbot.models import CorporateAction
from backend.tradingbot.models.corporate_actions import ACTION_KINDS
from backend.tradingbot.services import corporate_actions


class Command(BaseCommand):
    help = "Put splits and other corporate actions on file, so that the checks of bars know them; list them."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="enter|withdraw|list")
        enter = acts.add_parser("enter", help="put an action on file")
        enter.add_argument("symbol")
        enter.add_argument("--ex-date", required=True, metavar="YYYY-MM-DD", help="first session at the new price")
        enter.add_argument("--ratio", required=True, help="new shares for each old one: 4, or 0.1 for one for ten")
        enter.add_argument("--kind", choices=ACTION_KINDS, default="split")
        enter.add_argument("--source", required=True, help="where it is announced")
        enter.add_argument("--reason", required=True, help="why, for the journal")
        withdraw = acts.add_parser("withdraw", help="take a wrong entry off file; it stays to be read")
        withdraw.add_argument("id", type=int)
        withdraw.add_argument("--reason", required=True, help="why, for the journal")
        listing = acts.add_parser("list", help="what is on file, and what was")
        listing.add_argument("--symbol", help="only those of this symbol")

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            getattr(self, options["act"])(options)

    def enter(self, options: dict[str, Any]) -> None:
        body = {name: options[name] for name in corporate_actions.FIELDS}
        row = corporate_actions.enter(body, actor=operator(), clock=SYSTEM_CLOCK)
        self.stdout.write(self.style.SUCCESS(f"{row.pk}: {row} is on file"))

    def withdraw(self, options: dict[str, Any]) -> None:
        row = corporate_actions.withdraw(options["id"], actor=operator(), reason=options["reason"], clock=SYSTEM_CLOCK)
        self.stdout.write(self.style.SUCCESS(f"{row.pk}: {row} is withdrawn"))

    def list(self, options: dict[str, Any]) -> None:
        rows = CorporateAction.objects.all()
        if options["symbol"]:
            rows = rows.filter(symbol=options["symbol"].upper())
        lines = [
            (r.pk, r.symbol, r.ex_date, r.kind, plain(r.ratio), r.source, r.entered_by, rfc3339(r.withdrawn_at))
            for r in rows
        ]
        headers = ["ID", "SYMBOL", "EX DATE", "KIND", "RATIO", "SOURCE", "ENTERED BY", "WITHDRAWN"]
        self.stdout.write(table(headers, lines))
