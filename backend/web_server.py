"""How gunicorn serves the bot: ``gunicorn -c python:backend.web_server backend.wsgi:application``.

Threads, because a request mostly waits for PostgreSQL and the broker; few, because each holds a connection. The address
comes from the command line (``--bind``), everything else from the same settings as the rest of the bot. What gunicorn
itself has to say leaves as the same log lines.
"""

import os
from typing import Any

from backend.settings import LOGGING, TRADINGBOT

worker_class = "gthread"
workers = TRADINGBOT.web_workers
threads = TRADINGBOT.web_threads
keepalive = 75
timeout = 60
graceful_timeout = 10
loglevel = "warning"
own_lines = {"gunicorn.error": {"level": "WARNING", "handlers": [], "propagate": True}}
logconfig_dict = {**LOGGING, "loggers": {**LOGGING["loggers"], **own_lines}}
control_socket_disable = True


def child_exit(server: Any, worker: Any) -> None:
    """What a process counted stays; what it held at the moment goes with it."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)
