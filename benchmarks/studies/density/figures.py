"""Figures of densities: densities and samples beside data, the way there, and the training."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter1d

from benchmarks.analysis import improvement
from benchmarks.core.exhibit import Figure
from benchmarks.core.frame import holding
from benchmarks.core.naming import series
from benchmarks.core.store import arrays
from benchmarks.plotting import draw
from benchmarks.studies.density import corners, portraits, transport

SETS = 4  # data sets of a figure of training
NOTE = (
    "Left and middle: validation log-likelihood, by the exact trace and an adaptive solver, "
    "against updates and against seconds of training (without validation). A mark shows the "
    "weights that were kept, a bar the end of a training that stopped early; a curve that still "
    "rises at its end was cut off by its budget. The steep first fifth of a curve may lie below "
    "the panel. Right: the training loss (faint: raw), which for some flows is not a likelihood. "
    "One line per seed."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Every figure of the study."""
    done = frame[(frame["status"] == "done") & frame["arrays"].notna()]
    done = improvement.marked(done)
    trained = done[done["updates"] > 0]
    flat = holding(trained[trained["dim"] == 2], "path_samples")
    wide = holding(done, "columns")
    plane = [*portraits.figures(flat), *transport.figures(flat)]
    return [*plane, *corners.figures(wide), *training(trained)]


def training(done: pd.DataFrame) -> list[Figure]:
    """Validation against updates and seconds, and the loss, a row of panels a data set."""
    groups = [
        (str(name), group.assign(series=series(group)))
        for name, group in done.groupby("dataset", sort=False)
    ]
    parts = [groups[start : start + SETS] for start in range(0, len(groups), SETS)]
    return [
        Figure(
            f"validation-{number}" if number > 1 else "validation",
            "Training",
            NOTE + improvement.note(pd.concat(group for _, group in part)),
            partial(_draw, part),
            tuple(key for _, group in part for key in group["key"]),
        )
        for number, part in enumerate(parts, start=1)
    ]


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
    """Draw one training into its three panels."""
    score = np.where(np.isfinite(held["validation_ll"]), held["validation_ll"], np.nan)
    keep = (row.get("setting.training") or {}).get("keep", "best")
    best = len(score) - 1 if keep == "last" else int(np.argmax(held["validation_ll"]))
    early = row.get("train_updates", row["updates"]) < row["updates"]
    unknown = np.full(len(score), np.nan)  # seconds that are still to be measured
    seconds = held.get("validation_seconds", unknown)
    for panel, x in ((line[0], held["validated"]), (line[1], seconds)):
        panel.plot(x, score, color=look["color"], lw=width)
        panel.plot(x[best], score[best], ls="", **look)
        if early:
            panel.plot(x[-1], score[-1], color=look["color"], marker="|", ms=9, mew=1.5)
        if mark := row.get(improvement.MARKS):
            above = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            panel.annotate(mark, (x[-1], score[-1]), color=look["color"], **above)
    losses = held["losses"].astype(float)
    updates = np.arange(1, len(losses) + 1)
    finite = np.isfinite(losses)
    smooth = gaussian_filter1d(losses[finite], max(1.0, len(losses) / 60))
    line[2].plot(updates, losses, color=look["color"], lw=0.5, alpha=0.2, rasterized=True)
    line[2].plot(updates[finite], smooth, color=look["color"], lw=width)


def _limits(panels: Any) -> None:
    """Leave out the first fifth of each curve, where it is steep, and outliers of the losses."""
    for panel in panels[:2]:
        values = (line.get_ydata() for line in panel.lines)
        curves = [y for y in values if len(y) > 1 and np.isfinite(y).any()]
        starts = [float(y[max(1, len(y) // 5)]) for y in curves]
        low = min((y for y in starts if np.isfinite(y)), default=0.0)
        high = max((float(np.nanmax(y)) for y in curves), default=0.0)
        panel.set_ylim(low - 0.05 * (high - low or 1), high + 0.08 * (high - low or 1))
    losses = np.concatenate([np.asarray(c.get_ydata(), dtype=float) for c in panels[2].lines])
    losses = losses[np.isfinite(losses)]
    low, high = np.quantile(losses, [0.001, 0.98]) if len(losses) else (0.0, 1.0)
    panels[2].set_ylim(low, high if high > low else low + max(1.0, abs(low)))
