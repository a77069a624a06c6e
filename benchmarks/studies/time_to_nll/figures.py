"""Figure of the time to a likelihood: the best NLL so far against seconds and updates."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.levels import Curve
from benchmarks.core.exhibit import Figure
from benchmarks.core.frame import arrays_by_case, holding
from benchmarks.core.naming import series
from benchmarks.plotting import draw
from benchmarks.studies.time_to_nll.tables import levels_of, with_curves

AXES = {"validation_seconds": "seconds of training", "validated": "updates"}
LOOK = {"markersize": 3.5, "lw": 1.2, "markevery": 0.15}
NOTE = (
    "The lowest negative log-likelihood of the validation rows so far, by the exact trace and an "
    "adaptive solver, one line per seed; seconds are of training, without validation. Dotted: "
    "the fitted Gaussian (0%), and shares of the way from it to the best."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """The best NLL so far against seconds, if they were measured, and updates; a row a data set."""
    done = with_curves(frame)
    if done.empty:
        return []
    title = "Validation NLL against seconds and updates"
    return [Figure("time-to-nll", title, NOTE, partial(_draw, done), tuple(done["key"]))]


def _draw(done: pd.DataFrame) -> Any:
    groups = [(n, g.assign(series=series(g))) for n, g in done.groupby("dataset", sort=False)]
    looks = draw.looks(name for _, group in groups for name in group["series"])
    timed = len(holding(done, "validation_seconds")) == len(done)
    axes_of = AXES if timed else {"validated": AXES["validated"]}
    with draw.figure(len(groups), len(axes_of), height=3.2) as (figure, axes):
        for panels, (name, group) in zip(axes, groups, strict=True):
            curves: dict[str, Curve] = dict(zip(group["key"], arrays_by_case(group), strict=True))
            for flow, seeds in group.groupby("series", sort=False):
                for label, key in zip(
                    [str(flow)] + [None] * len(seeds), seeds["key"], strict=False
                ):
                    _lines(panels, axes_of, curves[key], label, looks[str(flow)])
            marks = {0.0: float(group["gaussian_ll"].median()), **levels_of(group, curves).shares}
            common = levels_of(group, curves).common
            for panel, header in zip(panels, axes_of.values(), strict=True):
                _frame(panel, marks, common)
                panel.set(title=str(name), xlabel=header, ylabel="validation NLL (nats)")
        named = {h.get_label(): h for row in axes for h in row[0].get_legend_handles_labels()[0]}
        draw.legend_below(figure, list(named.values()), list(named))
    return figure


def _lines(
    panels: Any, axes: Iterable[str], curve: Curve, label: str | None, look: dict[str, Any]
) -> None:
    """Draw the best so far of one training, from its first validation after an update."""
    best = -np.maximum.accumulate(curve["validation_ll"])
    finite = np.isfinite(best) & (curve["validated"] > 0)
    for panel, axis in zip(panels, axes, strict=True):
        panel.plot(curve[axis][finite], best[finite], label=label, **look, **LOOK)


def _frame(panel: Any, marks: dict[float, float], common: float) -> None:
    """Limit axes to the way from the Gaussian to the best, and mark its levels by share."""
    draw.logarithmic(panel.xaxis)
    high = max(-level for level in (*marks.values(), common))
    low = min(float(np.min(line.get_ydata())) for line in panel.lines)
    panel.set_ylim(low - 0.05 * (high - low), high + 0.3 * (high - low))
    panel.grid(False)
    last = np.inf
    for share, level in marks.items():
        if last + level < 0.06 * (high - low):  # no room for its name
            continue
        last = -level
        panel.axhline(-level, ls=":", lw=0.8, color="#888888")
        place = {"xycoords": ("axes fraction", "data"), "fontsize": 7}
        panel.annotate(f"{share:.0%}", (1, -level), **place)
