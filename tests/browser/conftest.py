"""The real application in a real browser: a live server on PostgreSQL and Valkey before a paper broker of its own.

The worker's part is played by the test, which calls the services that beat would. All browser tests run on one xdist
worker (``make test`` distributes by group), so that one browser is started and two cores are not fought for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.browsing import ARGUMENTS, Visitor, need_browser, visiting
from tests.browser.people import session_cookie, user_of
from tests.integration.conftest import Gateway, broker, broker_process, gateway

__all__ = ["broker", "broker_process", "gateway"]

HERE = Path(__file__).parent
SignIn = Callable[..., Visitor]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))
            item.add_marker(pytest.mark.django_db(transaction=True))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = need_browser()
    # playwright's own event loop runs in this thread: Django would refuse the database to a test that is not async
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def visit(browser: Browser, live_server: Any) -> Iterator[Callable[..., Visitor]]:
    """``visit()``: somebody who has not signed in; options are those of a browser context (viewport, color_scheme)."""
    with ExitStack() as open_ones:
        yield lambda **options: open_ones.enter_context(visiting(browser, live_server.url, **options))


@pytest.fixture
def sign_in(visit: Callable[..., Visitor]) -> SignIn:
    """``sign_in("risk")``: somebody of that role, signed in; ``name`` makes another person of the same role, and
    ``rights`` are what only that person may."""

    def as_role(role: str, name: str = "", rights: tuple[str, ...] = (), **options: Any) -> Visitor:
        visitor = visit(**options)
        visitor.context.add_cookies([session_cookie(user_of(role, name, rights), visitor.url)])  # type: ignore[list-item]
        return visitor

    return as_role


@pytest.fixture
def house(gateway: Gateway, browser: Browser) -> Gateway:
    """An account ``main`` and a live strategy ``mean`` with fresh prices: orders can be sent at once."""
    for symbol in ("AAPL", "MSFT"):
        gateway.tick(symbol).raise_for_status()
    return gateway
