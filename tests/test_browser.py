"""The report's page in a real browser: it loads nothing, fits, sorts, filters, hides and prints."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from playwright.sync_api import Browser, Page

from benchmarks.core import exhibit
from benchmarks.core.frame import Plan
from benchmarks.plotting import draw
from benchmarks.report import content
from benchmarks.report import html as page_of
from browsers import HEIGHT, opened

pytestmark = pytest.mark.slow

NARROW, WIDE = 360, 1400
LETTER = 965  # pixels of a sheet of letter paper on its side, within the margins
LONG = "RuntimeError: step size underflow at t = 0.7312 after 1000 steps, dt = 1.2e-17, " * 3
VALUES = [3.0, 100.0, math.nan, -5.0, 20.0, "failed", 7.5e-9]
RISING = ["−5", "7.5×10⁻⁹", "3", "20", "100"]
ORDERS = {
    "none": ["3", "100", "–", "−5", "20", "failed", "7.5×10⁻⁹"],
    "ascending": [*RISING, "failed", "–"],
    "descending": [*reversed(RISING), "failed", "–"],
}
FIRST, SECOND = (f"#table-probe thead th:nth-child({n}) button" for n in (1, 2))
WIDTHS = (390, 1400)
FLOWS = ("cnf", "maf", "realnvp")
DIMS = (2, 8, 32)
VISIBLE = "parts => parts.filter(p => getComputedStyle(p).display !== 'none').length"
OPACITY = "parts => parts.map(part => Number(getComputedStyle(part).opacity))"


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
    frame[exhibit.RECORDS] = [keys, *[keys[:1]] * 6]
    tall = pd.DataFrame({"i": range(200), "x": 0.5})
    ready, section = content.Exhibits(), content.Section("probe", "probe", "Does it fit?")
    section.notes.append("w" * 200)
    section.tables += [
        ready.table(exhibit.Table("probe", "Probe", LONG, frame), "probe"),
        ready.table(exhibit.Table("tall", "Tall", "", tall), "probe"),
    ]
    figure = exhibit.Figure("wide", "Wide", "A note.", _draw, keys)
    section.figures.append(ready.figure(figure, "probe"))
    listed = pd.DataFrame({"No.": [1, 2], "Record": keys})
    records = ready.table(exhibit.Table("records", "Records", "", listed), "")
    plan = Plan(name="a_suite_with_a_long_name_" * 3, about=LONG, suite={"long": LONG})
    facts = {"Code": ("f" * 200, "line")}
    references = content.References({key: n for n, key in enumerate(keys, 1)})
    report = content.Report(plan, facts, [section], None, facts, records, references)
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page_of.render(report))
    return path


@pytest.fixture(params=(NARROW, WIDE))
def page(request: pytest.FixtureRequest, chromium: Browser, path: Path) -> Iterator[Page]:
    with opened(chromium, path, request.param) as page:
        yield page


def test_the_page_loads_nothing_and_has_no_errors(page, path):
    faults: list[object] = []
    urls: list[str] = []
    page.on("pageerror", lambda error: faults.append(error))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: urls.append(request.url))
    page.reload()
    page.click(SECOND)
    assert faults == []
    assert {url for url in urls if not url.startswith("data:")} == {path.as_uri()}


def test_the_page_does_not_scroll_sideways(page):
    width = page.viewport_size["width"]
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_wide_tables_and_figures_scroll_in_their_boxes(page):
    """A figure is never shrunk so far that its words cannot be read."""
    sizes = "box => [box.clientWidth, box.scrollWidth]"
    box, table = page.locator(".box").first.evaluate(sizes)
    plate, figure = page.locator(".plate").first.evaluate(sizes)
    assert table > box
    assert (figure > plate) == (page.viewport_size["width"] == NARROW)
    assert figure >= 0.75 * 9 * 96


def test_contents_lead_to_what_they_name(page):
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
    texts = "rows => rows.map(row => row.cells[1].textContent.trim())"
    cells = page.locator("#table-probe tbody tr").evaluate_all(texts)
    return order, cells


def test_a_click_sorts_by_number_and_a_third_restores(page):
    for order in ("ascending", "descending", "none"):
        page.click(SECOND)
        assert _order(page) == (order, ORDERS[order])
    page.click(FIRST)
    assert _order(page)[0] == "none"  # one column at a time


def test_a_row_leads_to_its_records(page):
    assert page.locator("#table-probe .from").all_inner_texts() == ["1, 2", *["1"] * 6]
    page.click("#table-probe tr:nth-child(2) .from")
    key = page.locator("tr:target").evaluate("row => row.cells[1].innerText")
    assert key == "0123456789abcdef"


def test_the_page_prints(chromium, path):
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


def _draw_flows() -> Canvas:
    looks = draw.looks(FLOWS)
    with draw.figure() as (figure, axes):
        panel = axes[0, 0]
        for place, name in enumerate(FLOWS):
            panel.plot(DIMS, [size * (place + 1) for size in DIMS], **looks[name])
        panel.set(xlabel="D", ylabel="cost")
        draw.legend_below(figure, panel.lines, FLOWS)
    return figure


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two studies."""
    rows = [{"flow": flow, "D": size, "cost": size / 3} for flow in FLOWS for size in range(9)]
    pairs = pd.DataFrame({"cheaper": ["maf", "cnf"], "than": ["realnvp large", "realnvp"]})
    ready = content.Exhibits()
    sections = [content.Section("silent", "silent"), content.Section("cost", "cost")]
    for section in sections:
        for name in (f"{section.study}-first", f"{section.study}-second"):
            figure = exhibit.Figure(name, "Cost", "Remarks on it.", _draw_flows)
            section.figures.append(ready.figure(figure, section.study))
        for name, frame in (("all", pd.DataFrame(rows)), ("pairs", pairs)):
            table = exhibit.Table(f"{section.study}-{name}", name, "Remarks on it.", frame)
            section.tables.append(ready.table(table, section.study))
    header = {"Caution": ("times are not to be quoted",)}
    drawn = content.Report(Plan(name="t"), header, sections, None, {}, None, content.References({}))
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page_of.render(drawn))
    return path


