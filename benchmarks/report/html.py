"""The report as one HTML page that needs nothing beside it: style, script and figures inline."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.report import latex
from benchmarks.report.cells import Cell, sentence
from benchmarks.report.content import Figure, Report, Table


def render(report: Report) -> str:
    """The whole report as the text of one HTML file."""
    suite = json.dumps(report.plan.suite, indent=2, ensure_ascii=False) if report.plan.suite else ""
    return _environment().get_template("index.html.jinja").render(report=report, suite=suite)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {
        "svg": _svg,
        "raw": _raw,
        "csv": _csv,
        "tex": _tex,
        "sentence": sentence,
        "kind": _kind,
    }
    environment.filters.update(filters)
    return environment


def _kind(item: Figure | Table) -> str:
    """What it is called, which its anchor begins with too."""
    return "Figure" if isinstance(item, Figure) else "Table"


def _svg(figure: Figure) -> Markup:
    return Markup(figure.picture.inline)


def _raw(cell: Cell) -> str | None:
    """The number that a script sorts by; None for a cell that has none."""
    if cell.value is None or math.isnan(cell.value):
        return None
    return repr(cell.value).replace("inf", "Infinity")


def _csv(table: Table) -> str:
    return _data("text/csv", table.csv)


def _tex(table: Table) -> str:
    return _data("application/x-tex", latex.render(table))


def _data(kind: str, content: str) -> str:
    """A link that holds the file itself, so that the page can be sent alone."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(content.encode()).decode()}"
