"""The report as one HTML page that needs nothing beside it: style, script and figures inline."""

import base64
import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.report.cells import Cell, csv, sentence
from benchmarks.report.content import Report, Table
from benchmarks.report.latex import latex

FILTERED = 13  # rows from which on a table has a field that filters them


def render(report: Report) -> str:
    suite = json.dumps(report.plan.suite, indent=2, ensure_ascii=False) if report.plan.suite else ""
    jinja = environment()
    jinja.filters.update(raw=_raw, files=_files, sentence=sentence)
    facts = report.header | report.provenance  # each once, those of the head first
    page = jinja.get_template("index.html.jinja")
    return page.render(report=report, suite=suite, facts=facts, filtered=FILTERED)


def environment() -> Environment:
    """The templates of pages, which escape what they are given."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _raw(cell: Cell) -> str | None:
    """The number that a script sorts by; None for a cell that has none."""
    return None if cell.value is None else repr(cell.value).replace("inf", "Infinity")


def _files(table: Table) -> list[tuple[str, str, str]]:
    """Title, name and content of a table's files, so that the page can be sent alone."""
    files = []
    for title, ending, media, text in (
        ("CSV", "csv", "text/csv", csv(table.raw)),
        ("LaTeX", "tex", "application/x-tex", latex(table)),
    ):
        content = base64.b64encode(text.encode()).decode()
        address = f"data:{media};charset=utf-8;base64,{content}"
        files.append((title, f"{table.name}.{ending}", address))
    return files
