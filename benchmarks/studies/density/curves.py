"""Training, shown: validation against updates and seconds, and the loss, from records alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter1d

from benchmarks.core.exhibit import Figure
from benchmarks.core.series import series
from benchmarks.core.store import arrays
from benchmarks.plotting import draw

SETS = 4  # of a figure
NOTE = (
    "Left and middle: log-likelihood of the validation rows, by exact trace and an adaptive "
    "solver, against updates and against seconds of training, validation apart. A mark is at the "
    "weights that were kept, a bar at the end of a training that stopped before its last update; a "
    "curve that still rises at its end was cut off by its budget. The steep first fifth of a curve "
    "may lie below the panel. Right: the training loss (faint: raw), which of some flows is no "
    "likelihood. One line a seed."
)


def figures(done: pd.DataFrame) -> list[Figure]:
    """A row of three panels a data set; a few figures where they are many."""
    groups = [
        (str(name), group.assign(series=series(group)))
        for name, group in done.groupby("dataset", sort=False)
    ]
    made = []
    for start in range(0, len(groups), SETS):
        chosen = groups[start : start + SETS]
        keys = tuple(key for _, group in chosen for key in group["key"])
        name = f"validation-{start // SETS + 1}" if start else "validation"
        made.append(Figure(name, "Training", NOTE, partial(_draw, chosen), keys))
    return made


def _draw(groups: list[tuple[str, pd.DataFrame]]) -> Any:
    looks = draw.looks(name for _, group in groups for name in group["series"])
    with draw.figure(len(groups), 3, height=2.7) as (figure, axes):
        for line, (name, group) in zip(axes, groups, strict=True):
            for series, seeds in group.groupby("series", sort=False):
                look = dict(looks[str(series)])
                width = 1.4 if len(seeds) == 1 else 0.8
                for _, row in seeds.iterrows():
                    _training(line, row, arrays(row), look, width)
            _limits(line)
            line[0].set(xlabel="updates", ylabel="validation LL (nats)")
            line[1].set(xlabel="seconds of training", ylabel="validation LL (nats)")
            line[2].set(xlabel="updates", ylabel="training loss")
            for panel in line:
                panel.set_title(name)
        handles = [Line2D([], [], **look) for look in looks.values()]
        draw.legend_below(figure, handles, list(looks))
    return figure


def _training(
    line: Any, row: Any, held: dict[str, np.ndarray], look: dict[str, Any], width: float
) -> None:
    """One training into its three panels."""
    score = np.where(np.isfinite(held["validation_ll"]), held["validation_ll"], np.nan)
    keep = (row.get("setting.training") or {}).get("keep", "best")
    kept = len(score) - 1 if keep == "last" else int(np.argmax(held["validation_ll"]))
    early = row.get("train_updates", row["updates"]) < row["updates"]
    for panel, x in ((line[0], held["validated"]), (line[1], held["validation_seconds"])):
        panel.plot(x, score, color=look["color"], lw=width)
        panel.plot(x[kept], score[kept], ls="", **look)
        if early:
            panel.plot(x[-1], score[-1], color=look["color"], marker="|", ms=9, mew=1.5)
    losses = held["losses"].astype(float)
    updates = np.arange(1, len(losses) + 1)
    finite = np.isfinite(losses)
    smooth = gaussian_filter1d(losses[finite], max(1.0, len(losses) / 60))
    line[2].plot(updates, losses, color=look["color"], lw=0.5, alpha=0.2, rasterized=True)
    line[2].plot(updates[finite], smooth, color=look["color"], lw=width)


def _limits(panels: Any) -> None:
    """Leave out the first fifth of each curve, where it is steep, and outliers of the losses."""
    for panel in panels[:2]:
        drawn = (line.get_ydata() for line in panel.lines)
        curves = [y for y in drawn if len(y) > 1 and np.isfinite(y).any()]
        starts = [float(y[max(1, len(y) // 5)]) for y in curves]
        low = min((y for y in starts if np.isfinite(y)), default=0.0)
        high = max((float(np.nanmax(y)) for y in curves), default=0.0)
        panel.set_ylim(low - 0.05 * (high - low or 1), high + 0.08 * (high - low or 1))
    every = np.concatenate([np.asarray(c.get_ydata(), dtype=float) for c in panels[2].lines])
    every = every[np.isfinite(every)]
    low, high = np.quantile(every, [0.001, 0.98]) if len(every) else (0.0, 1.0)
    panels[2].set_ylim(low, high if high > low else low + max(1.0, abs(low)))
