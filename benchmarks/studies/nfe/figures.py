"""Figures of the nfe study: NFE against updates, tolerance and D; totals of a density against D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import nfe
from benchmarks.analysis.nfe import Total, loosest_first, parts_of
from benchmarks.core.exhibit import Figure
from benchmarks.core.frame import arrays_by_case
from benchmarks.plotting import draw
from benchmarks.studies.nfe.tables import FIT, TOTALS, TOTALS_NOTE, own

TRAINING_NOTE = (
    "Means over the seeds, a row for each flow. Left: evaluations on a fixed batch as training "
    "goes, dashed those of the adjoint. Middle and right: float64, tolerance atol = rtol, dashed "
    "before training; the error is the largest |log p - log p at the tightest tolerance| over the "
    "batch."
)
GROWTH_NOTE = (
    "Forward evaluations on a fixed batch after training: a point for each seed, a line through "
    "their means."
)


def figures(frame: pd.DataFrame) -> Iterator[Figure]:
    """NFE against updates and tolerance, error against tolerance; NFE and totals against D."""
    rows = own(frame)
    done = rows[(rows["status"] == "done") & rows["arrays"].notna()] if len(rows) else rows
    if done.empty:
        return
    yield Figure.of("nfe", "Function evaluations", TRAINING_NOTE, _training, done)
    if families := nfe.families(rows):
        named = [rows.assign(panel="", series=name) for name, rows in families.items()]
        points = pd.concat(named).rename(columns={"nfe_end": "nfe"})
        name, title = "nfe-against-dimension", "Evaluations against the dimension"
        yield Figure.of(name, title, GROWTH_NOTE, _against_dimension, points, 1)
    if fits := nfe.fits(rows):
        data = list(dict.fromkeys(parts_of(fit.name)[1] for fit in fits))
        named = [
            fit.rows.assign(
                panel=f"{family}, tolerance {tolerance}", series=fit.flow, nfe=fit.rows[tolerance]
            )
            for tolerance in loosest_first(t for fit in fits for t in fit.tolerances)
            for family in data
            for fit in fits
            if parts_of(fit.name)[1] == family and tolerance in fit.tolerances
        ]
        note, title = f"{FIT}A point for each seed, a line: means.", "Evaluations at equal fit"
        points = pd.concat(named)
        yield Figure.of("nfe-equal-fit", title, note, _against_dimension, points, len(data))
    solved, direct = nfe.totals(frame)
    if solved and direct:
        note = f"{TOTALS_NOTE} Solid: flows with an ODE, a faint point for each seed."
        records = pd.concat([total.records for total in (*solved, *direct)])
        yield Figure.of("nfe-totals", TOTALS, note, _totals, records, solved, direct)


def _training(done: pd.DataFrame) -> Any:
    """A row of panels for each flow, a line for each data set."""
    groups = [(str(name), group) for name, group in nfe.named(done).groupby("series")]
    looks = draw.looks(done["dataset"])
    with draw.figure(len(groups), 3, height=3.0) as (figure, axes):
        for row, (name, group) in zip(axes, groups, strict=True):
            for data, repeated in group.sort_values("dim").groupby("dataset", sort=False):
                seeds = arrays_by_case(repeated)
                means = {n: np.mean([a[n] for a in seeds], axis=0) for n in seeds[0]}
                _curves(row, means, str(data), looks[str(data)])
            training, tolerance, error = row
            labels: Any = {"ylabel": "NFE", "ylim": (0, None)}
            draw.finish(training, log="", xlabel="updates", title=name, **labels)
            draw.finish(tolerance, log="x", xlabel="tolerance", **labels)
            label = draw.axis_label("log_prob_error", label="error in log p")
            draw.finish(error, xlabel="tolerance", ylabel=label)
        draw.legend_of(figure, axes[:, 0])
    return figure


def _curves(panels: Any, a: dict[str, np.ndarray], label: str, look: dict[str, Any]) -> None:
    """NFE against updates; NFE and error against tolerance."""
    training, tolerance, error = panels
    training.plot(a["updates"], a["nfe_forward"], label=label, **look)
    if a["nfe_backward"].any():
        training.plot(a["updates"], a["nfe_backward"], ls="--", **look)
    for curve, style in ((0, "--"), (-1, "-")):
        tolerance.plot(a["tolerances"], a["nfe"][curve], ls=style, **look)
        positive = a["error"][curve] > 0
        error.plot(a["tolerances"][positive], a["error"][curve][positive], ls=style, **look)


def _against_dimension(points: pd.DataFrame, columns: int) -> Any:
    """NFE against D, a panel for each title: every seed a point, a line through the means."""
    looks, panels = draw.looks(points["series"]), list(points.groupby("panel", sort=False))
    with draw.figure(len(panels) // columns, columns, 2.6) as (figure, axes):
        for panel, (title, rows) in zip(axes.flat, panels, strict=True):
            draw.means(panel, rows, "nfe", looks)
            labels: Any = {"xlabel": "D", "ylabel": "NFE", "ylim": (0, None), "title": title}
            draw.finish(panel, log="x", marks=rows["dim"], **labels)
        draw.legend_of(figure, axes.flat)
    return figure


def _totals(records: pd.DataFrame, solved: Sequence[Total], direct: Sequence[Total]) -> Any:
    """Total FLOPs per row against D."""
    looks = draw.looks(total.name for total in (*solved, *direct))
    with draw.figure(1, 1, 4.2) as (figure, axes):
        panel = axes[0, 0]
        for total in solved:
            points = {**looks[total.name], "ls": "", "alpha": 0.4}
            panel.plot(total.records["dim"], total.records["solve_flops"], **points)
        for kind, style in ((solved, {}), (direct, {"ls": "--", "lw": 1.2})):
            for total in kind:
                look = {**looks[total.name], **style, "label": total.name}
                panel.plot(total.costs.index, total.costs["flops"], **look)
        label = draw.axis_label("solve_flops", row=True)
        draw.finish(panel, marks=nfe.dims(solved), xlabel="D", ylabel=label)
        draw.legend_of(figure, [panel])
    return figure
