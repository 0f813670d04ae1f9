"""``manage.py check_data FILE``: the checks over a file of bars, for people and for pipelines. Needs no database.

Exit codes: 0 clean, 1 the file cannot be read, 2 wrong usage, 3 warnings only, 4 something that stops.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.core.errors import InvalidInputError
from backend.tradingbot.core.values import Severity
from backend.tradingbot.data.bar_files import Reading
from backend.tradingbot.data.calendar import CALENDARS, XNYS
from backend.tradingbot.data.check_context import CheckLimits, Context
from backend.tradingbot.data.file_check import Checking, FileReport, as_json, check_file
from backend.tradingbot.data.file_report import as_html, as_text
from backend.tradingbot.data.frames import INTERVALS, micros

CLEAN, UNREADABLE, WARNED, STOPPED = 0, 1, 3, 4


def add_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("file", type=Path, metavar="FILE")
    made.add_argument("--symbol", help="the symbol of a file without such a column")
    made.add_argument("--interval", choices=list(INTERVALS), help="the interval, where no column says it")
    made.add_argument("--timezone", help="the zone of times without one, for example America/New_York")
    made.add_argument("--calendar", choices=[*CALENDARS, "none"], default=XNYS, help="sessions to expect bars in")
    made.add_argument("--z-limit", type=float, default=CheckLimits().z_limit, help="robust z of a return [%(default)s]")
    made.add_argument("--strict", action="store_true", help="refuse unknown columns")
    made.add_argument("--warnings-ok", action="store_true", help="exit 0 when there are only warnings")
    made.add_argument("--html", type=Path, metavar="REPORT", help="also write the report as one HTML page")
    made.add_argument("--json", action="store_true", help="print the report as JSON")


def main(arguments: Sequence[str] | None = None, prog: str = "manage.py check_data") -> int:
    """Run the command; the exit code."""
    made = argparse.ArgumentParser(prog=prog, description="Check a file of bars (CSV or Parquet).", epilog=__doc__)
    add_arguments(made)
    return run(made.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Check and report; the exit code."""
    try:
        report = _check(options)
    except InvalidInputError as error:
        for item in error.errors:
            print(f"{item.field} {item.problem} (got {item.value!r}): {item.remedy}", file=sys.stderr)
        return UNREADABLE
    print(json.dumps(as_json(report), indent=1) if options.json else as_text(report))
    if options.html is not None:
        try:
            options.html.write_text(as_html(report), encoding="utf-8")
        except OSError as error:
            print(f"{options.html} cannot be written: {error.strerror}", file=sys.stderr)
            return UNREADABLE
    if report.worst is None or (report.worst is Severity.WARN and options.warnings_ok):
        return CLEAN
    return STOPPED if report.worst is Severity.HARD else WARNED


def _check(options: argparse.Namespace) -> FileReport:
    reading = Reading(options.symbol, options.interval, options.timezone, options.strict)
    context = Context(CheckLimits(z_limit=options.z_limit), as_of=micros(SYSTEM_CLOCK.now()))
    calendar = None if options.calendar == "none" else options.calendar
    return check_file(options.file, reading, Checking(context, calendar, outlines=options.html is not None))


if __name__ == "__main__":
    sys.exit(main(prog="python -m backend.tradingbot.data.check_command"))
