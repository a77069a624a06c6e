"""Figures of the trace study: cost beside the determinant, and errors."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from benchmarks.core.exhibit import Column, Figure
from benchmarks.core.metrics import METRICS
from benchmarks.plotting import draw
from benchmarks.studies.trace.tables import TRAINING, TRAINING_NOTE, evaluations, parted

WINDOW = 20  # updates of a running mean of losses
SECONDS = "evaluation_seconds"
LABELS = {
    "dim": "D",
    "probes": "Probes",
    SECONDS: Column.of(SECONDS, row=True).header,
    "error": Column.of("trace_error").header,
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


def figures(frame: pd.DataFrame) -> Iterator[Figure]:
    """Seconds against D; errors against probes and seconds; losses of trainings."""
    measured, trained = parted(frame)
    done = measured[measured["status"] == "done"]
    if done.reindex(columns=[SECONDS]).notna().any(axis=None):  # else there are counts alone
        rows = evaluations(done)
        rows = rows[~rows["work"].str.contains("jacobian|of_formed") & (rows["mode"] != "forward")]
        rows = rows.assign(series=rows["name"] + (", " + rows["noise"]).fillna(""))
        costs, axes = rows[~rows["estimate"] | rows["fewest"]], [("dim", SECONDS)]
        yield Figure.of("trace-cost", "Trace and determinant", COSTS, _picture, costs, axes)
        largest = rows["dim"] == rows.groupby("field")["dim"].transform("max")
        errors = rows[largest & (rows["error"] > 0)]
        axes = [("probes", "error"), (SECONDS, "error")]
        yield Figure.of("trace-error", "Errors of traces", ERRORS, _picture, errors, axes)
    if len(trained):
        trained = trained.assign(name=trained["estimator"] + ", " + trained["noise"])
        yield Figure.of("trace-training", TRAINING, TRAINING_NOTE, _losses, trained)


def _losses(rows: pd.DataFrame) -> Any:
    """Running means of losses: a faint line for each seed, one through their means."""
    looks, panels = draw.looks(rows["name"]), list(rows.groupby("dataset"))
    with draw.figure(1, len(panels), 4.2) as (figure, axes):
        for panel, (data, group) in zip(axes.flat, panels, strict=True):
            ends = []
            for name, seeds in group.groupby("name"):
                curves = pd.DataFrame([*seeds["losses"]]).T.rolling(WINDOW).mean()[WINDOW - 1 :]
                look, mean = {**looks[str(name)], "marker": ""}, curves.mean(axis=1)
                panel.plot(curves, **{**look, "lw": 0.6, "alpha": 0.35})
                panel.plot(mean, **look)
                ends.append(draw.End(str(name), mean.iloc[-1], str(name)))
            draw.finish(panel, log="x", xlabel="updates", ylabel="loss (nats)", title=data)
            draw.label_ends(panel, ends, looks, 3.6)
    return figure


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
