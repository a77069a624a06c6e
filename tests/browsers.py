"""A page in a real browser: playwright drives the Chromium of the system."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HEIGHT = 800
LIMIT = 300_000  # milliseconds after which a missing element is an error, however slow the machine


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(PROGRAMS)} is on the PATH")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        with playwright.chromium.launch(executable_path=program, args=arguments) as browser:
            yield browser


def opened(chromium: Browser, path: Path, width: int) -> Page:
    """Show a file in a window of ``width`` pixels."""
    page = chromium.new_page(viewport={"width": width, "height": HEIGHT})
    page.set_default_timeout(LIMIT)
    page.goto(path.as_uri())
    return page
