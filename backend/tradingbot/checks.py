"""Django system checks of this product: each finding names the setting that is wrong and what to do.

Errors stop every command and every start (``start.py``); warnings are of ``check --deploy`` only. What a single value
may be is checked where it is parsed (``backend/settings/config.py``); here is what only several together can show.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import Error as DatabaseError

from backend.tradingbot.selectors.database_server import durability_faults, granted_connections, server_settings

TAG = "tradingbot"
NO_ANSWER = "tradingbot.E201"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
OTHER_CONNECTIONS = 10  # beat, the notifier, the broker's stream, commands, a backup, a look by hand


def connections_needed(config: Any) -> int:
    """The most connections that web, worker, beat and people beside them hold at once."""
    return int(config.web_workers * config.web_threads + config.worker_threads + OTHER_CONNECTIONS)


@register(TAG)
def check_settings(**_: Any) -> list[CheckMessage]:
    config = settings.TRADINGBOT
    found: list[CheckMessage] = []
    longest = config.broker_connect_timeout + config.broker_read_timeout
    if config.quiet_window_seconds <= longest:
        problem = f"QUIET_WINDOW_SECONDS is {config.quiet_window_seconds:g}, not longer than a call to the broker"
        hint = f"Set it above BROKER_CONNECT_TIMEOUT + BROKER_READ_TIMEOUT ({longest:g}); 120 is the default."
        found.append(Error(problem, hint=hint, id="tradingbot.E001"))
    address = urlsplit(config.alpaca_base_url)
    if address.scheme != "https" and address.hostname not in LOOPBACK:
        problem = "ALPACA_BASE_URL is not https: the broker's keys would travel in the clear"
        found.append(Error(problem, hint="Use https, or an address of this machine.", id="tradingbot.E002"))
    return found


@register(TAG, deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    config = settings.TRADINGBOT
    found: list[CheckMessage] = []
    if config.environment != "production":
        hint = "Set ENVIRONMENT=production; cookies and redirects are not safe otherwise."
        found.append(Warning(f"ENVIRONMENT is {config.environment}", hint=hint, id="tradingbot.W101"))
    if config.broker == "paper":
        problem = "BROKER=paper: every order goes to a paper broker"
        found.append(Warning(problem, hint="Set BROKER=alpaca.", id="tradingbot.W102"))
    if "*" in settings.ALLOWED_HOSTS or not set(settings.ALLOWED_HOSTS) - {*LOOPBACK, "[::1]"}:
        problem = "ALLOWED_HOSTS names any host, or only this machine"
        found.append(Warning(problem, hint="Name the hosts that people and strategies call.", id="tradingbot.W103"))
    if config.metrics_public:
        problem = "METRICS_PUBLIC is on: everybody who reaches the port reads the figures"
        found.append(Warning(problem, hint="Unset it, and give Prometheus a viewer's key.", id="tradingbot.W104"))
    if config.log_level == "DEBUG":
        problem = "LOG_LEVEL is DEBUG: SQL and headers reach the log"
        found.append(Warning(problem, hint="Set LOG_LEVEL=INFO.", id="tradingbot.W105"))
    return found


@register(TAG, Tags.database)
def check_database(databases: Any = None, **_: Any) -> list[CheckMessage]:
    """Asked where a database is asked at all: by ``migrate``, by ``check --database default`` and at every start."""
    if "default" not in (databases or []):
        return []
    try:
        told = server_settings()
    except DatabaseError as error:
        problem = f"the database does not answer: {str(error).strip().splitlines()[0]}"
        return [Error(problem, hint="See that PostgreSQL runs and what DATABASE_URL says.", id=NO_ANSWER)]
    hint = "Switch it on in postgresql.conf, and for this role and database, and restart PostgreSQL."
    found: list[CheckMessage] = [Error(fault, hint=hint, id="tradingbot.E202") for fault in durability_faults(told)]
    needed, granted = connections_needed(settings.TRADINGBOT), granted_connections(told)
    if needed >= granted:
        problem = f"PostgreSQL grants {granted} connections, and {needed} can be needed at once"
        hint = "Raise max_connections (or the limit of the role or database), or lower WEB_WORKERS, WEB_THREADS or "
        found.append(Error(problem, hint=f"{hint}WORKER_THREADS.", id="tradingbot.E203"))
    return found
