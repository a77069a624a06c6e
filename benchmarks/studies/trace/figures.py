"""Figures of the trace study: cost beside the determinant, and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.core.metrics import METRICS
from benchmarks.plotting import draw
from benchmarks.studies.trace.tables import evaluations

SECONDS = "evaluation_seconds"
LABELS = {
    "dim": "D",
    "probes": "Probes",
    SECONDS: draw.axis_label(SECONDS, row=True),
    "error": draw.axis_label("trace_error"),
}
COSTS = (
    "Medians of one evaluation per row, estimates by the fewest probes. Dotted: slopes D, D² and "
    "D³. Kept: a later evaluation of a solve, which reuses products of weights. Of two modes the "
    "backward one is shown."
)
ERRORS = (
    "At the largest D, over the norm of the float64 Jacobian: of estimates the root mean square "
    "over rows and draws, of exact traces the largest in a batch; of two modes the backward one."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Seconds against D; errors against probes and seconds."""
    done = frame[frame["status"] == "done"]
    if done.reindex(columns=[SECONDS]).isna().all(axis=None):  # counts alone
        return []
    rows = evaluations(done)
    rows = rows[~rows["work"].str.contains("jacobian|of_formed") & (rows["mode"] != "forward")]
    rows = rows.assign(series=rows["name"] + (", " + rows["noise"]).fillna(""))
    costs = rows[~rows["estimate"] | rows["fewest"]]
    largest = rows["dim"] == rows.groupby("field")["dim"].transform("max")
    errors, columns = rows[largest & (rows["error"] > 0)], [("probes", "error"), (SECONDS, "error")]
    return [
        Figure.of(
            "trace-cost", "Trace and determinant", COSTS, _picture, costs, [("dim", SECONDS)]
        ),
        Figure.of("trace-error", "Errors of traces", ERRORS, _picture, errors, columns),
    ]


def _picture(rows: pd.DataFrame, columns: Sequence[tuple[str, str]]) -> Any:
    """A row of panels for each field, a panel for each pair of x and y."""
    looks, fields = draw.looks(rows["series"]), list(rows.groupby("field", sort=False))
    with draw.figure(len(fields), len(columns), 4.2) as (figure, axes):
        for line, (field, group) in zip(axes, fields, strict=True):
            for panel, (x, y) in zip(line, columns, strict=True):
                points = group.dropna(subset=[x, y])
                points = points.assign(**{SECONDS: points[SECONDS] * METRICS[SECONDS].scale})
                draw.lines(panel, points, x, y, looks)
                marks = () if x == SECONDS else points[x]
                draw.finish(panel, marks=marks, xlabel=LABELS[x], ylabel=LABELS[y], title=field)
                if x == "dim" and points[x].max() > 12:
                    draw.guide(panel, [7, 12], points[y].max(), [1, 2, 3])
        draw.legend_of(figure, axes.flat)
    return figure
