"""The report's page in a real browser: no errors, no sideways scrolling, tables that sort, print.

A headless Chromium is told what to do over a pipe, by its own protocol (DevTools): real clicks and
key presses, and whatever the page loads or complains about.
"""

from __future__ import annotations

import base64
import fcntl
import json
import math
import os
import re
import select
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from benchmarks.core import exhibit
from benchmarks.core.exhibit import RECORDS
from benchmarks.core.plan import Plan
from benchmarks.report import content, numbered
from benchmarks.report import html as page
from benchmarks.report.facts import Fact
from benchmarks.report.references import References

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PLACED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)  # where Chromium reads commands
os.dup2(int(sys.argv[2]), 4)  # and answers
os.execv(sys.argv[3], sys.argv[3:])
"""
WIDTHS = (360, 1400)
ACROSS = 965  # pixels of a sheet of letter paper on its side, within the margins
SECONDS = 60
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
(() => {
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
})()
"""


class Tab:
    """A page in a browser that is reached over a pipe; ``events`` are what it has said so far."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._read, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (said := self._next()).get("id") != self._number:
            self.events.append(said)
        assert "error" not in said, f"{method}: {said['error']}"
        answer: dict[str, Any] = said["result"]
        return answer

    def open(self, path: Path, width: int) -> None:
        """Show a file in a window of ``width`` pixels, and wait until it is loaded."""
        self.events.clear()
        window = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **window)
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """What an expression of JavaScript is in the page, as JSON."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """The left button of the mouse, on the middle of an element."""
        x, y = self.run(
            f"""(() => {{
              const element = document.querySelector({json.dumps(selector)});
              element.scrollIntoView({{block: "center"}});
              const box = element.getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **mouse)

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, with the text that it types."""
        told = {"key": key, "windowsVirtualKeyCode": code}
        typed = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **told, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    @property
    def faults(self) -> list[str]:
        """Errors and warnings that the page has raised or logged."""
        said = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}
        return [json.dumps(e["params"]) for e in self.events if e.get("method") in said]

    @property
    def loaded(self) -> list[str]:
        """The addresses of all that the page has asked for."""
        asked = (e for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in asked]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], SECONDS)
            assert ready, "the browser says nothing"
            said = os.read(self._answers, 1 << 20)
            assert said, "the browser is gone"
            self._read += said
        message, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A page in a browser that is started once."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")
    hears, commands = os.pipe()
    answers, says = os.pipe()
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (hears, says)]  # clear of 3 and 4
    browser = subprocess.Popen(
        [sys.executable, "-c", PLACED, *map(str, ends), program, *FLAGS, profile],
        pass_fds=ends,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (hears, says, *ends):
        os.close(end)
    try:
        yield Tab(commands, answers)
    finally:
        os.close(commands)  # which ends it
        try:
            browser.wait(SECONDS)
        finally:
            browser.kill()
            os.close(answers)


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
    ready, section = numbered.Exhibits(), content.Section("probe", "probe", "Does it fit?")
    section.notes.append("w" * 200)
    section.tables += [
        ready.table(exhibit.Table("probe", "Probe", LONG, frame), "probe"),
        ready.table(exhibit.Table("tall", "Tall", "", tall), "probe"),
    ]
    for side in ("before", "after"):
        figure = exhibit.Figure("wide", "Wide", "A note.", _draw, keys)
        section.figures.append(ready.figure(figure, "probe", side))
    records = ready.table(
        exhibit.Table("records", "Records", "", pd.DataFrame({"No.": [1, 2], "Record": keys})), ""
    )
    plan = Plan(name="a_suite_with_a_long_name_" * 3, about=LONG, suite={"long": LONG})
    facts = [Fact("Code", ("f" * 200, "line"))]
    report = content.Report(plan, facts, [section], None, facts, records, References.of(keys))
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page.render(report))
    return path


@pytest.fixture(params=WIDTHS)
def shown(request: pytest.FixtureRequest, tab: Tab, path: Path) -> tuple[Tab, int]:
    """The page as loaded anew at a width, and the width."""
    tab.open(path, request.param)
    return tab, request.param


def test_the_page_loads_nothing_and_has_no_errors(shown: tuple[Tab, int], path: Path) -> None:
    tab, _ = shown
    tab.click(SECOND)
    assert tab.faults == []
    assert {url for url in tab.loaded if not url.startswith("data:")} == {path.as_uri()}


def test_the_page_does_not_scroll_sideways(shown: tuple[Tab, int]) -> None:
    tab, width = shown
    assert tab.run("innerWidth") == width
    assert tab.run("document.documentElement.scrollWidth") <= width


def test_wide_tables_and_figures_scroll_in_their_boxes(shown: tuple[Tab, int]) -> None:
    """A figure is never shrunk so far that its words cannot be read."""
    tab, width = shown
    sizes = "(([...boxes]) => boxes.map((b) => [b.clientWidth, b.scrollWidth]))"
    ((box, table), *_) = tab.run(f"{sizes}(document.querySelectorAll('.box'))")
    ((plate, figure), *_) = tab.run(f"{sizes}(document.querySelectorAll('.plate'))")
    assert table > box
    assert (figure > plate) == (width == 360)
    assert figure >= 0.75 * 9 * 96


def test_headers_stay_while_a_table_scrolls(shown: tuple[Tab, int]) -> None:
    tab, _ = shown
    box, header = "#table-tall .box", "#table-tall thead th"
    tab.run(f"document.querySelector('{box}').scrollTop = 500")
    tops = [
        tab.run(f"document.querySelector('{selector}').getBoundingClientRect().top")
        for selector in (box, header)
    ]
    assert tab.run(f"document.querySelector('{box}').scrollTop") == 500
    assert tops[0] == pytest.approx(tops[1], abs=1)


def test_contents_lead_to_what_they_name(shown: tuple[Tab, int]) -> None:
    """Folded only on a phone; every link of the page has its target."""
    tab, width = shown
    assert tab.run("document.querySelector('nav details').open") == (width == 1400)
    links = tab.run("[...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.hash.slice(1))")
    assert {"table-probe", "not-done", "provenance", "records", "record-1"} <= set(links)
    assert all(tab.run(f"document.getElementById({json.dumps(name)}) !== null") for name in links)
    tab.run("document.querySelector('nav details').open = true")
    tab.click("nav a[href='#table-tall']")
    top = tab.run("document.querySelector('#table-tall').getBoundingClientRect().top")
    assert 0 <= top < 800


def _order(tab: Tab) -> tuple[str, list[str]]:
    """How the second column says that it is sorted, and how it is."""
    said: str = tab.run(f"document.querySelector('{SECOND}').parentElement.ariaSort")
    cells: list[str] = tab.run(
        "[...document.querySelectorAll('#table-probe tbody tr')]"
        ".map((row) => row.cells[1].textContent.trim())"
    )
    return said, cells


def test_a_click_sorts_by_number_and_a_third_restores(shown: tuple[Tab, int]) -> None:
    tab, _ = shown
    for said in ("ascending", "descending", "none"):
        tab.click(SECOND)
        assert _order(tab) == (said, ORDERS[said])
    tab.click(FIRST)
    assert _order(tab)[0] == "none"  # one column at a time


def test_keys_sort_as_clicks_do(shown: tuple[Tab, int]) -> None:
    """Tab goes from header to header; Enter and the space bar sort."""
    tab, _ = shown
    tab.run(f"document.querySelector('{FIRST}').focus()")
    tab.press("Tab", 9)
    assert tab.run(f"document.activeElement === document.querySelector('{SECOND}')")
    for key, code, text, said in (
        ("Enter", 13, "\r", "ascending"),
        (" ", 32, " ", "descending"),
        ("Enter", 13, "\r", "none"),
    ):
        tab.press(key, code, text)
        assert _order(tab) == (said, ORDERS[said])


def test_a_row_leads_to_its_records(shown: tuple[Tab, int]) -> None:
    tab, _ = shown
    texts = tab.run("[...document.querySelectorAll('#table-probe .from')].map((a) => a.innerText)")
    assert texts == ["1, 2", *["1"] * 6]
    tab.click("#table-probe tr:nth-child(2) .from")
    assert tab.run("document.querySelector('tr:target').cells[1].innerText") == "0123456789abcdef"


def test_words_can_be_read_and_are_said_aloud(shown: tuple[Tab, int]) -> None:
    """By those who see little (WCAG AA: a contrast of 4.5), and by a screen reader."""
    tab, _ = shown
    assert tab.run(CONTRAST) >= 4.5
    named = "[...document.querySelectorAll('svg')].every((s) => s.role === 'img' && s.ariaLabel)"
    assert tab.run(named)
    assert tab.run("[...document.querySelectorAll('th')].every((th) => th.scope)")


def test_two_sides_stand_beside_each_other_where_there_is_room(tab: Tab, path: Path) -> None:
    tab.open(path, 2600)
    tops = tab.run("[...document.querySelectorAll('figure')].map((f) => Math.round(f.offsetTop))")
    assert tops[0] == tops[1]
    tab.open(path, 360)
    tops = tab.run("[...document.querySelectorAll('figure')].map((f) => Math.round(f.offsetTop))")
    assert tops[0] < tops[1]


def test_the_page_prints(tab: Tab, path: Path) -> None:
    """On several sheets of which none is blank, with headers on each, and no table cut."""
    tab.open(path, 1400)
    pdf = base64.b64decode(tab.call("Page.printToPDF")["data"])
    sheets = _sheets(pdf)
    assert len(sheets) > 1
    assert all(re.search(rb"\bT[jJ]\b", sheet) for sheet in sheets)
    tab.call("Emulation.setEmulatedMedia", media="print")
    try:
        tab.open(path, ACROSS)
        widths = "[...document.querySelectorAll('table')].map((t) => t.offsetWidth)"
        assert max(tab.run(widths)) <= ACROSS
        assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        cut = "[...document.querySelectorAll('.box')].some((b) => b.scrollHeight > b.clientHeight)"
        assert not tab.run(cut)
        header = "getComputedStyle(document.querySelector('thead button')).display"
        assert tab.run(header) == "contents"  # Chromium repeats no button on the next sheet
    finally:
        tab.call("Emulation.setEmulatedMedia", media="")


def _sheets(pdf: bytes) -> list[bytes]:
    """What is drawn on each page of a PDF as Chromium writes it."""
    objects = dict(re.findall(rb"(?m)^(\d+) 0 obj\b(.*?)^endobj", pdf, re.DOTALL))
    pages = [o for o in objects.values() if re.search(rb"/Type\s*/Page\b", o)]
    sheets = []
    for sheet in pages:
        (number,) = re.findall(rb"/Contents (\d+) 0 R", sheet)
        (stream,) = re.findall(rb"stream\r?\n(.*)endstream", objects[number], re.DOTALL)
        sheets.append(zlib.decompressobj().decompress(stream))
    return sheets
