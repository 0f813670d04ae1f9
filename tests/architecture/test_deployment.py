"""The compose file, the image and the monitoring's configuration, as far as they can be held to something without them.

What the bot gets there is given to the bot: its settings must take it, and Django's own check of a deployment must have
nothing to say.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.settings.config import Config

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BOT = ("migrate", "web", "worker", "notifier", "beat", "stream")
GIVEN = {"ALLOWED_HOSTS": "trading.example", "WAL_DIR": "/var/backups/wal"}
OPTIONAL = {"mail_url", "notify_webhook_url", "notify_telegram_token"}
SETTINGS = {name.upper() for name in Config.model_fields}
# What other programs read, not ours.
FOREIGN = re.compile(r"PROMETHEUS_MULTIPROC_DIR|POSTGRES_|GF_")


# A full version, with or without the digest that it had when somebody looked.
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+|-)[\w.-]*(@sha256:[0-9a-f]{64})?")
BASE = re.compile(r"python:\d+\.\d+\.\d+-slim(-\w+)?(@sha256:[0-9a-f]{64})?")
# The first version that mends a weakness through which the container is taken over.
MENDED = {"valkey/valkey": (8, 1, 4)}  # CVE-2025-49844


def interpolated(text: str) -> str:
    """A value as compose would have it with only the needed variables given."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.group(1), found.group(2), found.group(3)
        if name in GIVEN:
            return GIVEN[name]
        assert kind == ":-", f"{name} has no default and is not among those that docs/deploy.md names"
        return rest

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", value, text)


def environment_of(service: str, directory: Path) -> dict[str, str]:
    """What the service's process would see, with secrets made up in ``directory``."""
    found = {name: interpolated(value) for name, value in SERVICES[service]["environment"].items()}
    for name, value in found.items():
        if value.startswith("/run/secrets/"):
            file = directory / value.rpartition("/")[2]
            file.write_text("" if file.name in OPTIONAL else secrets.token_urlsafe(48) + "\n")
            found[name] = str(file)
    return found | ({"PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics")} if service == "web" else {})


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened_limited_pinned_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert PINNED.fullmatch(interpolated(service["image"])), service["image"]
    if name == "migrate":
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("postgres:17.7-alpine3.22", True),
        ("prom/prometheus:v3.7.3", True),
        (f"ghcr.io/a/b:1.2.3-slim@sha256:{'0a' * 32}", True),
        ("postgres:17-alpine", False),
        ("postgres:latest", False),
        ("postgres", False),
        ("postgres:17.7", False),
        (f"postgres@sha256:{'0a' * 32}", False),
        ("postgres:17.7-alpine3.22@sha256:0a", False),
    ],
)
def test_an_image_is_named_by_its_full_version_and_may_be_held_by_its_digest(image: str, pinned: bool) -> None:
    assert bool(PINNED.fullmatch(image)) is pinned
    assert bool(BASE.fullmatch(image.replace("ghcr.io/a/b", "python"))) is (pinned and image.startswith("ghcr"))


def test_no_image_is_older_than_the_one_that_mended_a_known_hole() -> None:
    images = {image: tag for image, _, tag in (service["image"].partition(":") for service in SERVICES.values())}
    for image, version in MENDED.items():
        assert tuple(map(int, re.findall(r"\d+", images[image])[:3])) >= version, image


def test_the_parts_are_all_there() -> None:
    others = {"postgres", "valkey", "prometheus", "alertmanager", "grafana"}
    assert set(SERVICES) == {*BOT, *others}
    for name in BOT[1:]:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_whoever_has_work_in_hand_is_given_longer_to_stop_than_it_takes() -> None:
    """Without a stop_grace_period a container is killed after 10 s."""
    given = {name: seconds(service.get("stop_grace_period", "10s")) for name, service in SERVICES.items()}
    graceful = re.search(r"^graceful_timeout = (\d+)$", (ROOT / "backend/web_server.py").read_text(), re.M)
    assert graceful is not None
    longest_call = (
        Config.model_fields["broker_connect_timeout"].default + Config.model_fields["broker_read_timeout"].default
    )
    assert int(graceful[1]) > longest_call
    assert given["web"] >= int(graceful[1]) + 10
    assert given["worker"] >= 60 and given["postgres"] >= 60
    assert given["notifier"] >= 30 and given["valkey"] >= 30


def test_the_process_that_is_told_to_stop_is_the_one_that_must() -> None:
    """A shell in between is told and ends; what it started is then killed with the container."""
    for name, service in SERVICES.items():
        command = service.get("command", [])
        if command[:2] == ["sh", "-c"]:
            assert re.search(r"; exec \S+", command[2]) and "|" not in command[2], name


def test_no_secret_stands_in_the_file_and_each_is_a_file_that_somebody_reads() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|API_KEY|MAIL_URL|WEBHOOK", variable):
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
                assert value.removeprefix("/run/secrets/") in service["secrets"]
        assert not re.search(r"://[^/@:\s]*:[^/@\s]+@", str(service)), f"{name} has a password in a URL"
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())


