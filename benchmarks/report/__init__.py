"""The report of results folders: tables, figures, HTML and exports, from records alone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import html, latex, markdown, match, summary, together
from benchmarks.report.collect import collect
from benchmarks.report.files import Output, usable


def write(*folders: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a results folder, or of several side by side; the path of index.html.

    It goes into the folder ``out``: by default ``report/`` in the one results folder, and of
    several ``results/A-vs-B/report``. The same records give the same bytes. What a study cannot
    make appears as a note in the report, and as a warning. ValueError for a folder without records
    and for an ``out`` that holds files and no earlier report.
    """
    paths = [Path(folder) for folder in folders]
    root = usable(Path(out)) if out is not None else _usual(paths)
    report = collect(paths[0]) if len(paths) == 1 else together.collect(paths)
    output = Output(root)
    for table in report.tables:
        output.write(f"tables/{table.name}.csv", table.csv)
        output.write(f"tables/{table.name}.tex", latex.render(table))
    for figure in report.figures:
        output.write(f"figures/{figure.name}.svg", figure.picture.svg)
        output.write(f"figures/{figure.name}.png", figure.picture.png)
    output.write("report.md", markdown.render(report))
    output.write("summary.md", summary.render(report))
    index = output.write("index.html", html.render(report))
    output.remove_others()
    return index


def _usual(folders: list[Path]) -> Path:
    """Where a report goes if nobody says."""
    if len(folders) == 1:
        return folders[0] / "report"
    name = "-vs-".join(label.replace("/", "-") for label in match.labels(folders))
    return Path("results") / name / "report"
