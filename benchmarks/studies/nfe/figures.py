"""Figures of the nfe study: NFE against updates, tolerance and D; totals of a density against D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import nfe
from benchmarks.analysis.nfe import Total, loosest_first, parts_of
from benchmarks.core.exhibit import Figure
from benchmarks.core.frame import arrays_by_case
from benchmarks.plotting import draw
from benchmarks.studies.nfe.tables import FIT, TOTALS, TOTALS_NOTE, keys, own

TRAINING_NOTE = (
    "Means over the seeds, a row for each flow. Left: evaluations on a fixed batch as training "
    "goes, dashed those of the adjoint. Middle and right: float64, tolerance atol = rtol; the "
    "error is the largest |log p - log p at the tightest tolerance| over the batch. Dashed: "
    "before training."
)
GROWTH_NOTE = (
    "Forward evaluations on a fixed batch after training: a point for each seed, a line through "
    "their means."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """NFE against updates and tolerance, error against tolerance; NFE and totals against D."""
    rows = own(frame)
    done = rows[(rows["status"] == "done") & rows["arrays"].notna()] if len(rows) else rows
    if done.empty:
        return []
    drawn, used = partial(_training, done), tuple(done["key"])
    figures = [Figure("nfe", "Function evaluations", TRAINING_NOTE, drawn, used)]
    if families := nfe.families(rows):
        panel = {name: group.assign(nfe=group["nfe_end"]) for name, group in families.items()}
        drawn = partial(_against_dimension, {"": panel}, 1)
        used = tuple(key for group in families.values() for key in group["key"])
        title = "Evaluations against the dimension"
        figures.append(Figure("nfe-against-dimension", title, GROWTH_NOTE, drawn, used))
    if fits := nfe.fits(rows):
        panels: dict[str, dict[str, pd.DataFrame]] = {}
        data = list(dict.fromkeys(parts_of(fit.name)[1] for fit in fits))
        for tolerance in loosest_first(t for fit in fits for t in fit.tolerances):
            for family in data:
                panel = panels[f"{family}, tolerance {tolerance}"] = {}
                for fit in (f for f in fits if parts_of(f.name)[1] == family):
                    if tolerance in fit.tolerances:
                        panel[fit.flow] = fit.rows.assign(nfe=fit.rows[tolerance])
        drawn = partial(_against_dimension, panels, len(data))
        used = tuple(key for fit in fits for key in fit.rows["key"])
        title, note = "Evaluations at equal fit", f"{FIT}A point for each seed, a line: means."
        figures.append(Figure("nfe-equal-fit", title, note, drawn, used))
    solved, direct = nfe.totals(frame)
    if solved and direct:
        drawn, used = partial(_totals, solved, direct), keys(solved, direct)
        note = f"{TOTALS_NOTE} Solid: flows with an ODE, a faint point for each seed."
        figures.append(Figure("nfe-totals", TOTALS, note, drawn, used))
    return figures


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
            labels = {"ylabel": "NFE", "ylim": (0, None)}
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


def _against_dimension(panels: Mapping[str, Mapping[str, pd.DataFrame]], columns: int) -> Any:
    """NFE against D, a panel for each title: every seed a point, a line through the means."""
    looks = draw.looks(name for lines in panels.values() for name in lines)
    with draw.figure(len(panels) // columns, columns, 2.6) as (figure, axes):
        for panel, (title, lines) in zip(axes.flat, panels.items(), strict=True):
            for name, rows in lines.items():
                panel.plot(rows["dim"], rows["nfe"], **{**looks[name], "ls": "", "alpha": 0.4})
                means = rows.dropna(subset=["nfe"]).groupby("dim")["nfe"].mean()
                panel.plot(means.index, means, label=name, **looks[name])
            marks = pd.concat([rows["dim"] for rows in lines.values()])
            labels = {"xlabel": "D", "ylabel": "NFE", "ylim": (0, None), "title": title}
            draw.finish(panel, log="x", marks=marks, **labels)
        draw.legend_of(figure, axes.flat)
    return figure


def _totals(solved: Sequence[Total], direct: Sequence[Total]) -> Any:
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
