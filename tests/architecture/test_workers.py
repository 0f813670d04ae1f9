"""Each worker of a test run has stores of its own."""

import os

from django.conf import settings


def test_the_settings_name_this_workers_own_valkey_database() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    number = 0 if worker is None else int(worker.removeprefix("gw")) + 1
    assert settings.TRADINGBOT.redis_url.get_secret_value().endswith(f"/{number}")
