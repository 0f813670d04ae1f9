"""``manage.py check_cache``: proves every cached file of bars; a bad one goes into quarantine and stops its symbols."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.management.speaking import operator, refusals
from backend.tradingbot.services.bar_cache import cache_folder, check_cache


class Command(BaseCommand):
    help = "Prove the cached bars against their manifests. Exit code 1 when one differs."

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            run = check_cache(actor=operator(), clock=SYSTEM_CLOCK)
        self.stdout.write(f"{cache_folder()}: {run.rows} file(s) checked in {run.seconds:.2f} s")
        if not run.hard:
            self.stdout.write(self.style.SUCCESS("every file is what its manifest says"))
            return
        lines = [
            f"{v['evidence']['file']} ({v['symbol']}): {v['evidence']['problem']}; expected "
            f"{v['evidence']['expected']}, found {v['evidence']['found']}"
            for v in run.verdicts
        ]
        raise CommandError("\n".join(["put into quarantine, symbols stopped:", *lines]))
