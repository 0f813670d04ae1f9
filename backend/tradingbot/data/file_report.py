"""A report on a file of bars for people: as text for a terminal, or as one HTML page that needs nothing but itself.

Invariants: whatever stands in the file is escaped; the page loads nothing from anywhere and runs no script; severity is
said by shape and word, never by colour alone.
"""

from __future__ import annotations

from html import escape
from typing import Any

from backend.tradingbot.core.values import Severity, Verdict
from backend.tradingbot.data.checks import CATALOGUE
from backend.tradingbot.data.drawing import draw
from backend.tradingbot.data.file_check import FileReport
from backend.tradingbot.data.frames import moment

WORDS = {Severity.HARD: "STOP", Severity.WARN: "warn"}
STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#667;--line:#dde;--paper:#fff;--hard:#b3261e;--warn:#8a6100}
:root{--price:#3a5a8c}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#9aa3ad;--line:#333a42;--paper:#15181c;--hard:#ff8a80;
--warn:#f2c14e;--price:#8fb3ea}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;max-width:1080px;
padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.H{color:var(--hard);font-weight:600}.W{color:var(--warn)}
code{font-size:.85em;word-break:break-word}svg{width:100%;height:auto;border:1px solid var(--line)}
.soft{color:var(--soft)}.price{fill:none;stroke:var(--price);stroke-width:1.2}.band{fill:var(--price);opacity:.18}
.axis{fill:var(--soft);font-size:12px}.grid{stroke:var(--line);stroke-width:1}.flagH{fill:var(--hard)}.flagW{fill:none;stroke:var(--warn);stroke-width:1.6}
"""


def summary(report: FileReport) -> str:
    hard = sum(1 for verdict in report.found if verdict.severity is Severity.HARD)
    warned = len(report.found) - hard
    span = "" if report.first is None else f", {moment(report.first)} to {moment(report.last or report.first)}"
    what = f"{report.name}: {report.rows:,} bars of {len(report.symbols):,} symbol(s){span}"
    return f"{what}: " + (f"{hard} stop(s), {warned} warning(s)" if report.found else "clean")


def as_text(report: FileReport, most: int = 200) -> str:
    """The summary, then a line a verdict: what, which check, where, how many rows, since when."""
    found = report.found
    lines = [summary(report)]
    cells = [[WORDS[v.severity], v.check, v.symbol, f"{v.rows:,}", _first(v), _details(v)] for v in found[:most]]
    if cells:
        cells.insert(0, ["", "CHECK", "SYMBOL", "ROWS", "FIRST AT", "EVIDENCE"])
        widths = [max(len(row[column]) for row in cells) for column in range(5)]
        for row in cells:
            lines.append("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)) + f"  {row[5]}")
    if len(found) > most:
        lines.append(f"and {len(found) - most:,} more")
    return "\n".join(line.rstrip() for line in lines)


def _first(verdict: Verdict) -> str:
    at = verdict.evidence.get("at") or verdict.evidence.get("rows") or ["-"]
    return str(at[0])


def _details(verdict: Verdict) -> str:
    """The evidence in one line, without the list of times."""
    kept: dict[str, Any] = {name: value for name, value in verdict.evidence.items() if name not in ("at", "rows")}
    first = kept.pop("first", None)
    parts = [f"{name}={value}" for name, value in kept.items()]
    if isinstance(first, dict):
        parts.append(" ".join(f"{name[0].upper()}={value}" for name, value in first.items()))
    return ", ".join(parts)


def as_html(report: FileReport) -> str:
    """One page: the summary, a table of verdicts, and a drawing of each symbol with the flagged bars on it."""
    rows = "".join(
        f'<tr><td class="{v.severity.value}">{WORDS[v.severity]}</td><td><code>{escape(v.check)}</code></td>'
        f'<td>{escape(v.symbol)}</td><td class="n">{v.rows:,}</td><td>{escape(_first(v))}</td>'
        f"<td>{escape(_meaning(v))}<br><code>{escape(_details(v))}</code></td></tr>"
        for v in report.found[:2_000]
    )
    table = (
        '<table><thead><tr><th></th><th>Check</th><th>Symbol</th><th class="n">Rows</th><th>First at</th>'
        f"<th>Evidence</th></tr></thead><tbody>{rows}</tbody></table>"
        if rows
        else "<p>Every check passed.</p>"
    )
    drawings = "".join(
        f"<h2>{escape(symbol)} <span class=soft>{report.symbols.get(symbol, 0):,} bars</span></h2>{draw(outline)}"
        for symbol, outline in sorted(report.outlines.items(), key=lambda item: (not item[1].flags, item[0]))
    )
    title = escape(report.name)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data check of {title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>Data check of {title}</h1><p>{escape(summary(report))}</p>{table}{drawings}"
        "<p class=soft>A filled triangle marks a bar that stops, a ring one that warns. The band is the range of the "
        "closes where a point stands for several bars.</p></body></html>"
    )


def _meaning(verdict: Verdict) -> str:
    described = CATALOGUE.get(verdict.check)
    return described.meaning if described else ""
