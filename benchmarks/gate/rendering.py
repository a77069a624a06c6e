"""A verdict as rows of text, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from benchmarks.gate.comparison import LEVEL, Comparison, Verdict
from benchmarks.report.cells import NOTHING, number
from benchmarks.report.markdown import escape

HEADERS = ("Case", "Metric", "Base", "New", "Change", "Verdict")
ROWS = 200  # of a table in Markdown: a comment holds 65,536 characters
MARKS = {"better": "🟢", "appeared": "🔵"}


def row(found: Comparison) -> tuple[str, ...]:
    """The cells of a comparison, under `HEADERS`."""
    verdict = f"{found.outcome}: {found.note}" if found.note else found.outcome
    values = [_value(found, value) for value in (found.base, found.new)]
    return (found.case, found.metric, *values, found.change, verdict)


def markdown(verdict: Verdict) -> str:
    """For a comment on a pull request or the summary of a job."""
    *classes, result = verdict.summary
    blocks = [
        f"### Gate: {escape(result)}",
        f"{escape(verdict.new)} against {escape(verdict.base)}",
        "\n".join(f"- {escape(line)}" for line in classes),
    ]
    if verdict.told:
        blocks.append(_table(verdict.told))
    if verdict.unresolved:
        summary = f"{len(verdict.unresolved)} qualities moved by less than their error resolves"
        table = _table(verdict.unresolved)
        blocks.append(f"<details><summary>{summary}</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(blocks) + "\n"


def as_json(verdict: Verdict) -> str:
    """Everything that was compared, what stayed too."""
    content = {
        "base": verdict.base,
        "new": verdict.new,
        "fails": bool(verdict.failures),
        "level": LEVEL,
        "factor": verdict.factor,
        "summary": verdict.summary,
        "comparisons": [_finite(dataclasses.asdict(found)) for found in verdict.comparisons],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """With null for numbers that JSON cannot hold."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _value(found: Comparison, value: float | None) -> str:
    if value is None:
        return "" if found.kind == "case" else NOTHING
    if found.kind == "exact":
        return f"{value:,.0f} {found.unit}".strip()
    return f"{number(value, '.5g')} {found.unit}".strip()


def _table(comparisons: Sequence[Comparison]) -> str:
    lines: list[tuple[str, ...]] = [HEADERS, ("---", "---", "---:", "---:", "---:", "---")]
    for found in comparisons[:ROWS]:
        *cells, said = map(escape, row(found))
        mark = "🔴" if found.fails else MARKS.get(found.outcome, "⚪")
        lines.append((*cells, f"{mark} {said}"))
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    more = len(comparisons) - ROWS
    return f"{table}\n\nand {more} more" if more > 0 else table
