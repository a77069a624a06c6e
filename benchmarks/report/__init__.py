"""The report of results folders: tables, figures, HTML and exports, from records alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.core import store
from benchmarks.core.frame import labels

if TYPE_CHECKING:
    from benchmarks.report.content import Report

FOLDERS = ("tables", "figures")  # these hold nothing but a report's own files
PAGE = "index.html"  # written last: a folder that has it, or the other, is one of a report
EXPLORER = "explorer.html"


def write(*folders: str | Path, out: str | Path | None = None) -> Path:
    """Write a report as `draw` does; the path of index.html."""
    return draw(*folders, out=out)[0]


def draw(*folders: str | Path, out: str | Path | None = None) -> tuple[Path, Report]:
    """Write the report of a results folder, or of several: the path of index.html, the content.

    By default it goes into ``report/`` in the one results folder, and of several into
    ``results/A-vs-B/report``. The same records give the same bytes. What a study cannot make is a
    note in the report, and a warning. ValueError for a folder without records and for an ``out``
    that holds files and no earlier report.
    """
    from benchmarks.report.content import collect

    paths = [Path(folder) for folder in folders]
    report = collect(paths)  # before a folder is made: paths may hold no records
    root = _root(paths, out)
    places = [root / name for name in FOLDERS]
    for folder in places:
        folder.mkdir(parents=True, exist_ok=True)
    written = set()
    for name, content in _files(report):
        store.replace(root / name, content.encode() if isinstance(content, str) else content)
        written.add(root / name)
    store.sweep(root, *places)
    for path in [path for folder in places for path in folder.iterdir()]:
        if path.is_file() and path not in written:  # of an earlier report
            path.unlink()
    return root / PAGE, report


def explore(*folders: str | Path, out: str | Path | None = None) -> Path:
    """Write explorer.html of results folders, where their report is; its path, errors as `draw`."""
    from benchmarks.report import explorer, runs

    paths = [Path(folder) for folder in folders]
    page = explorer.page(runs.read(paths))
    place = _root(paths, out) / EXPLORER
    place.parent.mkdir(parents=True, exist_ok=True)
    store.replace(place, page.encode())
    return place


def _root(paths: list[Path], out: str | Path | None) -> Path:
    """The folder of a report; ``out`` is made, ValueError where it holds files and no report."""
    if out is None:
        name = "-vs-".join(label.replace("/", "-") for label in labels(paths))
        return (paths[0] if len(paths) == 1 else Path("results", name)) / "report"
    root = Path(out)
    if root.exists() and not root.is_dir():
        raise ValueError(f"{str(root)!r} is no folder: a report is written into one")
    pages = [root / name for name in (PAGE, EXPLORER) if (root / name).is_file()]
    ours = any(b"flowgauge</title>" in page.read_bytes() for page in pages)
    if root.exists() and os.listdir(root) and not ours:
        raise ValueError(
            f"{str(root)!r} holds files, and no report: name a new folder, or that of a report"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"no report can be written into {str(root)!r}: {error.strerror}"
        raise ValueError(reason) from error
    return root


def _files(report: Report) -> Iterator[tuple[str, str | bytes]]:
    """The files of a report, each rendered when its turn comes; the page last."""
    from benchmarks.report import cells, html, latex, markdown

    yield "report.md", markdown.render(report)
    yield "summary.md", markdown.summary(report)
    for table in report.tables:
        yield f"tables/{table.name}.csv", cells.csv(table.raw)
        yield f"tables/{table.name}.tex", latex.latex(table)
    for figure in report.figures:
        yield f"figures/{figure.name}.svg", figure.picture.svg
        yield f"figures/{figure.name}.png", figure.picture.png
    yield PAGE, html.render(report)
