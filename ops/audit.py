"""Runs the security audits and fails on every finding that ops/waivers.toml does not excuse with a reason.

``python ops/audit.py`` runs all of them; names choose some: ``python ops/audit.py bandit zizmor``. An audit that cannot
run (its tool failed, or its service cannot be reached) is never counted as clean: it is reported as not done, which
fails where CI is set and is said in the closing line everywhere. A waiver that excuses nothing fails too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WAIVERS = ROOT / "ops" / "waivers.toml"
# The GPL and the AGPL by SPDX id ("GPL-3.0-or-later"), by abbreviation ("GNU AGPLv3", "GPL v3") and by name, but not
# the LGPL; the SSPL; and no licence at all. A choice ("MIT OR GPL-2.0-only") is refused too, until a waiver says which
# of them is taken.
FORBIDDEN_LICENCES = re.compile(
    r"(?<![A-Za-z])A?GPL(?![- ]compatible)(?![a-uw-z])"
    r"|(?<!Lesser )(?<!Library )General\s+Public\s+Licen[cs]e"
    r"|Affero|SSPL|Server\s+Side\s+Public|^\s*$|(?:^|;)\s*UNKNOWN\s*(?:;|$)",
    re.IGNORECASE,
)
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Finding:
    """One thing an audit found. ``code`` is the tool's own name of the rule, the advisory or the licence."""

    audit: str
    code: str
    where: str
    what: str


class NotDoneError(Exception):
    """The audit could not be carried out."""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the environment. It may exit non-zero for findings, so only its output is judged."""
    try:
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotDoneError(f"{command[0]} did not run: {error}") from None


def parsed(done: subprocess.CompletedProcess[str]) -> object:
    try:
        return json.loads(done.stdout)
    except ValueError:
        told = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise NotDoneError(told[-1][:300]) from None


def bandit() -> list[Finding]:
    """Unsafe calls in our own code."""
    report = parsed(run("bandit", "-q", "-r", "backend", "ops", "-x", "ops/lint", "-f", "json"))
    if report.get("errors"):  # type: ignore[attr-defined]
        raise NotDoneError(str(report["errors"][0]))  # type: ignore[index]
    return [
        Finding("bandit", row["test_id"], f"{row['filename']}:{row['line_number']}", row["issue_text"])
        for row in report["results"]  # type: ignore[index]
    ]


def pip_audit() -> list[Finding]:
    """Known vulnerabilities of what the lock pins."""
    report = parsed(
        run("pip-audit", "-r", "requirements.lock", "--disable-pip", "-f", "json", "--progress-spinner", "off")
    )
    rows = report["dependencies"]  # type: ignore[index]
    unknown = [row["name"] for row in rows if "skip_reason" in row]
    if len(unknown) * 2 > len(rows):
        raise NotDoneError(f"the advisory service could not say anything of {len(unknown)} of {len(rows)} packages")
    found = [Finding("pip_audit", "not-audited", name, "the service does not know this package") for name in unknown]
    for row in rows:
        for advisory in row.get("vulns", []):
            what = f"fixed in {', '.join(advisory['fix_versions']) or 'no version yet'}"
            found.append(Finding("pip_audit", advisory["id"], f"{row['name']}=={row['version']}", what))
    return found


def forbidden(licence: str) -> bool:
    """Whether the licence policy refuses a licence, as a package's metadata or classifiers name it."""
    return bool(FORBIDDEN_LICENCES.search(licence))


def licences() -> list[Finding]:
    """Licences that would bind this project's users, and packages that name none."""
    rows = parsed(run("pip-licenses", "--python", sys.executable, "--format", "json", "--from", "mixed"))
    return [
        Finding(
            "licences", row["License"].strip().partition("\n")[0][:80], row["Name"], "refused by the licence policy"
        )
        for row in rows  # type: ignore[attr-defined]
        if forbidden(row["License"])
    ]


