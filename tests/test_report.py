"""Reports: the page, its files, and what they have in common."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from page import Page
from report_probes import AWKWARD, PROBE, record_of
from report_probes import registered as registered
from report_probes import results as results

LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}
LOADED = re.compile(r"@import|url\((?!#|data:)|fetch\(|XMLHttpRequest|import\(", re.IGNORECASE)


def test_every_file_is_there(results: Path) -> None:
    index = report.write(results)
    assert index == results / "report" / "index.html"
    written = {str(p.relative_to(index.parent)) for p in index.parent.rglob("*") if p.is_file()}
    tables = {"scores", f"{PROBE}-scores", "not-done", "records"}
    assert written == {
        "index.html",
        "report.md",
        "summary.md",
        *(f"tables/{name}.{kind}" for name in tables for kind in ("csv", "tex")),
        *(f"figures/{name}.{kind}" for name in ("lines", "image") for kind in ("svg", "png")),
    }
    assert (index.parent / "figures/lines.png").read_bytes().startswith(b"\x89PNG")
    ET.fromstring((index.parent / "figures/lines.svg").read_text())


def test_page_loads_nothing_and_holds_everything(results: Path) -> None:
    text = report.write(results).read_text()
    page = Page(text)
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


def test_page_escapes_what_it_shows(results: Path) -> None:
    text = report.write(results).read_text()
    shown = "".join(Page(text).texts)
    for raw in ("To <try>.", "Is 1 < 2?", AWKWARD, "Test CPU <3>"):
        assert raw in shown
        assert raw not in text


def test_page_is_marked_up_for_readers_and_screen_readers(results: Path) -> None:
    page = Page(report.write(results).read_text())
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


def test_page_says_what_was_measured_where_and_what_was_not(results: Path) -> None:
    shown = "".join(Page(report.write(results).read_text()).texts)
    for text in (
        "1 done, 1 failed, 1 missing",
        "Test CPU <3>, 2 cores, 8.0 GiB",
        "torch 2.13.0",
        "2026-01-02, 3 s of measuring",
        "abc123-dirty",
        "data 0; init 0, 1; noise 0, 1; batches 0, 1",
        '"probe": [',
        record_of(PROBE, 0).key,
        record_of(PROBE, 2).key,
        f"{AWKWARD}\nsecond line",
        "not measured",
    ):
        assert text in shown


def test_the_same_records_give_the_same_bytes(results: Path) -> None:
    def written() -> dict[str, bytes]:
        root = report.write(results).parent
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert written() == written()


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

    def interrupted(shown: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(report.html, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(results)
    assert index.read_bytes() == before
