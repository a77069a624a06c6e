"""Figures of the trace study: cost beside the determinant, and errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
    "At the largest D, relative to the norm of the Jacobian in float64: of estimates the root mean "
    "square over rows and draws, of exact traces the largest in a batch. Of two modes the backward "
    "one is shown."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Seconds against D; errors against probes and seconds."""
    done = frame[frame["status"] == "done"]
    if done.empty or SECONDS not in done or done[SECONDS].isna().all():  # counts alone
        return []
    rows, keys = evaluations(done), tuple(done["key"])
    rows = rows[~rows["work"].str.contains("jacobian|of_formed") & (rows["mode"] != "forward")]
    rows = rows.assign(series=rows["name"] + (", " + rows["noise"]).fillna(""))
    costs = partial(_picture, rows[~rows["estimate"] | rows["fewest"]], [("dim", SECONDS)])
    largest = rows["dim"] == rows.groupby("field")["dim"].transform("max")
    columns = [("probes", "error"), (SECONDS, "error")]
    errors = partial(_picture, rows[largest & (rows["error"] > 0)], columns)
    return [
        Figure("trace-cost", "Trace and determinant", COSTS, costs, keys),
        Figure("trace-error", "Errors of traces", ERRORS, errors, keys),
    ]


def _picture(rows: pd.DataFrame, columns: Sequence[tuple[str, str]]) -> Any:
    """A row of panels for each field, a panel for each pair of x and y."""
    looks, fields = draw.looks(rows["series"]), list(rows.groupby("field", sort=False))
    with draw.figure(len(fields), len(columns), 4.2) as (figure, axes):
        for line, (field, group) in zip(axes, fields, strict=True):
            for panel, (x, y) in zip(line, columns, strict=True):
                points = group.dropna(subset=[x, y])
                points = points.assign(**{SECONDS: points[SECONDS] * METRICS[SECONDS].scale})
                for name, of_series in points.sort_values(x).groupby("series"):
                    panel.plot(of_series[x], of_series[y], label=name, **looks[name])
                marks = () if x == SECONDS else points[x]
                draw.finish(panel, marks=marks, xlabel=LABELS[x], ylabel=LABELS[y], title=field)
                if x == "dim" and points[x].max() > 12:
                    draw.guide(panel, [7, 12], points[y].max(), [1, 2, 3])
        draw.legend_of(figure, axes.flat)
    return figure
