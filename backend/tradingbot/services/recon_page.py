"""The day's report as one self-contained page: nothing is loaded from anywhere, so that it can be kept and printed.

The same content stands in the admin; the figures are written out here once, so that both say the same.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import mark_safe

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.models import Affirmation, ReconRun
from backend.tradingbot.ops.pnl_options import LINES as OPTION_LINES
from backend.tradingbot.ops.recon_proofs import in_order
from backend.tradingbot.ops.waterfall import waterfall_svg
from backend.tradingbot.selectors.recon_report import AGE_BANDS, Report, report_of
from backend.tradingbot.services.affirmations import is_signed

SHEET = Path(__file__).resolve().parents[1] / "static/tradingbot/recon.css"
UNKNOWN = "unknown"
PNL_COLUMNS = ("realized_fifo", "realized_average", "unrealized_change", "dividends", "fees", "total")


def report_page(run: ReconRun, *, now: datetime) -> str:
    """HTML with its style and its chart inside."""
    sheet = mark_safe(SHEET.read_text())
    return render_to_string("recon/report.html", {**report_context(run, now=now), "sheet": sheet})


def report_context(run: ReconRun, *, now: datetime, most: int | None = None) -> dict[str, Any]:
    """What the templates show; of the breaks at most ``most``, the weightiest first, and how many are left out."""
    report = report_of(run)
    shown = report.breaks[:most]
    pnl, proofs = run.pnl, run.proofs
    return {
        "run": run, "report": report, "cut": rfc3339(run.cut), "bands": AGE_BANDS,
        "verdict": verdict_of(report, now), "tiles": tiles_of(report, now),
        "chart": mark_safe(waterfall_svg(report.bars)),
        "proofs": proof_tables(proofs), "unexplained": money(proofs.get("unexplained")),
        "kinds": [(row, money(row.value)) for row in report.kinds],
        "breaks": [(row, age, money(row.value)) for row, age in shown],
        "left_out": len(report.breaks) - len(shown),
        "lines": [(line, [money(line.get(name)) for name in PNL_COLUMNS]) for line in pnl.get("lines", [])],
        "lines_sum": [money(value) for value in sums_of(pnl.get("lines", []), PNL_COLUMNS)],
        "options": [(line, [figure(line.get(name), 4) for name in OPTION_LINES]) for line in options_of(pnl)],
        "options_sum": [figure(value, 4) for value in sums_of(options_of(pnl), OPTION_LINES)],
        "unmarked": pnl.get("unmarked", []), "signed": signature_of(report.affirmation, now), "now": rfc3339(now),
    }  # fmt: skip


def options_of(pnl: dict[str, Any]) -> list[dict[str, str]]:
    """The options' lines with their totals; those of a run from before totals were kept are added up here."""
    lines = [dict(line) for line in pnl.get("options") or []]
    for line in lines:
        (total,) = sums_of([{"part": line.get(name)} for name in ("actual", "traded")], ("part",))
        line.setdefault("total", total)
    return lines


