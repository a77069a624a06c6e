"""The report's page in a real browser: no errors, no sideways scrolling, tables that sort."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from PIL import Image

from benchmarks import exhibit
from benchmarks.report import content, pictures
from benchmarks.report import html as page
from benchmarks.report.cells import grid
from benchmarks.report.facts import Fact
from benchmarks.report.plan import Plan

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)
LONG = "RuntimeError: step size underflow at t = 0.7312 after 1000 steps, dt = 1.2e-17, " * 3
VALUES = [3.0, 100.0, math.nan, -5.0, 20.0, "failed", 7.5e-9]

WATCH = """
const findings = {errors: []};
addEventListener("error", (event) => findings.errors.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => findings.errors.push(event.blockedURI));
console.error = console.warn = (...parts) => findings.errors.push(parts.join(" "));
"""
PROBE = """
addEventListener("load", () => {
  const table = document.querySelector("#table-probe table");
  const header = table.tHead.rows[0].cells[1];
  const cells = () => [...table.tBodies[0].rows].map((row) => row.cells[1].textContent.trim());
  findings.orders = [[header.getAttribute("aria-sort"), cells()]];
  for (let click = 0; click < 3; click++) {
    header.querySelector("button").click();
    findings.orders.push([header.getAttribute("aria-sort"), cells()]);
  }
  const names = table.tHead.rows[0].cells[0];
  names.querySelector("button").focus();
  findings.focused = document.activeElement === names.querySelector("button");
  findings.width = innerWidth;
  findings.scroll = document.documentElement.scrollWidth;
  findings.contents = document.querySelector("nav details").open;
  const box = table.parentElement;
  findings.box = [box.clientWidth, box.scrollWidth];
  const plate = document.querySelector(".plate");
  findings.plate = [plate.clientWidth, plate.scrollWidth];
  const tall = document.querySelector("#table-tall table");
  const top = (element) => element.getBoundingClientRect().top;
  tall.parentElement.scrollTop = 500;
  findings.scrolled = tall.parentElement.scrollTop;
  findings.sticky = top(tall.tHead.rows[0].cells[0]) - top(tall.parentElement);
  const target = parent.document;
  const shown = target.createElement("pre");
  shown.id = "findings";
  shown.textContent = JSON.stringify(findings);
  target.body.append(shown);
});
"""

Browse = Callable[..., str]


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Runs a headless browser with more flags on a page; what it writes to standard output."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")

    def run(path: Path, *flags: str) -> str:
        profile = tmp_path_factory.mktemp("profile")
        command = [program, *FLAGS, f"--user-data-dir={profile}", *flags, path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    return run


def _draw() -> Canvas:
    canvas = Canvas(figsize=(9, 3))
    for axes in canvas.subplots(1, 3):
        axes.loglog([1, 10, 100], [1, 30, 2000], marker="o")
        axes.set_xlabel("dimension D")
    return canvas


@pytest.fixture(scope="module")
def text() -> str:
    """A page with everything that could be too wide: figures, tables, words, a suite."""
    frame = pd.DataFrame({"flow": [f"flow_{i} {'x' * 9 * i}" for i in range(7)], "n": VALUES})
    for i in range(8):
        frame[f"a rather long column {i} (nats)"] = np.linspace(1e3, 2e3, 7)
    frame["reason"] = LONG
    wide = exhibit.Table("probe", "Probe", LONG, frame)
    tall = exhibit.Table("tall", "Tall", "", pd.DataFrame({"i": range(200), "x": 0.5}))
    keys = ("0123456789abcdef", "fedcba9876543210")
    tables = [
        content.Table(number, t.name, t.title, t.note, grid(t), "csv", keys)
        for number, t in enumerate((wide, tall), 1)
    ]
    picture = pictures.draw(exhibit.Figure("wide", "Wide", "", _draw), "wide")
    figure = content.Figure(1, "wide", "Wide", "A note.", picture, ())
    section = content.Section("probe", "probe", "Does it fit?", ["w" * 200], [figure], tables)
    plan = Plan(name="a_suite_with_a_long_name_" * 3, about=LONG, suite={"long": LONG})
    facts = [Fact("Code", ("f" * 200, "line"))]
    return page.render(content.Report(plan, facts, [section], None, facts))


@pytest.fixture(scope="module", params=[360, 1400])
def view(
    request: pytest.FixtureRequest, text: str, browse: Browse, tmp_path_factory: Any
) -> tuple[int, dict[str, Any]]:
    """A width, and what a script found in the page at that width.

    A frame gives the width, because a headless browser's window has a least one.
    """
    width = request.param
    probed = text.replace("<title>", f"<script>{WATCH}</script><title>", 1)
    probed = probed.replace("</body>", f"<script>{PROBE}</script></body>")
    frame = f'<iframe width={width} height=800 style="border: 0" srcdoc="{html.escape(probed)}">'
    path = tmp_path_factory.mktemp("page") / "framed.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{frame}</iframe></body>")
    dom = browse(path, "--window-size=1600,1000", "--dump-dom")
    found = re.search(r'<pre id="findings">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    return width, json.loads(html.unescape(found[1]))


def test_the_page_has_no_errors(view: tuple[int, dict[str, Any]]) -> None:
    assert view[1]["errors"] == []


def test_the_page_does_not_scroll_sideways(view: tuple[int, dict[str, Any]]) -> None:
    width, found = view
    assert found["width"] == width
    assert found["scroll"] <= width


def test_wide_tables_and_figures_scroll_in_their_boxes(view: tuple[int, dict[str, Any]]) -> None:
    width, found = view
    assert found["box"][1] > found["box"][0]
    assert (found["plate"][1] > found["plate"][0]) == (width == 360)
    assert found["plate"][1] >= 560


def test_headers_stay_while_a_table_scrolls(view: tuple[int, dict[str, Any]]) -> None:
    assert view[1]["scrolled"] == 500
    assert view[1]["sticky"] == pytest.approx(0, abs=1)


def test_contents_are_folded_only_on_a_phone(view: tuple[int, dict[str, Any]]) -> None:
    width, found = view
    assert found["contents"] == (width == 1400)


def test_a_click_sorts_by_number_and_a_third_restores(view: tuple[int, dict[str, Any]]) -> None:
    orders = view[1]["orders"]
    original = ["3", "100", "–", "−5", "20", "failed", "7.5×10⁻⁹"]
    rising = ["−5", "7.5×10⁻⁹", "3", "20", "100"]
    assert orders == [
        ["none", original],
        ["ascending", [*rising, "failed", "–"]],
        ["descending", [*reversed(rising), "failed", "–"]],
        ["none", original],
    ]
    assert view[1]["focused"]


def test_the_page_is_painted(text: str, browse: Browse, tmp_path: Path) -> None:
    path, shot = tmp_path / "index.html", tmp_path / "shot.png"
    path.write_text(text)
    browse(path, "--window-size=1400,1000", f"--screenshot={shot}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (1000, 1400)
    assert 0.005 < (pixels < 128).mean() < 0.5
    assert (pixels == 255).mean() > 0.5
