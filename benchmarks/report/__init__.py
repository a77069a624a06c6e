"""The report of results folders: tables, figures, HTML and exports, from records alone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core.frame import labels
from benchmarks.report import formats
from benchmarks.report.collect import collect
from benchmarks.report.content import Report
from benchmarks.report.files import PAGE, Output, usable


def write(*folders: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a results folder, or of several side by side; the path of index.html.

    As `draw` does.
    """
    return draw(*folders, out=out)[0]


def draw(*folders: str | Path, out: str | Path | None = None) -> tuple[Path, Report]:
    """Write the report of a results folder, or of several: the path of index.html, the content.

    It goes into the folder ``out``: by default ``report/`` in the one results folder, and of
    several ``results/A-vs-B/report``. The same records give the same bytes. What a study cannot
    make appears as a note in the report, and as a warning. ValueError for a folder without records
    and for an ``out`` that holds files and no earlier report.
    """
    paths = [Path(folder) for folder in folders]
    root = usable(Path(out)) if out is not None else _usual(paths)
    report = collect(paths)  # before a folder is made: paths may hold no records
    output = Output(root)
    for name, content in formats.files(report):
        output.write(name, content)
    output.remove_others()
    return root / PAGE, report


def _usual(folders: list[Path]) -> Path:
    """Where a report goes if nobody says."""
    if len(folders) == 1:
        return folders[0] / "report"
    name = "-vs-".join(label.replace("/", "-") for label in labels(folders))
    return Path("results") / name / "report"
