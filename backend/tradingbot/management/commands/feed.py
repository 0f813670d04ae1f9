"""``manage.py feed declare|change|list``: the feeds whose silence stops trading. The journal keeps who did it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.data.calendar import CALENDARS, XNYS
from backend.tradingbot.management.speaking import operator, refusals, symbols, table
from backend.tradingbot.models import Feed
from backend.tradingbot.services.feeds import change_feed, declare_feed


class Command(BaseCommand):
    help = "Declare, change and list market data feeds."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="declare|change|list")
        declare = acts.add_parser("declare", help="watch a feed from now on")
        change = acts.add_parser("change", help="change a feed; its silence counts anew from now")
        for act in (declare, change):
            first = act is declare
            act.add_argument("code", help="letters, digits, - and _, at most 32")
            act.add_argument("--reason", required=True, help="why, for the journal")
            act.add_argument("--symbols", type=symbols, required=first, help="what it brings, for example AAPL,MSFT")
            act.add_argument("--max-silence", type=int, required=first, metavar="SECONDS", help="of all at once")
            act.add_argument("--calendar", choices=CALENDARS, default=XNYS if first else None, help="its sessions")
            act.add_argument(
                "--bars", type=_words, metavar="1m,1d", help="bars it brings; a missing one stops its symbol"
            )
        declare.add_argument(
            "--second-source", action="store_true", help="its bars are only compared with those of the other feeds"
        )
        change.add_argument("--off", action="store_true", help="do not watch it any more")
        change.add_argument("--on", action="store_true", help="watch it again")
        acts.add_parser("list", help="all feeds")

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            getattr(self, options["act"])(options)

    def declare(self, options: dict[str, Any]) -> None:
        feed = declare_feed(
            code=options["code"],
            symbols=options["symbols"],
            session_calendar=options["calendar"],
            max_silence_seconds=options["max_silence"],
            bar_intervals=options["bars"] or (),
            second_source=options["second_source"],
            actor=operator(),
            reason=options["reason"],
            clock=SYSTEM_CLOCK,
        )
        self.stdout.write(self.style.SUCCESS(f"feed {feed.code} is watched"))

    def change(self, options: dict[str, Any]) -> None:
        if options["on"] and options["off"]:
            raise CommandError("--on and --off contradict each other")
        wanted = {
            "symbols": options["symbols"],
            "session_calendar": options["calendar"],
            "max_silence_seconds": options["max_silence"],
            "bar_intervals": options["bars"],
            "active": True if options["on"] else False if options["off"] else None,
        }
        changes = {name: value for name, value in wanted.items() if value is not None}
        if not changes:
            raise CommandError("nothing to change: name --symbols, --bars, --max-silence, --calendar, --on or --off")
        change_feed(options["code"], changes, actor=operator(), reason=options["reason"], clock=SYSTEM_CLOCK)
        self.stdout.write(self.style.SUCCESS(f"feed {options['code']} is changed"))

    def list(self, options: dict[str, Any]) -> None:
        rows = [
            (
                feed.code,
                "off" if not feed.active else "second source" if feed.second_source else "watched",
                feed.session_calendar,
                f"{feed.max_silence_seconds} s",
                rfc3339(feed.last_seen_at) or "never",
                ", ".join(feed.bar_intervals),
                ", ".join(feed.symbols[:8]) + (f" and {len(feed.symbols) - 8} more" if len(feed.symbols) > 8 else ""),
            )
            for feed in Feed.objects.all()
        ]
        self.stdout.write(table(["CODE", "STATE", "SESSIONS", "MAY BE SILENT", "LAST HEARD", "BARS", "SYMBOLS"], rows))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
