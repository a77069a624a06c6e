"""A flow from noise to data in a few steps: densities and samples, from records alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from benchmarks.core.exhibit import Figure
from benchmarks.core.store import arrays
from benchmarks.evaluation import paths
from benchmarks.plotting import panels

FLOWS = 6  # of a figure
STEPS, GAP = 8, 0.05  # abreast, and between them, of their side
NOTE = (
    "From noise, at the left, to data, at the right: above the density at that point, below 800 "
    "samples on their way. A continuous flow is shown at equally spaced times, on the same axes; "
    "any other after so many of its layers, on axes of each panel's own, since layers scale. A "
    "flow's densities are on one scale: times their mean over a panel. Six flows at most: those of "
    "the slide, then the best of the others; the first seed. A flow of one layer has nothing in "
    "between and is left out."
)


def figures(flat: pd.DataFrame) -> list[Figure]:
    """One for each data set, of flows that have something between noise and data."""
    made = []
    for name, group in flat.groupby("dataset", sort=False):
        rows = panels.ordered(group)
        rows = rows[[len(arrays(row)["path_samples"]) > 2 for _, row in rows.iterrows()]]
        rows = rows.iloc[:FLOWS]
        if len(rows):
            title, keys = f"{name}: from noise to data", tuple(rows["key"])
            made.append(Figure(f"steps-{name}", title, NOTE, partial(_draw, rows), keys))
    return made


def _draw(rows: pd.DataFrame) -> Any:
    """A pair of rows for each flow, each one panel with all steps: many panels are slow."""
    gaps, across = [0.25, panels.NEXT] * len(rows), STEPS * (1 + GAP) - GAP
    with panels.squares(gaps, 1, 1.1, across) as (figure, axes):
        for (above, below), (_, row) in zip(axes.reshape(-1, 2), rows.iterrows(), strict=True):
            for panel in (above, below):
                panel.set(xlim=(0, across), ylim=(0, 1))
                panel.spines[:].set_visible(False)
            panels.scale(figure, _way(above, below, arrays(row)), above)
            panels.label(figure, above, below, str(row["series"]))
    return figure


def _way(above: Any, below: Any, held: dict[str, np.ndarray]) -> Any:
    """The steps of one flow, the first at the left and the last at the right, in unit squares."""
    extents, samples = held["path_extents"].reshape(-1, 2, 2), held["path_samples"].astype(float)
    lengths = np.diff(extents, axis=2)[:, :, 0]
    densities = paths.densities(held) * lengths.prod(1)[:, None, None]
    top = float(np.median(np.quantile(densities, 0.999, axis=(1, 2))))
    for step, x in enumerate(np.linspace(0, (STEPS - 1) * (1 + GAP), len(densities))):
        shown = panels.density(above, densities[step], (x, x + 1, 0, 1), top)
        above.text(x + 0.5, 1.04, _told(held, step), ha="center", fontsize=8)
        inside = (samples[step] - extents[step, :, 0]) / lengths[step]
        inside = inside[((inside > 0) & (inside < 1)).all(1)]
        panels.cloud(below, inside + np.array([x, 0]))
        below.add_patch(Rectangle((x, 0), 1, 1, fill=False, ec="#bbbbbb", clip_on=False))
    return shown


def _told(held: dict[str, np.ndarray], step: int) -> str:
    """Where a step is: noise, data, or how far between them."""
    if "path_times" in held:
        time = held["path_times"][step]
        return {0.0: "noise", 1.0: "data"}.get(float(time), f"t = {time:.2f}")
    layers = held["path_layers"]
    return {0: "noise", layers[-1]: "data"}.get(layers[step], f"{layers[step]} of {layers[-1]}")
