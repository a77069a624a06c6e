"""The report's page in use: flows hidden and highlighted, rows filtered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from playwright.sync_api import Browser, Page

from benchmarks.core import exhibit
from benchmarks.core.frame import Plan
from benchmarks.plotting import draw
from benchmarks.report import content
from benchmarks.report import html as page_of
from benchmarks.report.content import References
from benchmarks.report.runs import Fact
from browser import launched, opened

pytestmark = pytest.mark.slow

WIDTHS = (390, 1400)
FLOWS = ("cnf", "maf", "realnvp")
SIZES = (2, 8, 32)
VISIBLE = "parts => parts.filter(p => getComputedStyle(p).display !== 'none').length"
OPACITY = "parts => parts.map(part => Number(getComputedStyle(part).opacity))"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def _draw() -> Canvas:
    looks = draw.looks(FLOWS)
    with draw.figure() as (figure, axes):
        panel = axes[0, 0]
        for place, name in enumerate(FLOWS):
            panel.plot(SIZES, [size * (place + 1) for size in SIZES], **looks[name])
        panel.set(xlabel="D", ylabel="cost")
        handles = panel.lines
        draw.legend_below(figure, handles, FLOWS)
    return figure


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two studies."""
    rows = [{"flow": flow, "D": size, "cost": size / 3} for flow in FLOWS for size in range(9)]
    pairs = pd.DataFrame({"cheaper": ["maf", "cnf"], "than": ["realnvp large", "realnvp"]})
    ready = content.Exhibits()
    sections = [content.Section("silent", "silent"), content.Section("cost", "cost")]
    for section in sections:
        for name in (f"{section.study}-first", f"{section.study}-second"):
            figure = exhibit.Figure(name, "Cost", "Remarks on it.", _draw)
            section.figures.append(ready.figure(figure, section.study))
        for name, frame in (("all", pd.DataFrame(rows)), ("pairs", pairs)):
            table = exhibit.Table(f"{section.study}-{name}", name, "Remarks on it.", frame)
            section.tables.append(ready.table(table, section.study))
    header = [Fact("Caution", ("times are not to be quoted",))]
    report = content.Report(Plan(name="t"), header, sections, None, [], None, References({}))
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page_of.render(report))
    return path


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, chromium: Browser, path: Path) -> Iterator[Page]:
    with opened(chromium, path, request.param) as page:
        page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true })")
        yield page


def test_one_figure_stands_first_and_once(chromium: Browser, path: Path) -> None:
    with opened(chromium, path, WIDTHS[1]) as page:
        tops = [
            page.locator(part).first.evaluate("part => part.getBoundingClientRect().top")
            for part in (".note", "#figure-silent-first", "#study-cost")
        ]
        assert tops == sorted(tops)
        anchors = page.locator("figure").evaluate_all("figures => figures.map(f => f.id)")
        assert len(anchors) == len(set(anchors)) == 4
        remarks = page.locator(".remark p")
        assert remarks.count() == 8
        assert not any(remarks.nth(i).is_visible() for i in range(8))
        assert not page.locator("#figure-cost-second").is_visible()
        page.evaluate("location.hash = 'figure-cost-second'")
        page.locator("#figure-cost-second").wait_for(state="visible")


def test_a_flow_is_hidden_everywhere(page: Page) -> None:
    rows, lines = page.locator("tr[data-flows]"), page.locator("svg [data-flows]")
    all_rows, all_lines = (part.evaluate_all(VISIBLE) for part in (rows, lines))
    assert (all_rows, all_lines) == (2 * (27 + 2), 4 * 3 * 3)  # a line, and a handle with its name
    page.click("#flows [aria-label='Hide realnvp']")
    assert rows.evaluate_all(VISIBLE) == 2 * 18
    assert lines.evaluate_all(VISIBLE) == 4 * 3 * 2
    page.click("#flows [aria-label='Hide realnvp']")
    assert rows.evaluate_all(VISIBLE) == all_rows


def test_a_highlighted_flow_stands_out_in_figures(page: Page) -> None:
    page.click("#flows button[title='Highlight maf']")
    assert page.locator("tr.lit").count() == 2 * (9 + 1)
    assert min(page.locator("svg [data-flows='maf']").evaluate_all(OPACITY)) == 1
    assert max(page.locator("svg [data-flows='cnf']").evaluate_all(OPACITY)) < 0.5
    page.click("#flows > button")
    assert page.locator(".lit").count() == 0


def test_words_filter_the_rows_of_a_large_table(page: Page) -> None:
    table = page.locator("#table-cost-all")
    table.locator("input").fill("maf 2.33")
    assert table.locator("tbody tr").evaluate_all(VISIBLE) == 1
    table.locator("input").fill("")
    assert table.locator("tbody tr").evaluate_all(VISIBLE) == 27
    assert page.locator("#table-cost-pairs input").count() == 0


def test_values_are_said_on_hover(page: Page) -> None:
    """Of a rounded cell every digit; of a point its series and coordinates."""
    cell = page.locator("#table-cost-all tbody td[data-value]").nth(3)
    cell.hover()
    assert float(cell.get_attribute("title") or "nan") == float(
        cell.get_attribute("data-value") or "nan"
    )
    titles = page.locator("#figure-cost-first use title").evaluate_all(
        "titles => titles.map(title => title.textContent)"
    )
    wanted = {f"{n}: D {s}, cost {s * (i + 1)}" for i, n in enumerate(FLOWS) for s in SIZES}
    assert set(titles) == wanted
