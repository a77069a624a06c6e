"""The report of a results folder: tables, figures, HTML and exports, from records alone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import html, latex, markdown, summary
from benchmarks.report.collect import collect
from benchmarks.report.files import Output


def write(folder: str | Path) -> Path:
    """Write the report of a results folder under its ``report/``; the path of index.html.

    The same records give the same bytes. What a study cannot make appears as a note in the
    report, and as a warning; a folder without records is a ValueError.
    """
    report = collect(Path(folder))
    output = Output(Path(folder) / "report")
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
