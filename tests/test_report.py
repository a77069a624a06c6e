"""Reports: the page, its files, and what they have in common."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.report import html
from benchmarks.report.content import collect
from page import Page
from report_probes import AWKWARD, PROBE, record_of

LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}
LOADED = re.compile(r"@import|url\((?!#|data:)|fetch\(|XMLHttpRequest|import\(", re.IGNORECASE)


@pytest.fixture(scope="module")
def text(rendered: Path) -> str:
    """The page of the rendered report."""
    return (rendered / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    """The page, taken apart."""
    return Page(text)


def test_every_format_writes_its_files(rendered: Path, probes: None) -> None:
    root = rendered / "report"
    written = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    content = collect([rendered])
    tables = {f"tables/{table.name}.{s}" for table in content.tables for s in ("csv", "tex")}
    figures = {f"figures/{figure.name}.{s}" for figure in content.figures for s in ("svg", "png")}
    assert written == {"index.html", "report.md", "summary.md", *tables, *figures}
    assert {f"tables/{n}.csv" for n in ("scores", f"{PROBE}-scores", "not-done")} <= tables
    assert (root / "figures/lines.png").read_bytes().startswith(b"\x89PNG")
    ET.fromstring((root / "figures/lines.svg").read_text())


def test_page_loads_nothing_and_holds_everything(text: str, page: Page) -> None:
    targets = [str(v) for _, a in page.elements for name, v in a.items() if name in LOADING]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert LOADED.search(text) is None
    assert re.search("https?:", text) is None
    svgs = page.all("svg")
    assert [svg["aria-label"] for svg in svgs] == ["Two lines", "Two images"]
    assert all(svg["role"] == "img" and svg["viewbox"] for svg in svgs)
    assert {"power 1", "power 2", "pixels & <more>"} <= set(page.texts)
    ids = page.ids
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)
    references = re.findall(r"url\(#([^)]+)\)", text)
    assert references
    assert set(references) <= set(ids)


def test_page_escapes_foreign_text(text: str, page: Page) -> None:
    words = "".join(page.texts)
    for raw in ("To <try>.", "Is 1 < 2?", AWKWARD, "Test CPU <3>"):
        assert raw in words
        assert raw not in text


def test_page_is_marked_up_for_readers_and_screen_readers(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))
    heads = [th for th in page.all("th") if th["scope"] == "col"]
    assert all(th["aria-sort"] == "none" for th in heads)
    assert len(heads) == len(page.all("button"))


def test_page_has_what_was_measured_where_and_what_was_not(page: Page) -> None:
    words = "".join(page.texts)
    failed = record_of(PROBE, 1, status="failed")
    for text in ("Test CPU <3>", "8.0 GiB", "2.13.0", "2026-01-02", failed.commit, '"probe": ['):
        assert text in words
    for record in (record_of(PROBE, 0), failed, record_of(PROBE, 2)):
        assert record.key in words
    assert AWKWARD in words


def test_the_same_records_give_the_same_bytes(rendered: Path, results: Path) -> None:
    def written(root: Path) -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    report.write(results)
    assert written(results / "report") == written(rendered / "report")


def test_files_of_an_earlier_report_go(results: Path) -> None:
    for name in ("tables/old.csv", "figures/old.png", ".index.html.99"):
        path = results / "report" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    report.write(results)
    assert not [p for p in (results / "report").rglob("*") if "old" in p.name or "99" in p.name]


def test_an_interrupted_report_leaves_the_page_whole(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = report.write(results)
    before = index.read_bytes()

    def interrupted(content: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(html, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(results)
    assert index.read_bytes() == before


def test_a_report_overwrites_nothing_but_a_report(results: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "figures").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "mine", tmp_path / "file", results):
        with pytest.raises(ValueError, match=re.escape(str(out))):
            report.write(results, out=out)
    out = tmp_path / "other"
    for _ in range(2):
        assert report.write(results, out=out) == out / "index.html"
