"""Prometheus beside `make up PROMETHEUS=1`: it scrapes the running bot and evaluates ops/alerts.yml for real.

The configuration is the deployment's own (ops/prometheus.yml) with the addresses of this machine: the web server counts
for the worker too here, because both count into one directory, and nobody is called by an alert.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = "2d"


def program() -> str | None:
    """Where the prometheus binary is, or None on a machine without one (ops/apt.txt)."""
    return shutil.which("prometheus")


def fault(environment: Mapping[str, str]) -> str | None:
    """Why the stack cannot start with these variables, or None."""
    if environment.get("PROMETHEUS") == "1" and (environment.get("METRICS_PUBLIC") or "1") != "1":
        return "PROMETHEUS=1 scrapes without a key: leave METRICS_PUBLIC at 1"
    port = environment.get("PROMETHEUS_PORT") or "9090"
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        return f"PROMETHEUS_PORT must be a number from 1 to 65535, not {port!r}"
    return None


def configuration(web_port: int) -> str:
    """What Prometheus reads: the same intervals and rules as in the deployment, one target on this machine."""
    lines = (ROOT / "ops" / "prometheus.yml").read_text().splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if line.startswith("alerting:"))]
    rules = [line.replace("- alerts.yml", f"- {ROOT / 'ops' / 'alerts.yml'}") for line in head]
    scrape = ["scrape_configs:", "  - job_name: tradingbot", "    static_configs:"]
    return "\n".join([*rules, *scrape, f'      - targets: ["127.0.0.1:{web_port}"]', ""])


def command(state: Path, web_port: int, port: int, binary: str) -> list[str]:
    """Write the configuration into the state directory; the command that runs Prometheus on it."""
    directory = state / "prometheus"
    (directory / "data").mkdir(parents=True, exist_ok=True)
    config = directory / "prometheus.yml"
    config.write_text(configuration(web_port))
    return [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--storage.tsdb.retention.time={KEPT}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
