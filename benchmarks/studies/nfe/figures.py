"""Figures of the nfe study: NFE against updates, tolerance and D; totals of a density against D."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import nfe
from benchmarks.analysis.nfe import Fit, Total, by_family, loosest_first
from benchmarks.core.exhibit import Figure
from benchmarks.core.frame import arrays_by_case
from benchmarks.plotting import draw
from benchmarks.studies.nfe.tables import FIT, MEANING, TOTALS, keys, own

TRAINING_NOTE = (
    "Means over the seeds, a row for each flow. Left: evaluations on a fixed batch as training "
    "goes, dashed those of the adjoint. Middle and right: float64, tolerance atol = rtol; the "
    "error is the largest |log p - log p at the tightest tolerance| over the batch. Dashed: "
    "before training."
)
GROWTH_NOTE = (
    "Forward evaluations on a fixed batch after training: a point for each seed, a line "
    "through their means. Dashed: before training."
)
FIT_NOTE = (
    "A row for each tolerance, a column for each family of data; a point for each seed, a line "
    "through their means."
)
TOTALS_NOTE = (
    "Solid: flows with an ODE, a faint point for each seed and a line through their means. Dashed: "
    "flows without one."
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
        title = "Evaluations against the dimension"
        drawn, used = partial(_growth, families), _keys(families.values())
        figures.append(Figure("nfe-against-dimension", title, GROWTH_NOTE, drawn, used))
    if fits := nfe.fits(rows):
        title, note = "Evaluations at equal fit", FIT + FIT_NOTE
        drawn, used = partial(_equal_fit, fits), _keys(fit.rows for fit in fits)
        figures.append(Figure("nfe-equal-fit", title, note, drawn, used))
    solved, direct = nfe.totals(frame)
    if solved and direct:
        drawn, used = partial(_totals, solved, direct), keys(solved, direct)
        figures.append(Figure("nfe-totals", TOTALS, MEANING + TOTALS_NOTE, drawn, used))
    return figures


def _keys(groups: Iterable[pd.DataFrame]) -> tuple[str, ...]:
    return tuple(key for group in groups for key in group["key"])


def _training(done: pd.DataFrame) -> Any:
    """A row of panels for each flow, a line for each data set."""
    groups = [(str(name), group) for name, group in nfe.named(done).groupby("series")]
    looks = draw.looks(done["dataset"])
    with draw.figure(len(groups), 3, height=3.0) as (figure, axes):
        for row, (name, group) in zip(axes, groups, strict=True):
            for data, repeated in group.sort_values("dim").groupby("dataset", sort=False):
                _curves(row, _mean(repeated), str(data), looks[str(data)])
            training, tolerance, error = row
            training.set(xlabel="updates", ylabel="NFE", ylim=(0, None), title=name)
            draw.logarithmic(tolerance.xaxis, error.xaxis, error.yaxis)
            tolerance.set(xlabel="tolerance", ylabel="NFE", ylim=(0, None))
            label = draw.axis_label("log_prob_error", label="error in log p")
            error.set(xlabel="tolerance", ylabel=label)
        draw.legend_of(figure, axes[:, 0])
    return figure


def _mean(repeated: pd.DataFrame) -> dict[str, np.ndarray]:
    """The arrays of a case, averaged over its seeds."""
    seeds = arrays_by_case(repeated)
    return {name: np.mean([a[name] for a in seeds], axis=0) for name in seeds[0]}


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


def _growth(families: dict[str, pd.DataFrame]) -> Any:
    """NFE after training against D, every seed a point and a line through the means."""
    looks = draw.looks(families)
    with draw.figure(1, 1) as (figure, axes):
        panel = axes[0, 0]
        for name, group in families.items():
            look = looks[name]
            panel.plot(group["dim"], group["nfe_end"], **{"ls": "", "alpha": 0.4, **look})
            for metric, style in (("nfe_start", "--"), ("nfe_end", "-")):
                means = group.groupby("dim")[metric].mean()
                label = name if style == "-" else None
                panel.plot(means.index, means, ls=style, label=label, **look)
        panel.set(xscale="log", xlabel="D", ylabel="NFE", ylim=(0, None))
        draw.ticks(panel.xaxis, [d for group in families.values() for d in group["dim"]])
        draw.legend_of(figure, [panel])
    return figure


def _equal_fit(fits: Sequence[Fit]) -> Any:
    """NFE where each series has closed the share of the gap, against D, a column a family."""
    looks = draw.looks(fit.flow for fit in fits)
    tolerances = loosest_first(t for fit in fits for t in fit.tolerances)
    families = by_family(fits)
    with draw.figure(len(tolerances), len(families), 2.6) as (figure, axes):
        for (place, tolerance), (column, (family, of_family)) in itertools.product(
            enumerate(tolerances), enumerate(families.items())
        ):
            panel = axes[place, column]
            for fit in (fit for fit in of_family if tolerance in fit.tolerances):
                rows, look = fit.rows.dropna(subset=[tolerance]), looks[fit.flow]
                panel.plot(rows["dim"], rows[tolerance], **{**look, "ls": "", "alpha": 0.4})
                means = rows.groupby("dim")[tolerance].mean()
                panel.plot(means.index, means, label=fit.flow, **look)
            title = f"{family}, tolerance {tolerance}"
            panel.set(xscale="log", xlabel="D", ylabel="NFE", ylim=(0, None), title=title)
            draw.ticks(panel.xaxis, [d for fit in of_family for d in fit.rows["dim"]])
        draw.legend_of(figure, axes[0])
    return figure


def _totals(solved: Sequence[Total], direct: Sequence[Total]) -> Any:
    """Total FLOPs per row against D."""
    looks = draw.looks(total.name for total in (*solved, *direct))
    with draw.figure(1, 1, 4.2) as (figure, axes):
        panel = axes[0, 0]
        for total in solved:
            points = {**looks[total.name], "ls": "", "alpha": 0.4}
            panel.plot(total.records["dim"], total.records["solve_flops"], **points)
        for kind, own_look in ((solved, {}), (direct, {"ls": "--", "lw": 1.2})):
            for total in kind:
                look = {**looks[total.name], **own_look, "label": total.name}
                panel.plot(total.costs.index, total.costs["flops"], **look)
        draw.logarithmic(panel.xaxis, panel.yaxis)
        draw.ticks(panel.xaxis, nfe.dims(solved))
        panel.set(xlabel="D", ylabel=draw.axis_label("solve_flops", row=True))
        draw.legend_of(figure, [panel])
    return figure
