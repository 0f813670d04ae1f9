"""Installs what ops/apt.txt names and is not here yet, where this is root on a machine with apt.

Elsewhere it prints one line that says how, and the parts that need it report themselves as skipped. With CI set, a
package that is not here is an error. A program under any name that the parts look for will do: Ubuntu has Chromium as a
snap only, and Google Chrome does as well. Needs nothing but Python's own library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).resolve().parent / "apt.txt"
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "prometheus": ("promtool",),
}


def packages() -> list[str]:
    lines = (line.partition("#")[0].strip() for line in LIST.read_text().splitlines())
    return [line for line in lines if line]


def missing() -> list[str]:
    """The packages none of whose programs is on PATH."""
    return [name for name in packages() if not any(map(shutil.which, PROGRAMS.get(name, (name,))))]


def main() -> int:
    wanted = missing()
    if not wanted:
        return 0
    names = " ".join(wanted)
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        print(f"not installed: {names}. On Debian or Ubuntu: sudo apt-get install {names}")
        return 1 if os.environ.get("CI") else 0
    print(f"installing {names} (once)", flush=True)
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run([apt, "update", "-qq"], check=False, **quiet)  # type: ignore[call-overload]
    for name in wanted:  # one by one: a name that this distribution does not know must not keep the others away
        command = [apt, "install", "--yes", "--quiet", "--no-install-recommends", name]
        subprocess.run(command, check=False, **quiet)  # type: ignore[call-overload]
    left = missing()
    if left:
        others = "; ".join(f"{name}: one of {', '.join(PROGRAMS.get(name, (name,)))} on PATH will do" for name in left)
        print(f"could not install {' '.join(left)}; the parts that need them are skipped ({others})")
    return 1 if left and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