@pytest.fixture(params=WIDTHS)
def report(request: pytest.FixtureRequest, chromium: Browser, studies: Path) -> Iterator[Page]:
    with opened(chromium, studies, request.param) as page:
        page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true })")
        yield page


def test_one_figure_stands_first_and_once(chromium, studies):
    with opened(chromium, studies, WIDTHS[1]) as page:
        parts = (".note", "#figure-silent-first", "#study-cost")
        top = "part => part.getBoundingClientRect().top"
        tops = [page.locator(part).first.evaluate(top) for part in parts]
        assert tops == sorted(tops)
        anchors = page.locator("figure").evaluate_all("figures => figures.map(f => f.id)")
        assert len(anchors) == len(set(anchors)) == 4
        remarks = page.locator(".remark p")
        assert remarks.count() == 8
        assert not any(remarks.nth(i).is_visible() for i in range(8))
        assert not page.locator("#figure-cost-second").is_visible()
        page.evaluate("location.hash = 'figure-cost-second'")
        page.locator("#figure-cost-second").wait_for(state="visible")


def test_a_flow_is_hidden_everywhere(report):
    rows, lines = report.locator("tr[data-flows]"), report.locator("svg [data-flows]")
    all_rows, all_lines = (part.evaluate_all(VISIBLE) for part in (rows, lines))
    assert (all_rows, all_lines) == (2 * (27 + 2), 4 * 3 * 3)  # a line, and a handle with its name
    report.click("#flows [aria-label='Hide realnvp']")
    assert rows.evaluate_all(VISIBLE) == 2 * 18
    assert lines.evaluate_all(VISIBLE) == 4 * 3 * 2
    report.click("#flows [aria-label='Hide realnvp']")
    assert rows.evaluate_all(VISIBLE) == all_rows


def test_a_highlighted_flow_stands_out_in_figures(report):
    report.click("#flows button[title='Highlight maf']")
    assert report.locator("tr.lit").count() == 2 * (9 + 1)
    assert min(report.locator("svg [data-flows='maf']").evaluate_all(OPACITY)) == 1
    assert max(report.locator("svg [data-flows='cnf']").evaluate_all(OPACITY)) < 0.5
    report.click("#flows > button")
    assert report.locator(".lit").count() == 0


def test_words_filter_the_rows_of_a_large_table(report):
    table = report.locator("#table-cost-all")
    table.locator("input").fill("maf 2.33")
    assert table.locator("tbody tr").evaluate_all(VISIBLE) == 1
    table.locator("input").fill("")
    assert table.locator("tbody tr").evaluate_all(VISIBLE) == 27
    assert report.locator("#table-cost-pairs input").count() == 0


def test_values_are_said_on_hover(report):
    cell = report.locator("#table-cost-all tbody td[data-value]").nth(3)
    cell.hover()
    said, value = (float(cell.get_attribute(name)) for name in ("title", "data-value"))
    assert said == value
    titles = report.locator("#figure-cost-first use title").all_text_contents()
    wanted = {f"{n}: D {s}, cost {s * (i + 1)}" for i, n in enumerate(FLOWS) for s in DIMS}
    assert set(titles) == wanted
