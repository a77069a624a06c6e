"""Figures as files: SVG with real text, and PNG."""

from __future__ import annotations

from benchmarks.report.content import Report
from benchmarks.report.formats import Files, Format, registry


def files(report: Report) -> Files:
    """Both files of each figure."""
    for figure in report.figures:
        yield f"figures/{figure.name}.svg", figure.picture.svg
        yield f"figures/{figure.name}.png", figure.picture.png


registry.add("figures", Format(files), __name__)
