"""``manage.py build_info``: which build runs, by which lock file and settings; or what a record's stamp stands for."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.infra.build_info import build_facts, build_stamp, version_info
from backend.tradingbot.management.speaking import table
from backend.tradingbot.models import BuildStamp


class Command(BaseCommand):
    help = "Print the running build's stamp, lock hash and configuration hash, and the builds that were seen here."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--stamp", help="what this stamp, read from a record, stands for")
        parser.add_argument("--with-settings", action="store_true", help="also the settings that the hash is made of")
        parser.add_argument("--history", action="store_true", help="every build that ran on this database")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["history"]:
            rows = [
                (row.stamp, row.build_id, row.lock_hash[:12], row.config_hash[:12], rfc3339(row.first_seen_at))
                for row in BuildStamp.objects.all()
            ]
            self.stdout.write(table(["STAMP", "BUILD", "LOCK", "CONFIG", "FIRST SEEN"], rows))
        elif options["stamp"]:
            self._recorded(options["stamp"], options["with_settings"])
        else:
            facts = {"build_stamp": build_stamp(), **build_facts(), **version_info()}
            self._say(facts, settings.TRADINGBOT.public() if options["with_settings"] else {})

    def _recorded(self, stamp: str, with_settings: bool) -> None:
        row = BuildStamp.objects.filter(pk=stamp).first()
        if row is None:
            raise CommandError(f"no build with the stamp {stamp} ran on this database; see build_info --history")
        names = ("build_id", "build_timestamp", "dirty", "lock_hash", "config_hash", "python_version", "platform")
        facts = {"build_stamp": row.stamp, **{name: getattr(row, name) for name in names}}
        self._say({**facts, "first_seen_at": rfc3339(row.first_seen_at)}, row.settings if with_settings else {})

    def _say(self, facts: dict[str, Any], public: dict[str, str]) -> None:
        for name, value in facts.items():
            self.stdout.write(f"{name:<17}{str(value).lower() if isinstance(value, bool) else value}")
        for name, value in sorted(public.items()):
            self.stdout.write(f"  {name.upper()}={value}")
