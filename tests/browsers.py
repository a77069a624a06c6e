"""A page in a real browser: playwright drives the Chromium of the system."""

from pathlib import Path

from playwright.sync_api import Browser, Page

HEIGHT = 800
LIMIT = 300_000  # milliseconds after which a missing element is an error, however slow the machine


def opened(chromium: Browser, path: Path, width: int) -> Page:
    """Show a file in a window of ``width`` pixels."""
    page = chromium.new_page(viewport={"width": width, "height": HEIGHT})
    page.set_default_timeout(LIMIT)
    page.goto(path.as_uri())
    return page
