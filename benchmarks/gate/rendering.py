"""A verdict as rows of text, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from benchmarks.core.formats import NOTHING, markdown_details, markdown_table, number
from benchmarks.core.formats import markdown as escape
from benchmarks.core.metrics import METRICS
from benchmarks.gate.comparison import LEVEL, Comparison, MetricChange, Verdict

HEADERS = ("Case", "Metric", "Base", "New", "Change", "Verdict")
CHANGES = ("Metric", "Change", "Cases", "Equal", "Median", "Smallest", "Largest", "Per workload")
ROWS = 200  # of a table in Markdown: a comment holds 65,536 characters
MARKS = {"better": "🟢", "appeared": "🔵"}


def row(comparison: Comparison) -> tuple[str, ...]:
    """The cells of a comparison, under `HEADERS`."""
    outcome, note = comparison.outcome, comparison.note
    values = [_value(comparison, value) for value in (comparison.base, comparison.new)]
    verdict = f"{outcome}: {note}" if note else outcome
    return (comparison.case, comparison.metric, *values, comparison.change, verdict)


def change_row(change: MetricChange) -> tuple[str, ...]:
    """The cells of a metric's change over all cases, under `CHANGES`."""
    digits = ".9g" if METRICS[change.metric].kind == "exact" else ".4g"  # to show one in a million
    moves = [number(move, digits) for move in (change.median, change.smallest, change.largest)]
    kind = "new − base" if change.difference else "new ÷ base"
    workload = "" if change.per_workload is None else number(change.per_workload, ".4g")
    return (change.metric, kind, str(change.cases), str(change.equal), *moves, workload)


def markdown(verdict: Verdict) -> str:
    """Write for a comment on a pull request or the summary of a job."""
    *classes, result = verdict.summary
    blocks = [
        f"### Gate: {escape(result)}",
        f"{escape(verdict.new)} against {escape(verdict.base)}",
        "\n".join(f"- {escape(line)}" for line in classes),
    ]
    if verdict.notable:
        blocks.append(_comparisons(verdict.notable))
    if verdict.unresolved:
        summary = f"{len(verdict.unresolved)} qualities moved by less than their error resolves"
        blocks.append(markdown_details(summary, _comparisons(verdict.unresolved)))
    if verdict.moved:
        rows = [tuple(map(escape, change_row(change))) for change in verdict.moved]
        table = markdown_table(CHANGES, rows, range(2, len(CHANGES)))
        blocks.append(markdown_details(f"{len(rows)} metrics changed", table))
    return "\n\n".join(blocks) + "\n"


def as_json(verdict: Verdict) -> str:
    """Write everything that was compared, what stayed too."""
    content = {
        "base": verdict.base,
        "new": verdict.new,
        "fails": bool(verdict.failures),
        "judged": verdict.judged,
        "level": LEVEL,
        "factor": verdict.factor,
        "summary": verdict.summary,
        "comparisons": [_finite(dataclasses.asdict(c)) for c in verdict.comparisons],
        "changes": [_finite(dataclasses.asdict(change)) for change in verdict.changes],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """With null for numbers that JSON cannot hold."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _value(comparison: Comparison, value: float | None) -> str:
    if value is None:
        return "" if comparison.kind == "case" else NOTHING
    digits = ",.0f" if comparison.kind == "exact" else ".5g"
    return f"{number(value, digits)} {comparison.unit}".strip()


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for comparison in comparisons[:ROWS]:
        *cells, verdict = map(escape, row(comparison))
        mark = "🔴" if comparison.fails else MARKS.get(comparison.outcome, "⚪")
        rows.append((*cells, f"{mark} {verdict}"))
    table = markdown_table(HEADERS, rows, range(2, len(HEADERS) - 1))
    more = len(comparisons) - ROWS
    return f"{table}\n\nand {more} more" if more > 0 else table
