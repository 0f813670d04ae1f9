"""What a run prints: the faults with their counts, denials and resets, what the judge found, and one closing line."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from tests.chaos.clients import Tally
from tests.chaos.faults import Record
from tests.chaos.judge import Verdict

SHOWN_FINDINGS = 40


def show(console: Console, record: Record, tally: Tally, verdict: Verdict, unmet: list[str]) -> None:
    """Everything but the closing line."""
    console.print(_faults(record))
    console.print(_counts("Crash points", "point", Counter(record.crash_points())))
    console.print(_counts("Denials", "gate: code", tally.denials))
    console.print(_counts("Breakers reset by the risk officer", "scope: cause", tally.resets))
    console.print(_counts("Requests that had to be repeated", "why", tally.troubles))
    for finding in verdict.findings[:SHOWN_FINDINGS]:
        console.print(f"[red]{finding.kind}[/red] {finding.subject}: {finding.text}", highlight=False)
    if len(verdict.findings) > SHOWN_FINDINGS:
        console.print(f"[red]and {len(verdict.findings) - SHOWN_FINDINGS} more findings[/red]")
    for text in unmet:
        console.print(f"[red]not met[/red] {text}", highlight=False)


def closing_line(orders: int, record: Record, verdict: Verdict) -> str:
    """The one line that says how it went."""
    counts = ", ".join(f"{kind} {verdict.count(kind)}" for kind in ("duplicated", "lost", "unresolved"))
    return f"chaos: {orders} orders, {record.kills} kills, {record.faults} faults, {counts}, {verdict.books()}"


def _faults(record: Record) -> Table:
    table = Table("fault", "times", "orders touched", title="Faults")
    for name, times in sorted(record.times.items()):
        table.add_row(name, str(times), str(len(record.orders[name])))
    return table


def _counts(title: str, what: str, counts: Counter[str]) -> Table:
    table = Table(what, "times", title=title)
    for name, times in counts.most_common():
        table.add_row(name, str(times))
    if not counts:
        table.add_row("none", "0")
    return table
