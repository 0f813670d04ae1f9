"""``manage.py eod_recon --account A --date D [--file F]``: closes one day, from a statement on disk or the broker's."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.management.speaking import operator, refusals
from backend.tradingbot.selectors.recon_report import summary_lines
from backend.tradingbot.selectors.setting_up import account_named
from backend.tradingbot.selectors.statements import standing_of
from backend.tradingbot.services.recon import run_session
from backend.tradingbot.services.recon_page import report_page
from backend.tradingbot.services.statement_choices import choose
from backend.tradingbot.services.statements import receive_statement

SUFFIXES = {".json": "alpaca_json", ".xml": "flex_xml", ".csv": "csv"}


class Command(BaseCommand):
    help = "Reconcile one account and session; exits with an error while its breaks block the next session."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", required=True, help="its code")
        parser.add_argument("--date", required=True, type=date.fromisoformat, help="the session, year-month-day")
        parser.add_argument("--file", type=Path, action="append", default=[], help="a statement; may be given again")
        parser.add_argument("--source", choices=sorted(SUFFIXES.values()), help="else the file's ending says it")
        parser.add_argument("--mapping", default="", help="the saved mapping of a CSV")
        parser.add_argument("--choose", metavar="REASON", help="the given files count, though later ones were stored")
        parser.add_argument("--interim", action="store_true", help="compare the session of now, before its end")
        parser.add_argument("--report", type=Path, help="write the day's report as HTML to this file")

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            account = account_named(options["account"])
            for path in options["file"]:
                self._receive(account, path, options)
            run = run_session(
                account, options["date"], actor=operator(), clock=SYSTEM_CLOCK, interim=options["interim"]
            )
            subject, lines = summary_lines(run)
            self.stdout.write("\n".join([subject, *lines]))
            if options["report"]:
                options["report"].write_text(report_page(run, now=SYSTEM_CLOCK.now()))
                self.stdout.write(f"the report is in {options['report']}")
            if run.state not in ("completed", "interim"):
                raise CommandError(f"the session is {run.state}: {run.failure}")

    def _receive(self, account: Any, path: Path, options: dict[str, Any]) -> None:
        source = options["source"] or SUFFIXES.get(
            Path(path.name.removesuffix(".gz").removesuffix(".zip")).suffix.lower()
        )
        if source is None:
            raise CommandError(f"{path.name}: its ending does not say what it is; give --source")
        if not path.is_file():
            raise CommandError(f"there is no file {path}")
        with path.open("rb") as stream:
            found, fresh = receive_statement(
                account, options["date"], name=path.name, stream=stream, source=source, actor=operator(),
                clock=SYSTEM_CLOCK, mapping=options["mapping"],
            )  # fmt: skip
        word = "stored as" if fresh else "known as"
        self.stdout.write(f"{path.name}: {word} statement {found.pk}, SHA-256 {found.sha256}, {found.counts}")
        instead = standing_of(found)["counts_instead"]
        if instead is not None and options["choose"]:
            choose(account, options["date"], found.pk, actor=operator(), reason=options["choose"], clock=SYSTEM_CLOCK)
        elif instead is not None:
            self.stdout.write(f"statement {instead} came later and counts; --choose REASON lets {found.pk} count again")
