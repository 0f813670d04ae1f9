"""Pictures of what a test sees, kept only where SHOTS_DIR names a directory."""

from __future__ import annotations

import os

from playwright.sync_api import Page


def shot(page: Page, name: str) -> None:
    folder = os.environ.get("SHOTS_DIR")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
