"""Command line of the paper broker: ``python -m backend.paperbroker --port P --ledger PATH``.

Invariant: one process owns one ledger; the ready line is printed only once the port accepts connections.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sqlite3
import sys
from decimal import Decimal, InvalidOperation
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from backend.paperbroker.app import build_app
from backend.paperbroker.desk import Desk
from backend.paperbroker.ledger import Ledger

HOUSEKEEPING_SECONDS = 0.05
# As brokers do, and not uvicorn's 5 s: a request that meets the end of an idle connection is an order in doubt.
KEEP_ALIVE_SECONDS = 75


class DroppableProtocol(H11Protocol):
    """HTTP protocol that lets the application abort its own connection, which the drop faults need."""

    def connection_made(self, transport: Any) -> None:
        """Publish the transport in the request state."""
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exits with status 2 and a sentence on nonsense."""
    parser = argparse.ArgumentParser(prog="python -m backend.paperbroker", description="Paper broker, Alpaca API v2.")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 picks a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ledger", required=True, help="path of the SQLite ledger, created when missing")
    parser.add_argument("--cash", default="1000000", help="cash of a new ledger, in dollars")
    parser.add_argument("--no-fees", action="store_true", help="post no fees of past days")
    arguments = parser.parse_args(argv)
    try:
        arguments.cash = Decimal(arguments.cash)
    except InvalidOperation:
        parser.error(f"--cash {arguments.cash!r} is not a number")
    if not arguments.cash.is_finite() or arguments.cash < 0:
        parser.error("--cash must be zero or more")
    return arguments


async def keep_house(desk: Desk) -> None:
    """Let time pass for the desk: sessions end, and what was on its way arrives."""
    while True:
        desk.keep_house()
        await asyncio.sleep(HOUSEKEEPING_SECONDS)


async def serve(server: uvicorn.Server, listener: socket.socket, url: str, desk: Desk) -> None:
    """Run the server and print the ready line once it has started."""
    housekeeping = asyncio.create_task(keep_house(desk))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        print(f"paper broker ready on {url}", flush=True)
    # A broker whose time stands still must not go on answering.
    await asyncio.wait({serving, housekeeping}, return_when=asyncio.FIRST_COMPLETED)
    if housekeeping.done():
        server.should_exit = True
        await serving
        housekeeping.result()
    housekeeping.cancel()


def main(argv: list[str] | None = None) -> int:
    """Start the broker; returns the exit status."""
    arguments = parse_arguments(argv)
    key, secret = os.environ.get("ALPACA_API_KEY", ""), os.environ.get("ALPACA_SECRET_KEY", "")
    if not key or not secret:
        print("paper broker: ALPACA_API_KEY and ALPACA_SECRET_KEY must be set", file=sys.stderr)
        return 2
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    # asyncio switches Nagle's delay (40 ms an answer) off only on sockets that name their protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((arguments.host, arguments.port))
    except OSError as error:
        print(f"paper broker: cannot listen on {arguments.host}:{arguments.port}: {error.strerror}", file=sys.stderr)
        return 3
    try:
        ledger = Ledger(arguments.ledger, arguments.cash)
    except sqlite3.Error as error:
        print(f"paper broker: cannot open the ledger {arguments.ledger}: {error}", file=sys.stderr)
        return 4
    faults = os.environ.get("PAPER_FAULTS") == "1"
    app, desk = build_app(ledger, key, secret, faults_enabled=faults, fees=not arguments.no_fees)
    config = uvicorn.Config(
        app,
        http=DroppableProtocol,
        ws="websockets-sansio",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
        lifespan="off",
    )
    try:
        url = f"http://{arguments.host}:{listener.getsockname()[1]}"
        asyncio.run(serve(uvicorn.Server(config), listener, url, desk))
    except KeyboardInterrupt:
        return 0
    finally:
        ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
