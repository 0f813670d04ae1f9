"""``make demo``: plays the scripted day and exits non-zero when anything came out other than expected."""

from __future__ import annotations

import sys
import time

from rich.console import Console

from ops.demo import breakers, day, gates, orders, outages
from ops.demo.stage import Surprise, open_stage

SCENES = [
    *orders.SCENES,
    *gates.SCENES,
    *breakers.SCENES,
    *outages.SCENES,
    *day.SCENES,
    *gates.ROLL_CALL,
]


def main() -> int:
    console = Console(soft_wrap=True)
    began = time.monotonic()
    console.print("A trading day on a stack of its own (PostgreSQL, Valkey, paper broker, web, worker, beat)")
    try:
        with open_stage(console) as stage:
            console.print(f"ready after {time.monotonic() - began:.0f} s\n")
            for number, (title, scene) in enumerate(SCENES, start=1):
                console.print(f"[bold]{number:2}. {title}[/bold]", highlight=False)
                scene(stage)
            checks = stage.checks
    except Surprise as surprise:
        console.print(f"[bold red]SURPRISE[/bold red] {surprise}", highlight=False, markup=True)
        console.print(f"demo: failed after {time.monotonic() - began:.0f} s")
        return 1
    console.print(f"\ndemo: {len(SCENES)} scenes, {checks} expectations met, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