def sums_of(lines: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Each column's sum; unknown where one of its figures is."""
    sums = []
    for name in columns:
        told = [line.get(name) for line in lines]
        known = all(value not in (None, "", UNKNOWN) for value in told)
        sums.append(str(sum((Decimal(str(value)) for value in told), Decimal(0))) if known else UNKNOWN)
    return sums


def figure(raw: Any, places: int) -> str:
    """``84750.125`` -> ``84,750.125``: exact, with at least ``places`` decimals; empty where nothing is told, and
    the store's own word where a figure is not known."""
    if raw is None or raw in ("", UNKNOWN):
        return raw or ""
    value = Decimal(str(raw)).normalize()
    exponent = value.as_tuple().exponent
    return f"{value:,.{max(places, -exponent if isinstance(exponent, int) else 0)}f}"


def money(raw: Any) -> str:
    return figure(raw, 2)


def verdict_of(report: Report, now: datetime) -> tuple[str, str]:
    """The first thing to know, as tone and sentence: may the account trade next, and if not, why."""
    run, stands = report.run, [block for block in report.blocks if block.lifted_at is None]
    if run.state in ("failed", "incomplete", "running"):
        return "bad", f"The session is not closed: {run.failure or run.state}."
    acting = [block for block in stands if block.waived_until is None or block.waived_until <= now]
    if acting:
        return "bad", f"The next session is blocked: {acting[-1].reason}."
    if stands:
        until = min(block.waived_until for block in stands if block.waived_until is not None)
        return "warn", f"Blocked ({stands[-1].reason}), and waived until {until:%Y-%m-%d %H:%M} UTC."
    if report.standing:
        return "warn", f"The next session is free; {len(report.standing)} breaks stand that only warn."
    return "good", "Both sides agree. The next session is free."


def tiles_of(report: Report, now: datetime) -> list[dict[str, str]]:
    """Five figures that tell the day."""
    run, equity = report.run, report.run.proofs.get("equity")
    theirs = run.counts.get("theirs", 0)
    critical = sum(row.severity == "critical" for row in report.standing)
    at_stake = money(sum((row.value for row in report.standing), Decimal(0)))
    change = None if not equity else Decimal(equity["closing"]) - Decimal(equity["opening"])
    left = money(run.proofs.get("unexplained"))
    tone, signed = signature_of(report.affirmation, now)
    return [
        _tile("Executions matched", f"{report.matched:,}", f"{run.counts.get('ours', 0):,} here, {theirs:,} there"),
        _tile("Breaks that stand", str(len(report.standing)), f"{critical} critical, ${at_stake}",
              "bad" if critical else "warn" if report.standing else "good"),
        _tile("Change of equity", "unknown" if change is None else f"{change:+,.2f}",
              f"to ${money(equity['closing'])}" if equity else "a side's equity is not known"),
        _tile("Unexplained", left or "unknown", "by fills, entries, marks and breaks",
              "bad" if not left or Decimal(run.proofs["unexplained"]) else "good"),
        _tile("Affirmed", {"good": "yes", "bad": "overdue"}.get(tone, "not yet"), signed, tone),
    ]  # fmt: skip


def _tile(name: str, value: str, note: str, tone: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "note": note, "tone": tone}


def signature_of(found: Affirmation | None, now: datetime) -> tuple[str, str]:
    """Tone and words of who has signed the day's figures."""
    if found is None:
        return "", "nothing to sign yet"
    names = " and ".join(name for name in (found.signed_by, found.second_by) if name)
    if is_signed(found):
        return "good", f"by {names}"
    due = f"due {found.due_at:%Y-%m-%d %H:%M} UTC"
    waits = f"by {names}; a second person has to sign, {due}" if names else due
    return ("bad", f"{waits}, overdue") if found.due_at < now else ("warn", waits)


def proof_tables(proofs: dict[str, Any]) -> list[dict[str, Any]]:
    """Equity, cash and positions as tables: opening, every line, what is unexplained, closing; both sides by row."""
    sides = [("ours", proofs.get("ours", [])), ("the broker's", proofs.get("theirs", []))]
    cash = [(f"Cash, {side}", proof) for side, told in sides for proof in told if proof["name"] == "cash"]
    held = [(f"{proof['name']}, {side}", proof) for side, told in sides for proof in told if proof["name"] != "cash"]
    held.sort(key=lambda pair: pair[0])
    equity = [("Equity", proofs["equity"])] if proofs.get("equity") else []
    tables = (("Equity", equity, 2), ("Cash", cash, 2), ("Positions", held, 0))
    return [_table(title, rows, places) for title, rows, places in tables if rows]


def _table(title: str, rows: list[tuple[str, dict[str, Any]]], places: int) -> dict[str, Any]:
    names = in_order(name for _, proof in rows for name in proof["lines"])
    return {
        "title": title,
        "unit": "dollars" if places else "shares or contracts",
        "columns": [name.replace("_", " ") for name in names],
        "rows": [
            {
                "name": name, "opening": figure(proof["opening"], places), "closing": figure(proof["closing"], places),
                "cells": [figure(proof["lines"].get(column), places) for column in names],
                "unexplained": figure(proof["unexplained"], places), "holds": not Decimal(proof["unexplained"]),
            }
            for name, proof in rows
        ],
    }  # fmt: skip
