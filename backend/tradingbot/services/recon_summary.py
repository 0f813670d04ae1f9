"""Telling people how a day closed, and which days nobody has signed: a log line, and an e-mail where one is wanted.

Invariants: each result is told once; an e-mail that cannot be sent is tried again with the next beat and holds nothing
up; no secret and no figure that the report does not show leaves by mail.
"""

from __future__ import annotations

import structlog
from django.conf import settings
from django.core.mail import send_mail

from backend.tradingbot.core.clock import Clock
from backend.tradingbot.infra.metrics import NOTIFICATIONS
from backend.tradingbot.models import Affirmation, ReconRun
from backend.tradingbot.selectors.recon_report import summary_lines
from backend.tradingbot.services.affirmations import mark_told, overdue

log = structlog.get_logger(__name__)

FINISHED = ("completed", "incomplete", "failed")
BATCH = 50


def tell(*, clock: Clock) -> int:
    """Tell of every run with a result that was not told yet, and of overdue signatures; how many were told."""
    told = 0
    for run in _untold():
        subject, lines = summary_lines(run)
        log.info("recon_summary", account=run.account.code, session=str(run.session), state=run.state, lines=lines)
        if not _mail(subject, lines):
            break
        ReconRun.objects.filter(pk=run.pk).update(notified_digest=_result(run))
        told += 1
    for late in overdue(clock=clock):
        if not _mail(f"Not signed in time: {late.account.code} {late.session}", _overdue(late)):
            break
        mark_told(late, clock=clock)
    return told


def _untold() -> list[ReconRun]:
    rows = ReconRun.objects.select_related("account").filter(state__in=FINISHED).order_by("-session")[: 10 * BATCH]
    return [run for run in rows if run.notified_digest != _result(run)][:BATCH]


def _result(run: ReconRun) -> str:
    """What there is to tell: the digest of a complete result, else the failure's own."""
    return run.result_digest if run.state == "completed" else f"{run.state}:{run.attempts and run.failure[:40]}"[:64]


def _overdue(late: Affirmation) -> list[str]:
    return [
        f"The positions and cash of {late.account.code} for {late.session} wait for a signature since {late.made_at}.",
        f"Hash of the figures: {late.sha256}",
    ]


def _mail(subject: str, lines: list[str]) -> bool:
    """True when it was sent, or nobody wants one."""
    config = settings.TRADINGBOT
    if not config.recipients:
        return True
    try:
        send_mail(f"[tradingbot] {subject}", "\n".join(lines), config.mail_from, config.recipients)
    except OSError as error:  # SMTP errors are OSErrors too
        NOTIFICATIONS.labels("email", "failed").inc()
        log.error("mail_failed", problem=type(error).__name__)
        return False
    NOTIFICATIONS.labels("email", "sent").inc()
    return True
