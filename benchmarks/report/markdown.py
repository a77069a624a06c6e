"""The report in GitHub's Markdown, its figures as files beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from benchmarks.report.cells import Cell
from benchmarks.report.content import Figure, Report, Section, Table
from benchmarks.report.facts import Fact


def escape(text: str) -> str:
    """Text with everything that Markdown or HTML would read as markup made harmless."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", text)
    return "<br>".join(text.splitlines())


def render(report: Report) -> str:
    """The whole report as one Markdown document."""
    plan = report.plan
    blocks = [f"# {escape(plan.name)}", escape(plan.about), _facts(report.header)]
    blocks += [_notes(section.notes) for section in report.sections]
    for section in report.sections:
        blocks += _section(section)
    blocks.append("## Not done")
    blocks += _table(report.undone) if report.undone else ["Every case has a result."]
    blocks += ["## Provenance", _facts(report.provenance)]
    if plan.suite:
        suite = json.dumps(plan.suite, indent=2, ensure_ascii=False)
        blocks.append(_details("The suite as read", f"```json\n{suite}\n```"))
    return "\n\n".join(filter(None, blocks)) + "\n"


def _section(section: Section) -> list[str]:
    blocks = [f"## {escape(section.study)}", escape(section.question), _notes(section.notes)]
    for figure in section.figures:
        blocks += _figure(figure)
    for table in section.tables:
        blocks += _table(table)
    return blocks


def _figure(figure: Figure) -> list[str]:
    title = escape(figure.title)
    return [
        f"### Figure {figure.number}. {title}",
        f"![{title}](figures/{figure.name}.png)",
        escape(figure.note),
        _records(figure.records),
    ]


def _table(table: Table) -> list[str]:
    rules = ["---:" if numeric else "---" for numeric in table.grid.numeric]
    rows = [_row(map(escape, table.grid.headers)), _row(rules)]
    rows += [_row(map(_cell, row)) for row in table.grid.rows]
    return [
        f"### Table {table.number}. {escape(table.title)}",
        "\n".join(rows),
        escape(table.note),
        f"[CSV](tables/{table.name}.csv) · [LaTeX](tables/{table.name}.tex)",
        _records(table.records),
    ]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return f"**{escape(cell.text)}**" if cell.best else escape(cell.text)


def _facts(facts: Iterable[Fact]) -> str:
    return "\n".join(f"- **{fact.term}:** {'; '.join(map(escape, fact.lines))}" for fact in facts)


def _notes(notes: Iterable[str]) -> str:
    return "\n>\n".join(f"> **Note:** {escape(note)}" for note in notes)


def _records(keys: tuple[str, ...]) -> str:
    if not keys:
        return ""
    summary = f"{len(keys)} record{'' if len(keys) == 1 else 's'}"
    return _details(summary, " ".join(f"`{key}`" for key in keys))


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"
