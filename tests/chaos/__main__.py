"""``python -m tests.chaos``: what ``make chaos`` runs. CHAOS_SEED is the seed; CONTROL=no-replay-guard must be caught.

Exits with 1 when the judge finds anything or a count of the plan was not reached, and then keeps the directory.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import Counts
from tests.chaos.house import House, HouseError
from tests.chaos.runner import Plan, run

CONTROL = Plan(
    counts=Counts(kills=1, singles=0, stops=0, servers=0),
    seconds=60.0,
    quiet_seconds=20.0,
    orders=0,
    kills_needed=0,
    hits_needed=0,
    control=True,
)


def main() -> int:
    """One run by the environment; its exit code."""
    control = os.environ.get("CONTROL", "")
    if control not in ("", "no-replay-guard"):
        print(f"make chaos: CONTROL must be no-replay-guard, not {control!r}", file=sys.stderr)
        return 2
    seed = os.environ.get("CHAOS_SEED") or "1"
    plan = replace(CONTROL if control else Plan(), seed=seed)
    console = Console(width=120)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # take everything down first
    directory = Path(tempfile.mkdtemp(prefix="tradingbot-chaos-"))
    console.print(f"chaos with seed {seed} in {directory}", highlight=False)
    port = os.environ.get("PORT")
    house = House(directory, port=int(port) if port else None)
    try:
        house.start()
        outcome = run(house, plan, console)
    except HouseError as error:
        console.print(f"[red]chaos:[/red] {error}", highlight=False)
        return 1
    finally:
        house.close()
    if outcome.good:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        console.print(f"the logs and both sets of books are kept in {directory}", highlight=False)
    print(outcome.line, flush=True)
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
