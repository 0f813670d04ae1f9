"""The day's report as one self-contained page: nothing is loaded from anywhere, so that it can be kept and printed."""

from __future__ import annotations

from django.template.loader import render_to_string
from django.utils.safestring import mark_safe

from backend.tradingbot.core.clock import rfc3339
from backend.tradingbot.models import ReconRun
from backend.tradingbot.ops.waterfall import waterfall_svg
from backend.tradingbot.selectors.recon_report import report_of


def report_context(run: ReconRun) -> dict[str, object]:
    report = report_of(run)
    chart = mark_safe(waterfall_svg(report.bars))
    equity = run.proofs.get("equity")
    return {
        "run": run, "report": report, "chart": chart, "equity": equity, "cut": rfc3339(run.cut),
        "ours": run.proofs.get("ours", []), "theirs": run.proofs.get("theirs", []),
        "lines": run.pnl.get("lines", []), "options": run.pnl.get("options", []),
        "unmarked": run.pnl.get("unmarked", []), "unexplained": run.proofs.get("unexplained"),
    }  # fmt: skip


def report_page(run: ReconRun) -> str:
    """HTML with its style and its chart inside."""
    return render_to_string("recon/report.html", report_context(run))
