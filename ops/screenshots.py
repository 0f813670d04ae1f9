"""Pictures of the control room's pages, of a trading day on a throw-away stack: ``make screenshots``.

What is pictured really happened on that stack: orders, refusals, a trip, an order in doubt, a pull of the kill switch.
The pictures go to docs/images (or where SHOTS names a folder), small enough for the README.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from ops.demo import day
from ops.demo.stage import Stage, Surprise, open_stage
from ops.system_packages import PROGRAMS

ROOT = Path(__file__).resolve().parents[1]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
TALLEST = 1_600
PRICES = {"AAPL": "190.00", "MSFT": "410.00", "SPY": "560.00"}


def play(stage: Stage) -> None:
    """A day with something of everything on its pages."""
    for symbol, price in PRICES.items():
        stage.tick(symbol, price)
    for number in range(6):
        symbol = list(PRICES)[number % 3]
        stage.order(f"morning-{number}", symbol=symbol, qty=str(20 + 10 * number))
    for number in range(3):
        stage.order(f"resting-{number}", type="limit", limit_price="185.00", qty="5")
    stage.order("too-large", qty="20000")
    stage.order("not-here", symbol="TSLA")
    stage.wait_for("the morning's fills", lambda: stage.read("morning-5").get("status") == "filled")


def stop_things(stage: Stage) -> None:
    stage.call("POST", "breakers/account:demo/trip", {"reason": "the desk wants a look first"}, who="RISK")
    stage.order("after-the-trip")
    stage.call("PUT", "trading-state", {"scope": "symbol:SPY", "state": "reducing", "reason": "index day"}, who="RISK")


@contextmanager
def signed_in(stage: Stage, **look: object) -> Iterator[Page]:
    """A page of a browser that is signed in as the administrator."""
    program = next(filter(None, map(shutil.which, PROGRAMS["chromium"])), None)
    if program is None:
        raise Surprise("no browser on PATH: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        context = browser.new_context(reduced_motion="reduce", **{"viewport": DESK, **look})  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{stage.url}/admin/login/")
        page.locator("input[name=username]").fill(stage.settings["TRADINGBOT_ADMIN_USER"])
        page.locator("input[name=password]").fill(stage.settings["TRADINGBOT_ADMIN_PASSWORD"])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/admin/")
        yield page
        browser.close()


def picture(page: Page, folder: Path, name: str, *, whole: bool = False) -> None:
    """One picture; ``whole`` shows the page to its end, as far as that is of use."""
    page.wait_for_timeout(400)
    window = page.viewport_size or DESK
    if whole:  # in a window of the page's height, so that bars which stick to its edges stay there
        height = max(page.evaluate("document.documentElement.scrollHeight"), window["height"])
        page.set_viewport_size({"width": window["width"], "height": min(height, TALLEST)})
        page.wait_for_timeout(200)
    page.screenshot(path=folder / f"{name}.png")
    page.set_viewport_size(window)
    print(f"{name}.png {(folder / f'{name}.png').stat().st_size // 1024} KiB", flush=True)


def open_first(page: Page, stage: Stage, model: str, query: str = "") -> None:
    """The newest row of a list."""
    page.goto(f"{stage.url}/admin/tradingbot/{model}/{query}")
    page.locator("#result_list tbody th a, #result_list tbody td a").first.click()
    page.wait_for_load_state("load")


LISTS = {  # pages that are pictured as they are, by their address
    "limits": "limitversion/",
    "journal": "journalentry/",
    "data-quality": "feed/",
    "breaks": "break/",
    "strategies": "strategy/",
    "orders": "order/",
    "recon-runs": "reconrun/",
    "notifications": "notification/",
}


def take(stage: Stage, folder: Path) -> None:
    with signed_in(stage) as page:
        page.wait_for_timeout(3_000)  # a mark or two
        picture(page, folder, "overview", whole=True)
        open_first(page, stage, "order", "?q=morning-5")
        picture(page, folder, "order", whole=True)
        open_first(page, stage, "order", "?q=too-large")
        picture(page, folder, "order-refused", whole=True)
        take_limits(page, stage, folder)
        take_the_books(page, stage, folder)
        take_strategies(page, stage, folder)
        take_keys(page, stage, folder)
        for name, address in LISTS.items():
            page.goto(f"{stage.url}/admin/tradingbot/{address}")
            picture(page, folder, name)
        take_stops(page, stage, folder)
    with signed_in(stage, color_scheme="dark") as page:
        page.locator("#cr-stops .stop").first.wait_for()
        picture(page, folder, "overview-dark", whole=True)
        open_exposure(page, stage)
        picture(page, folder, "exposure-dark", whole=True)
    with signed_in(stage, viewport=PHONE) as page:
        page.locator("#cr-stops .stop").first.wait_for()
        picture(page, folder, "overview-phone", whole=True)
        open_exposure(page, stage)
        picture(page, folder, "exposure-phone", whole=True)
        page.goto(f"{stage.url}/admin/second-factor/set-up/")
        picture(page, folder, "second-factor-phone", whole=True)


def take_limits(page: Page, stage: Stage, folder: Path) -> None:
    """One limit tightened twice and asked back up, so that it has a history and waits for its second person."""
    begun = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    for value, why in (("9000", "a thin session"), ("6000", "thinner still"), ("8000", "volume is back")):
        body = {"scope": "account:demo", "kind": "order_qty_max", "value": value, "reason": why}
        stage.call("POST", "limits", body, who="RISK").raise_for_status()
    body = {"scope": "account:demo", "kind": "position_long_max", "value": "15000", "reason": "a thin session"}
    stage.call("POST", "limits", body, who="RISK").raise_for_status()
    open_first(page, stage, "limitversion", "?q=order_qty_max")
    picture(page, folder, "limit-history")
    page.goto(f"{stage.url}/admin/tradingbot/limitversion/differences/?{urlencode({'since': begun})}")
    picture(page, folder, "limit-differences")
    open_exposure(page, stage)
    picture(page, folder, "exposure", whole=True)
    open_exposure(page, stage, "?strategy=demo&symbol=AAPL&side=buy&qty=9000&limit_price=&time_in_force=day#what-if")
    picture(page, folder, "exposure-what-if")


def open_exposure(page: Page, stage: Stage, query: str = "") -> None:
    """By the way that a person goes: the account's name on the overview."""
    page.goto(f"{stage.url}/admin/")
    address = page.locator("#cr-accounts a[id^=account-]").first.get_attribute("href")
    page.goto(f"{stage.url}{address}{query}")