def workflow_findings(*options: str, **environment: str) -> list[Finding]:
    rows = parsed(run("zizmor", "--quiet", "--format", "json", *options, ".github", **environment))
    found = []
    for row in rows:  # type: ignore[attr-defined]
        place = row["locations"][0]
        path = next(iter(place["symbolic"]["key"].values()))["verbatim_path"]
        line = place["concrete"]["location"]["start_point"]["row"] + 1
        found.append(Finding("zizmor", row["ident"], f"{path}:{line}", row["desc"]))
    return found


def zizmor() -> list[Finding]:
    """Workflow files and Dependabot's: unpinned actions, excessive permissions, injection. Asks nobody."""
    return workflow_findings("--offline")


def zizmor_online() -> list[Finding]:
    """What only GitHub knows of the actions: commits that are not their repository's, known weaknesses."""
    token = os.environ.get("GH_TOKEN")
    if not token:
        raise NotDoneError("GH_TOKEN is not set, so GitHub was not asked about the actions")
    known = {(one.code, one.where) for one in zizmor()}
    found = workflow_findings(GH_TOKEN=token, ZIZMOR_OFFLINE="false", RUST_BACKTRACE="0")
    return [replace(one, audit="zizmor_online") for one in found if (one.code, one.where) not in known]


def deploy() -> list[Finding]:
    """Django's own check of the production settings."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "ENVIRONMENT": "production",
        "SECRET_KEY": "only-for-the-check-" + "aB3-x9_" * 8,
        "ALLOWED_HOSTS": "trading.example",
        "DATABASE_URL": "postgresql://127.0.0.1:9/none",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "BROKER": "alpaca",
        "ALPACA_API_KEY": "only-for-the-check",
        "ALPACA_SECRET_KEY": "only-for-the-check",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    told = done.stdout + done.stderr
    if "System check identified" not in told:
        raise NotDoneError(told.strip().splitlines()[-1][:300] if told.strip() else "no output")
    lines = [
        line.strip() for line in told.splitlines() if line.lstrip().startswith(("?:", "<", "backend", "tradingbot"))
    ]
    return [Finding("deploy", line.partition("(")[2].partition(")")[0], "settings", line[:120]) for line in lines]


AUDITS: dict[str, Callable[[], list[Finding]]] = {
    "bandit": bandit,
    "pip_audit": pip_audit,
    "licences": licences,
    "zizmor": zizmor,
    "zizmor_online": zizmor_online,
    "deploy": deploy,
}


def excused(finding: Finding, waivers: list[dict[str, str]], used: set[int]) -> bool:
    """Whether a waiver of this audit and code covers the place; remembers which waivers were needed."""
    for number, waiver in enumerate(waivers):
        same = waiver["audit"] == finding.audit and waiver["code"] == finding.code
        if same and fnmatch(finding.where, waiver["where"]):
            used.add(number)
            return True
    return False


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in AUDITS]
    if unknown:
        print(f"audit: no audit {', '.join(unknown)}; there are {', '.join(AUDITS)}")
        return 2
    chosen = names or list(AUDITS)
    waivers = tomllib.loads(WAIVERS.read_text())["waiver"]
    used: set[int] = set()
    failed, waived, missing = 0, 0, []
    for name in chosen:
        try:
            findings = AUDITS[name]()
        except NotDoneError as error:
            print(f"{name}: NOT DONE: {error}")
            missing.append(name)
            continue
        bad = [finding for finding in findings if not excused(finding, waivers, used)]
        waived += len(findings) - len(bad)
        failed += len(bad)
        print(f"{name}: {len(findings)} found, {len(findings) - len(bad)} waived")
        for finding in bad:
            print(f"  {finding.code} {finding.where}: {finding.what}")
    idle = [w for n, w in enumerate(waivers) if n not in used and w["audit"] in chosen and w["audit"] not in missing]
    for waiver in idle:
        print(f"waiver without a finding: {waiver['audit']} {waiver['code']} {waiver['where']}; remove it")
    told = f", not done: {', '.join(missing)}" if missing else ""
    print(f"audit: {failed} findings, {waived} waived with a reason, {len(idle)} idle waivers{told}")
    return 1 if failed or idle or (missing and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
