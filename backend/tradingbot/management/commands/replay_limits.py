"""``manage.py replay_limits --since <time> --limits proposed.json``: which decisions other limits would change."""

import json
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.risk.limit_replay import proposed_from
from backend.tradingbot.selectors.replays import limit_report


def moment(text: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text} is not a time; write 2026-01-05 or 2026-01-05T15:00:00Z") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


class Command(BaseCommand):
    help = "Judge recorded orders by proposed limits and report which decisions would change."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=moment, required=True)
        parser.add_argument("--until", type=moment)
        parser.add_argument("--limits", type=Path, required=True, help='[{"scope": ..., "kind": ..., "value": ...}]')
        parser.add_argument("--account")
        parser.add_argument("--json", action="store_true", help="The whole report as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            proposed = proposed_from(json.loads(options["limits"].read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise CommandError(f"{options['limits']}: {_text(error)}") from None
        until = options["until"] or datetime.now(UTC)
        report = limit_report(proposed, options["since"], until, options["account"])
        shown = report.as_dict()
        if options["json"]:
            self.stdout.write(json.dumps(shown, indent=2))
            return
        for change in report.changes:
            gates = change.would_be_refused_by if change.was_allowed else change.was_refused_by
            was, now = ("allowed", "denied") if change.was_allowed else ("denied", "allowed")
            self.stdout.write(f"{change.client_order_id}: {was} then, {now} by these limits ({', '.join(gates)})")
        self.stdout.write(
            f"{shown['judged']} decisions judged, {shown['would_be_denied']} would be denied, "
            f"{shown['would_be_allowed']} would be allowed, {len(shown['unreadable'])} cannot be judged by this build"
        )


def _text(error: Exception) -> str:
    if isinstance(error, InvalidInputError):
        return f"{error.message}; {error.remedy}"
    return str(error)