@pytest.mark.parametrize("name", BOT)
def test_every_variable_of_the_bot_is_a_setting(name: str) -> None:
    known = {variable for setting in SETTINGS for variable in (setting, f"{setting}_FILE")}
    unknown = [v for v in SERVICES[name]["environment"] if v not in known and not FOREIGN.match(v)]
    assert unknown == []


def check_deploy(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return done.stdout + done.stderr


def test_check_deploy_has_nothing_to_say_of_the_compose_files_environment(tmp_path: Path) -> None:
    assert "System check identified no issues" in check_deploy(environment_of("web", tmp_path))


def test_check_deploy_speaks_of_a_deployment_that_answers_to_no_name(tmp_path: Path) -> None:
    assert "security.W020" in check_deploy(environment_of("web", tmp_path) | {"ALLOWED_HOSTS": ","})


def test_a_deployment_without_a_secrets_file_is_refused_by_its_name(tmp_path: Path) -> None:
    environment = environment_of("web", tmp_path)
    Path(environment["SECRET_KEY_FILE"]).unlink()
    assert f"SECRET_KEY_FILE: {environment['SECRET_KEY_FILE']} cannot be read" in check_deploy(environment)


def test_the_image_runs_as_nobody_in_particular_and_installs_only_what_the_lock_names() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    stages = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(stages) == 2
    assert all(BASE.fullmatch(stage) for stage in stages) and len(set(stages)) == 1
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 1
    assert "--require-hashes -r requirements-run.lock" in installs[0]
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER tradingbot"]
    assert lines.index(users[0]) > max(i for i, line in enumerate(lines) if line.startswith("COPY "))
    assert any(line.startswith("HEALTHCHECK ") for line in lines)
    assert not any(line.startswith(("ADD ", "COPY . ")) for line in lines)


def test_the_image_takes_what_its_distribution_has_mended_anew_with_every_commit() -> None:
    final = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", "")
    commands = [" ".join(line.split()) for line in final.splitlines() if re.match("RUN|ARG|USER", line)]
    update = (
        "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get upgrade --yes --no-install-recommends"
        " && rm -rf /var/lib/apt/lists/*"
    )
    assert commands.index('ARG GIT_SHA=""') < commands.index(update) < commands.index("USER tradingbot")


def test_what_is_mounted_is_in_the_repository() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists(), volume
                assert volume.endswith(":ro"), volume


def configured(tmp_path: Path, name: str, secret: str) -> Path:
    """The configuration as it stands, with its secret's file and its rules beside it."""
    (tmp_path / secret).write_text("https://example.com/hook\n")
    text = (ROOT / "ops" / name).read_text().replace(f"/run/secrets/{secret}", str(tmp_path / secret))
    (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "ops" / "alerts.yml", tmp_path)
    return tmp_path / name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed, see ops/apt.txt")
def test_prometheus_takes_its_configuration_with_the_rules(tmp_path: Path) -> None:
    config = configured(tmp_path, "prometheus.yml", "metrics_key")
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)
    assert (done.returncode, "1 rule files found" in done.stdout) == (0, True), done.stdout + done.stderr


def knows_url_file() -> bool:
    """Whether an amtool is here that is new enough for this configuration: before 0.26 there was no ``url_file``."""
    if shutil.which("amtool") is None:
        return False
    told = subprocess.run(["amtool", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"version (\d+)\.(\d+)", told.stdout + told.stderr)
    return version is not None and (int(version[1]), int(version[2])) >= (0, 26)


@pytest.mark.skipif(not knows_url_file(), reason="amtool 0.26 or newer is not installed; the schema was asked")
def test_alertmanager_takes_its_configuration(tmp_path: Path) -> None:
    config = configured(tmp_path, "alertmanager.yml", "alert_webhook")
    done = subprocess.run(["amtool", "check-config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_scrapes_services_that_exist_at_the_ports_they_have() -> None:
    jobs = yaml.safe_load((ROOT / "ops/prometheus.yml").read_text())["scrape_configs"]
    found = {(name, sd["port"]) for job in jobs for sd in job["dns_sd_configs"] for name in sd["names"]}
    workers = {
        (name, int(SERVICES[name]["environment"]["WORKER_METRICS_PORT"])) for name in ("worker", "notifier", "stream")
    }
    assert found == {("web", 8000), *workers}


def test_every_target_is_asked_with_the_key_and_none_is_published() -> None:
    jobs = yaml.safe_load((ROOT / "ops/prometheus.yml").read_text())["scrape_configs"]
    assert {job["authorization"]["credentials_file"] for job in jobs} == {"/run/secrets/metrics_key"}
    opened = {name for name, service in SERVICES.items() if "WORKER_METRICS_PORT" in service.get("environment", {})}
    assert opened == {"worker", "notifier", "stream"}
    assert not [name for name in opened if SERVICES[name].get("ports")]


def test_each_queue_is_taken_by_one_kind_of_worker() -> None:
    taken = {
        name: SERVICES[name]["command"][SERVICES[name]["command"].index("-Q") + 1] for name in ("worker", "notifier")
    }
    assert taken == {"worker": "celery", "notifier": "notifications"}


def test_prometheus_may_ask_the_web_by_its_name() -> None:
    assert "web" in SERVICES["web"]["environment"]["ALLOWED_HOSTS"].split(",")
