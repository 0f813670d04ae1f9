"""``/metrics``: what was counted by every process here, and the state as the database has it now."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.infra.counted import counted
from backend.tradingbot.selectors.metrics import StateCollector
from backend.tradingbot.services.scraping import SCRAPERS

LOOKS, PAUSE_SECONDS = 5, 0.02


class MayScrape(BasePermission):
    """Any key that reads everything, or anybody when METRICS_PUBLIC is set: the figures are of every account."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if settings.TRADINGBOT.metrics_public:
            return True
        if request.user:
            caller(request).need_role(*SCRAPERS)
        return bool(request.user)


class Metrics(APIView):
    permission_classes = [MayScrape]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        state = CollectorRegistry(auto_describe=False)
        state.register(StateCollector(SYSTEM_CLOCK))
        return HttpResponse(_counted() + generate_latest(state), content_type=CONTENT_TYPE_LATEST)


def _counted() -> bytes:
    """What all processes counted. A process that just starts has made its file and not yet filled it: look again."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return generate_latest(REGISTRY)
    for _ in range(LOOKS - 1):
        try:
            return counted(Path(folder))
        except struct.error:
            time.sleep(PAUSE_SECONDS)
    return counted(Path(folder))
