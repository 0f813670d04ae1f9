"""``manage.py journal verify``: walks every chain and says how many entries hold, or which one is broken."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.models import RiskRow
from backend.tradingbot.services.journal import verify


class Command(BaseCommand):
    help = "Verify the journal's hash chains."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["verify"])

    def handle(self, *args: Any, **options: Any) -> None:
        broken = []
        for scope in RiskRow.objects.order_by("scope").values_list("scope", flat=True):
            report = verify(scope)
            self.stdout.write(
                f"{scope}: {report.entries} entries hold" + ("" if report.intact else f"; {report.problem}")
            )
            if not report.intact:
                broken.append(scope)
        if broken:
            raise CommandError("broken: " + ", ".join(broken))
