"""The report's page in a real browser: no errors, no sideways scrolling, tables that sort, print.

Playwright drives the Chromium of the system.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from playwright.sync_api import Browser, Page

from benchmarks.core import exhibit
from benchmarks.core.exhibit import RECORDS
from benchmarks.core.frame import Plan
from benchmarks.report import content
from benchmarks.report import html as page_of
from benchmarks.report.content import References
from benchmarks.report.runs import Fact
from browser import HEIGHT, launched, opened

pytestmark = pytest.mark.slow

NARROW, WIDE = 360, 1400
LETTER = 965  # pixels of a sheet of letter paper on its side, within the margins
LONG = "RuntimeError: step size underflow at t = 0.7312 after 1000 steps, dt = 1.2e-17, " * 3
VALUES = [3.0, 100.0, math.nan, -5.0, 20.0, "failed", 7.5e-9]
ORIGINAL = ["3", "100", "–", "−5", "20", "failed", "7.5×10⁻⁹"]
RISING = ["−5", "7.5×10⁻⁹", "3", "20", "100"]
ORDERS = {
    "none": ORIGINAL,
    "ascending": [*RISING, "failed", "–"],
    "descending": [*reversed(RISING), "failed", "–"],
}
FIRST, SECOND = (f"#table-probe thead th:nth-child({n}) button" for n in (1, 2))
CONTRAST = """
() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let least = 21;
  for (const element of document.querySelectorAll("body *:not(svg, svg *, script, style)")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const [a, b] = [channels(getComputedStyle(element).color), behind(element)].map(light);
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return least;
}
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def _draw() -> Canvas:
    canvas = Canvas(figsize=(9, 3))
    for axes in canvas.subplots(1, 3):
        axes.loglog([1, 10, 100], [1, 30, 2000], marker="o")
        axes.set_xlabel("dimension D")
    return canvas


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything that could be too wide: figures, tables, words, a suite."""
    frame = pd.DataFrame({"flow": [f"flow_{i} {'x' * 9 * i}" for i in range(7)], "n": VALUES})
    for i in range(8):
        frame[f"a rather long column {i} (nats)"] = np.linspace(1e3, 2e3, 7)
    frame["reason"] = LONG
    keys = ("0123456789abcdef", "fedcba9876543210")
    frame[RECORDS] = [keys, *[keys[:1]] * 6]
    tall = pd.DataFrame({"i": range(200), "x": 0.5})
    ready, section = content.Exhibits(), content.Section("probe", "probe", "Does it fit?")
    section.notes.append("w" * 200)
    section.tables += [
        ready.table(exhibit.Table("probe", "Probe", LONG, frame), "probe"),
        ready.table(exhibit.Table("tall", "Tall", "", tall), "probe"),
    ]
    figure = exhibit.Figure("wide", "Wide", "A note.", _draw, keys)
    section.figures.append(ready.figure(figure, "probe"))
    records = ready.table(
        exhibit.Table("records", "Records", "", pd.DataFrame({"No.": [1, 2], "Record": keys})), ""
    )
    plan = Plan(name="a_suite_with_a_long_name_" * 3, about=LONG, suite={"long": LONG})
    facts = [Fact("Code", ("f" * 200, "line"))]
    report = content.Report(plan, facts, [section], None, facts, records, References.of(keys))
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page_of.render(report))
    return path


@pytest.fixture(params=(NARROW, WIDE))
def page(request: pytest.FixtureRequest, chromium: Browser, path: Path) -> Iterator[Page]:
    """The page, newly loaded, at either width."""
    with opened(chromium, path, request.param) as page:
        yield page


def test_the_page_loads_nothing_and_has_no_errors(page: Page, path: Path) -> None:
    faults: list[object] = []
    urls: list[str] = []
    page.on("pageerror", lambda error: faults.append(error))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: urls.append(request.url))
    page.reload()
    page.click(SECOND)
    assert faults == []
    assert {url for url in urls if not url.startswith("data:")} == {path.as_uri()}


def test_the_page_does_not_scroll_sideways(page: Page) -> None:
    width = page.viewport_size["width"]
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_wide_tables_and_figures_scroll_in_their_boxes(page: Page) -> None:
    """A figure is never shrunk so far that its words cannot be read."""
    sizes = "box => [box.clientWidth, box.scrollWidth]"
    box, table = page.locator(".box").first.evaluate(sizes)
    plate, figure = page.locator(".plate").first.evaluate(sizes)
    assert table > box
    assert (figure > plate) == (page.viewport_size["width"] == NARROW)
    assert figure >= 0.75 * 9 * 96


def test_contents_lead_to_what_they_name(page: Page) -> None:
    """Folded only on a phone; every link of the page has its target."""
    details = page.locator("nav details")
    assert details.evaluate("details => details.open") == (page.viewport_size["width"] == WIDE)
    names = page.locator("a[href^='#']").evaluate_all("links => links.map(a => a.hash.slice(1))")
    assert {"table-probe", "not-done", "provenance", "records", "record-1"} <= set(names)
    assert all(page.locator(f"[id='{name}']").count() == 1 for name in names)
    details.evaluate("details => { details.open = true }")
    page.click("nav a[href='#table-tall']")
    top = page.locator("#table-tall").evaluate("table => table.getBoundingClientRect().top")
    assert 0 <= top < HEIGHT


def _order(page: Page) -> tuple[str, list[str]]:
    """The stated order of the second column, and its cells."""
    order: str = page.locator(SECOND).evaluate("button => button.parentElement.ariaSort")
    cells = page.locator("#table-probe tbody tr").evaluate_all(
        "rows => rows.map(row => row.cells[1].textContent.trim())"
    )
    return order, cells


def test_a_click_sorts_by_number_and_a_third_restores(page: Page) -> None:
    for order in ("ascending", "descending", "none"):
        page.click(SECOND)
        assert _order(page) == (order, ORDERS[order])
    page.click(FIRST)
    assert _order(page)[0] == "none"  # one column at a time


def test_a_row_leads_to_its_records(page: Page) -> None:
    assert page.locator("#table-probe .from").all_inner_texts() == ["1, 2", *["1"] * 6]
    page.click("#table-probe tr:nth-child(2) .from")
    key = page.locator("tr:target").evaluate("row => row.cells[1].innerText")
    assert key == "0123456789abcdef"


def test_words_can_be_read_and_are_said_aloud(page: Page) -> None:
    """By those who see little (WCAG AA: a contrast of 4.5), and by a screen reader."""
    assert page.evaluate(CONTRAST) >= 4.5
    labelled = "figures => figures.every(svg => svg.role === 'img' && svg.ariaLabel)"
    assert page.locator("svg").evaluate_all(labelled)
    assert page.locator("th").evaluate_all("headers => headers.every(th => th.scope)")


def test_the_page_prints(chromium: Browser, path: Path) -> None:
    """With headers on each sheet, and no table cut."""
    with opened(chromium, path, LETTER) as page:
        page.emulate_media(media="print")
        widths = page.locator("table").evaluate_all("tables => tables.map(t => t.offsetWidth)")
        assert max(widths) <= LETTER
        assert not page.locator("nav").is_visible()
        cut = "boxes => boxes.some(box => box.scrollHeight > box.clientHeight)"
        assert not page.locator(".box").evaluate_all(cut)
        header = page.locator("thead button").first
        # Chromium repeats no button on the next sheet
        assert header.evaluate("button => getComputedStyle(button).display") == "contents"
