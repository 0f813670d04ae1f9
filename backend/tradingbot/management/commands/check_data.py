"""``manage.py check_data FILE``: see ``data/check_command.py``, which ``manage.py`` calls without any settings."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend.tradingbot.data import check_command


class Command(BaseCommand):
    help = "Check a file of bars (CSV or Parquet); the exit code tells the severity."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        check_command.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(check_command.run(Namespace(**options)))
