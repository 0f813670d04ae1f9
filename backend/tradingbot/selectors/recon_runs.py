"""Runs as a list tells them: the breaks of each that still stand, by severity, and who signed its day."""

from __future__ import annotations

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from backend.tradingbot.models import Affirmation, Break, ReconRun

# Signed by as many people as have to sign.
SIGNED = Q(needs_second=False) & ~Q(signed_by="") | ~Q(second_by="")


def listed(rows: QuerySet[ReconRun]) -> QuerySet[ReconRun]:
    """``rows`` with ``critical`` and ``warnings`` (breaks found by that session which stand) and ``affirmed``."""
    stood = Break.objects.filter(account=OuterRef("account")).exclude(status="closed")
    found = stood.exclude(session__gt=OuterRef("session")).order_by().values("account")
    signed = Affirmation.objects.filter(
        SIGNED, account=OuterRef("account"), session=OuterRef("session"), replaced_at=None
    )
    counts = {
        name: Coalesce(Subquery(found.filter(severity=severity).annotate(count=Count("pk")).values("count")[:1]), 0)
        for name, severity in (("critical", "critical"), ("warnings", "warning"))
    }
    return rows.annotate(
        **counts, affirmed=Subquery(signed.values("signed_by")[:1]), seconds=F("completed_at") - F("started_at")
    )
