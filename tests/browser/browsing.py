"""A watched browser: what a page must never do is noted while a test clicks through it, and judged at the test's end.

A page must not write an error to the console, raise one, or ask another host for anything. Statuses that a test means
to see (a refusal of 403 or 422) are named with ``expect``; the browser writes those to the console as well.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from ops.system_packages import PROGRAMS

HOW_TO_GET_ONE = "no browser on PATH, so the browser tests did not run; get one by: sudo apt-get install chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
             "--disable-dev-shm-usage"]  # fmt: skip
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
MOST_WAIT = 20_000  # ms; a page that is slower than that on a busy machine is broken
STATUS = re.compile(r"status of (\d{3})")
AXE_RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]},
             "resultTypes": ["violations"]}  # fmt: skip
FAULTS = ("serious", "critical")


def browser_program() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS["chromium"])), None)


def need_browser() -> str:
    """The machine's browser; without one the test is skipped, in CI it fails."""
    found = browser_program()
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW_TO_GET_ONE)
    assert found is not None
    return found


class Visitor:
    """One signed-in person with a browser of their own (cookies, page), watched."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context, self.url = context, url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(MOST_WAIT)
        self.problems: list[str] = []
        self.expected: set[int] = set()
        self.expected_words: tuple[str, ...] = ()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        context.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            status = STATUS.search(message.text)
            meant = status and int(status[1]) in self.expected
            if not meant and not any(words in message.text for words in self.expected_words):
                self.problems.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _asked(self, request: Any) -> None:
        asked = urlsplit(request.url)
        if asked.scheme in ("http", "https", "ws", "wss") and asked.netloc != urlsplit(self.url).netloc:
            self.problems.append(f"left the host: {request.url}")

    def expect(self, *statuses: int) -> None:
        """These answers are part of the test."""
        self.expected |= set(statuses)

    def expect_words(self, *words: str) -> None:
        """What a console error that the test means to cause says."""
        self.expected_words += words

    def open(self, path: str, *, status: int = 200) -> Page:
        """Go there; an answer of another status fails."""
        if status >= 400:
            self.expect(status)
        answer = self.page.goto(self.url + path, wait_until="load")
        assert answer is not None and answer.status == status, f"{path} answered {answer and answer.status}"
        return self.page

    def act(self, link: str, button: str, reason: str, *, force: bool = False) -> Page:
        """An act of the page that is open: follow its link, give the reason, press the button."""
        words = re.compile(rf"(^|\s){link}\s*$")  # an icon's name may come before them
        self.page.locator("#main li a", has_text=words).click()
        self.page.locator("[name=reason]").fill(reason)
        if force:
            self.page.locator("input[name=force]").check(force=True)
        self.page.get_by_role("button", name=button).click()
        return self.page

    def dark(self) -> None:
        """The theme switch's own memory, set to dark, as the person's click on it would."""
        self.context.add_init_script("localStorage.setItem('adminTheme', '\"dark\"')")

    def need_accessible(self) -> None:
        """Fails with axe-core's words when it finds a serious or critical fault on the page as it stands."""
        found = Axe().run(self.page, options=AXE_RULES).response["violations"]
        faults = [
            f"{fault['impact']} {fault['id']}: {fault['help']}\n  "
            + "\n  ".join(f"{node['html'][:160]}  {node['failureSummary'][:300]}" for node in fault["nodes"][:4])
            for fault in found
            if fault["impact"] in FAULTS
        ]
        assert not faults, f"{self.page.url}\n" + "\n".join(faults)

    def need_no_sideways_scroll(self) -> None:
        """The page itself fits the window; a wide table scrolls inside its own box."""
        too_wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert too_wide <= 0, f"{self.page.url} is {too_wide} px wider than the window"

    def need_quiet(self) -> None:
        assert not self.problems, "\n".join(self.problems)


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visitor]:
    """A visitor whose problems fail the test when the block ends by itself."""
    context = browser.new_context(viewport=options.pop("viewport", DESK), reduced_motion="reduce", **options)
    visitor = Visitor(context, url)
    try:
        yield visitor
        visitor.need_quiet()
    finally:
        context.close()
