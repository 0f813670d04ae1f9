"""The stage of the demo: a throw-away stack, the people who act on it, and what they expect.

Invariants: what is printed is what was answered; an answer other than the expected one ends the demo, non-zero, and
shows both; the stack and its data are gone afterwards, whatever happened.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

from ops import processes, servers
from ops.feed import demo_env

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0


class Surprise(Exception):
    """Something came out other than expected; the message says what and shows both."""


@dataclass
class Stage:
    """Where the day plays: the API, the broker's side, and the story that is told on the way."""

    state: Path
    settings: dict[str, str]
    broker_url: str
    broker_headers: dict[str, str]
    console: Console
    memory: dict[str, Any] = field(default_factory=dict)
    refusals: set[str] = field(default_factory=set)
    checks: int = 0

    @property
    def url(self) -> str:
        return self.settings["TRADINGBOT_URL"]

    def call(
        self, method: str, path: str, body: Any = None, *, who: str = "TRADER", build: str = ""
    ) -> requests.Response:
        """One API call as the TRADER, the RISK officer, or nobody; ``build`` names the build of the strategy."""
        headers = {"Content-Type": "application/json", **({"X-Strategy-Build": build} if build else {})}
        if who != "nobody":
            headers["Authorization"] = f"Bearer {self.settings[f'TRADINGBOT_{who}_TOKEN']}"
        data = None if body is None else json.dumps(body)
        return requests.request(method, f"{self.url}/api/v1/{path}", data=data, headers=headers, timeout=30)

    def done(self, method: str, path: str, body: Any, status: int, *, who: str = "TRADER") -> dict[str, Any]:
        """A call that must be answered with ``status``; what it answered."""
        answer = self.call(method, path, body, who=who)
        self.expect(f"{method} {path}", answer.status_code, status, answer.text)
        return dict(answer.json())

    def manage(self, *arguments: str) -> str:
        """What a manage.py command printed on this stack; a command that fails is a surprise."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **demo_env(self.state / "stack.env")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.expect(f"manage.py {arguments[0]} exits", done.returncode, 0, done.stdout + done.stderr)
        return done.stdout.strip()

    def tick(self, symbol: str, price: str) -> None:
        """The market trades at ``price``."""
        tick = {"symbol": symbol, "price": price, "bid": price, "ask": price, "size": "10000"}
        answer = self.call("POST", "market-data/ticks", {"ticks": [{**tick, "time": datetime.now(UTC).isoformat()}]})
        self.expect("the tick is taken", answer.json().get("accepted"), 1, answer.text)

    def order(self, name: str, *, build: str = "", **changes: Any) -> requests.Response:
        """Post an order of the demo strategy; five shares of AAPL at market unless ``changes`` says otherwise."""
        body = {"client_order_id": name, "account": "demo", "strategy": "demo", "symbol": "AAPL", "side": "buy"}
        return self.call("POST", "orders", {**body, "qty": "5", "type": "market", **changes}, build=build)

    def read(self, name: str) -> dict[str, Any]:
        return dict(self.call("GET", f"orders/{name}?account=demo").json())

    def denied(self, answer: requests.Response, gate: str, code: str) -> None:
        """The order was refused by ``gate`` for ``code``, and says by how much and what to do."""
        self.expect("the order is denied", answer.status_code, 422, answer.text)
        # the order stands in the answer as it was decided; so does every gate that was asked
        self.refused(answer.json().get("order", answer.json())["decision"], gate, code)

    def refused(self, decision: dict[str, Any], gate: str, code: str) -> None:
        """``gate`` is among those that refuse in ``decision``, for ``code``; it says by how much and what to do."""
        failed = {check["gate"]: check for check in decision["checks"] if not check["passed"]}
        self.expect(f"{gate} says", failed.get(gate, {}).get("code"), code, json.dumps(decision))
        check = failed[gate]
        self.expect(f"{gate} has a message and a remedy", bool(check["message"] and check["remedy"]), True)
        self.refusals.add(gate)
        remedy = check["remedy"][:1].upper() + check["remedy"][1:]
        self.tell(f"   [dim]{check['message']}. {remedy}.[/dim]")

    def expect(self, what: str, got: Any, wanted: Any, evidence: str = "") -> None:
        self.checks += 1
        if got != wanted:
            raise Surprise(f"{what}: expected {wanted!r}, got {got!r}\n{evidence[:2000]}")

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for something that other processes do."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Surprise(f"{what}: not within {seconds:.0f} s")
            time.sleep(0.1)
        self.checks += 1

    def tell(self, line: str) -> None:
        self.console.print(f"   {line}", highlight=False)

    def broker(self, method: str, path: str, body: Any = None) -> requests.Response:
        """The far side's own controls: its ledger, and the faults it can be told to have."""
        return requests.request(method, f"{self.broker_url}{path}", json=body, headers=self.broker_headers, timeout=10)


@contextmanager
def open_stage(console: Console) -> Iterator[Stage]:
    """A stack of its own in a temporary folder, ready; stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="tradingbot-demo-", ignore_cleanup_errors=True) as folder:
        state = Path(folder)
        environment = {**os.environ, "STATE_DIR": folder, "PORT": str(servers.free_port()), "PAPER_FAULTS": "1"}
        for name in ("DATABASE_URL", "REDIS_URL", "BROKER", "FEED"):
            environment.pop(name, None)
        command = [sys.executable, str(ROOT / "ops/stack.py")]
        process = processes.spawn(command, cwd=ROOT, env=environment, output=subprocess.PIPE)
        try:
            yield _when_ready(process, state, console)
        finally:
            processes.stop(process, grace_seconds=60.0)


def _when_ready(process: subprocess.Popen[str], state: Path, console: Console) -> Stage:
    lines: deque[str] = deque(maxlen=40)
    ready, seen = threading.Event(), {"broker": ""}

    def follow() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "paper broker ready on " in line:
                seen["broker"] = line.split("ready on ")[1].strip()
            if "The stack is ready" in line:
                ready.set()

    threading.Thread(target=follow, daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while not ready.wait(0.2):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Surprise("the stack did not start:\n" + "".join(lines))
    kept = demo_env(state / "secrets.env")
    headers = {"APCA-API-KEY-ID": kept["ALPACA_API_KEY"], "APCA-API-SECRET-KEY": kept["ALPACA_SECRET_KEY"]}
    return Stage(state, demo_env(state / "demo.env"), seen["broker"], headers, console)