def take_the_books(page: Page, stage: Stage, folder: Path) -> None:
    """The broker's statement is compared; a file with a fill at another price makes a break."""
    day.statement(stage)
    day.planted_break(stage)
    open_first(page, stage, "break", "?kind__exact=price")
    picture(page, folder, "break", whole=True)


def take_strategies(page: Page, stage: Stage, folder: Path) -> None:
    """A new build in shadow, with the evidence that it has and lacks for its next step."""
    stage.call("POST", "strategies/demo/builds", {"build_id": "nightly-7"}).raise_for_status()
    for number in range(4):
        stage.tick("AAPL", f"190.0{number}")
        side = "sell" if number % 2 else "buy"
        stage.order(f"nightly-{number}", qty="5", side=side, build="nightly-7")
    open_first(page, stage, "strategybuild", "?q=nightly-7")
    picture(page, folder, "promotion", whole=True)


def take_keys(page: Page, stage: Stage, folder: Path) -> None:
    page.goto(f"{stage.url}/admin/tradingbot/apikey/add/")
    page.locator("input[name=name]").fill("night-desk")
    page.locator("select[name=role]").select_option("risk")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("night-desk").first.wait_for()
    picture(page, folder, "api-key-new")
    page.goto(f"{stage.url}/admin/tradingbot/apikey/")
    picture(page, folder, "api-keys")


def take_stops(page: Page, stage: Stage, folder: Path) -> None:
    stop_things(stage)
    page.goto(f"{stage.url}/admin/")
    page.locator("#cr-stops .stop").first.wait_for()
    picture(page, folder, "overview-stopped", whole=True)
    open_first(page, stage, "breaker", "?q=account:demo")
    picture(page, folder, "breaker", whole=True)
    open_first(page, stage, "account")
    picture(page, folder, "account")
    page.goto(f"{stage.url}/admin/tradingbot/killswitchrun/pull/?scope=account:demo")
    picture(page, folder, "kill-switch", whole=True)
    page.locator("#kill-reason").fill("fire drill")
    page.locator("button[value=cancel]").click()
    page.locator("#cr-run", has_text="done: nothing is open").wait_for(timeout=60_000)
    picture(page, folder, "kill-switch-run", whole=True)


def main() -> int:
    folder = Path(os.environ.get("SHOTS", ROOT / "docs/images"))
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    try:
        with open_stage(Console()) as stage:
            play(stage)
            take(stage, folder)
    except Surprise as surprise:
        print(f"screenshots: {surprise}", file=sys.stderr)
        return 1
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}, {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
