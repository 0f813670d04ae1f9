"""The demo is a promise of the README: it runs on a stack of its own and ends with every expectation met."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_demo_plays_its_whole_day_without_a_surprise() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DJANGO_SETTINGS_MODULE",)}
    done = subprocess.run(
        [sys.executable, "-m", "ops.demo"],
        cwd=ROOT,
        env={**environment, "ENVIRONMENT": "development"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "expectations met" in done.stdout.splitlines()[-1]
